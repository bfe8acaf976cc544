"""Every step a recipe can name."""

from __future__ import annotations

from typing import Any

from filters.audit import Audit
from filters.dedup.exact import Exact
from filters.dedup.near import Near
from filters.dedup.semantic import Semantic
from filters.rules.cut_off import CutOff
from filters.rules.language import Language
from filters.rules.length import Length
from filters.rules.markup import Markup
from filters.rules.mojibake import Mojibake
from filters.rules.refusal import Refusal
from filters.rules.repetition import Repetition
from filters.selection import LongestK, RandomK
from filters.step import Step

STEPS: dict[str, type[Step[Any]]] = {
    "exact": Exact,
    "minhash": Near,
    "semantic": Semantic,
    "length": Length,
    "refusal": Refusal,
    "cut-off": CutOff,
    "markup": Markup,
    "repetition": Repetition,
    "mojibake": Mojibake,
    "language": Language,
    "audit": Audit,
    "random-k": RandomK,
    "longest-k": LongestK,
}
