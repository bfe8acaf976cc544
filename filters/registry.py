"""Every step a recipe can name: the workbench's own, and those that other packages bring."""

from __future__ import annotations

from typing import Any

from filters.audit import Audit
from filters.decontaminate import Decontaminate
from filters.dedup.conflicts import Conflicts
from filters.dedup.exact import Exact
from filters.dedup.near import Near
from filters.dedup.semantic import Semantic
from filters.diversity import ClusterBalanced, Deita, KCenter
from filters.judge.step import Judge
from filters.likelihood import Likelihood
from filters.own_steps import own_steps
from filters.rules.answer_format import Format
from filters.rules.boilerplate import Boilerplate
from filters.rules.code_fence import CodeFence
from filters.rules.cut_off import CutOff
from filters.rules.echo import Echo
from filters.rules.language import Language
from filters.rules.length import Length
from filters.rules.markup import Markup
from filters.rules.mojibake import Mojibake
from filters.rules.pii import Pii
from filters.rules.readability import Readability
from filters.rules.refusal import Refusal
from filters.rules.repetition import Repetition
from filters.selection import LongestK, RandomK
from filters.step import Step
from filters.top import Top
from trainer.errors import BadInput

STEPS: dict[str, type[Step[Any]]] = {
    "exact": Exact,
    "minhash": Near,
    "semantic": Semantic,
    "conflicts": Conflicts,
    "length": Length,
    "refusal": Refusal,
    "boilerplate": Boilerplate,
    "cut-off": CutOff,
    "code-fence": CodeFence,
    "format": Format,
    "echo": Echo,
    "markup": Markup,
    "repetition": Repetition,
    "mojibake": Mojibake,
    "language": Language,
    "readability": Readability,
    "pii": Pii,
    "audit": Audit,
    "likelihood": Likelihood,
    "judge": Judge,
    "decontaminate": Decontaminate,
    "random-k": RandomK,
    "longest-k": LongestK,
    "top": Top,
    "deita": Deita,
    "k-center": KCenter,
    "cluster-balanced": ClusterBalanced,
}


def find_step(name: str) -> type[Step[Any]] | None:
    """The step of that name; other packages are looked at only where it is not the workbench's own.

    Raises BadInput where the package that offers it is broken, or several offer it.
    """
    if name in STEPS:
        return STEPS[name]
    found, refused = own_steps(STEPS)
    if name in refused:
        raise BadInput(refused[name], do="Uninstall one of them.")
    return found[name].load() if name in found else None


def step_names() -> list[str]:
    """The names that recipes can use. No other package is loaded for it."""
    return [*STEPS, *own_steps(STEPS)[0]]


def refused_steps() -> list[str]:
    """A sentence for each step of another package that has a name which is taken."""
    return list(own_steps(STEPS)[1].values())
