"""Every step a recipe can name."""

from __future__ import annotations

from typing import Any

from filters.audit import Audit
from filters.dedup.conflicts import Conflicts
from filters.decontaminate import Decontaminate
from filters.dedup.exact import Exact
from filters.dedup.near import Near
from filters.dedup.semantic import Semantic
from filters.diversity import ClusterBalanced, Deita, KCenter
from filters.judge.step import Judge
from filters.likelihood import Likelihood
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
