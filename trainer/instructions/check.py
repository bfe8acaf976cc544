"""What a verifiable instruction is: a kind, its parameters, and a program that tells whether an answer follows it.

The kinds and their names are those of IFEval (Zhou et al. 2023, arXiv:2311.07911), so that its prompts, and others
written in its manner, can be used as they are. What a kind means is read from the paper's list of instructions.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Literal

from pydantic import BaseModel, ConfigDict

Relation = Literal["at least", "less than"]


class Check(BaseModel, ABC):
    """One kind of instruction with its parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def follows(self, answer: str) -> bool:
        """Whether an answer does what was asked; an empty one never does."""
        return bool(answer.strip()) and self._follows(answer)

    @abstractmethod
    def _follows(self, answer: str) -> bool: ...


def holds(count: int, relation: Relation, wanted: int) -> bool:
    """Whether a count is as asked: `at least` or `less than` the wanted number."""
    return count >= wanted if relation == "at least" else count < wanted


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores; "don't" is two, as in the paper's own counts."""
    return re.findall(r"\w+", text)


def without_empty_ends(parts: list[str]) -> list[str]:
    """What a divider parts: one before the first part, or after the last, parts nothing."""
    kept = parts if parts[0] else parts[1:]
    return kept[:-1] if kept and not kept[-1] else kept
