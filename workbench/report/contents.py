"""What a report of an experiment says, as plain data: `workbench.experiment_report` gathers it.

HTML and Markdown are written of it.

Texts are as they came, of any content: who writes them makes them safe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.report.failures import Diagnosis


def arm_name(arm: str) -> str:
    """An arm for people; `noise` is the run that only measures how far training alone moves the baseline."""
    return {"base": "base model", "noise": "baseline again"}.get(arm, arm)


@dataclass(frozen=True)
class Origin:
    """A source of an arm's rows: its file's name, licence, SHA-256 (hex), and how many rows are its."""

    source: str
    file: str
    license: str | None
    file_hash: str
    rows: int


@dataclass(frozen=True)
class Stage:
    """One run on the way to a version; `steps` as the JSON of `workbench run` has them, `recipe` None for a freeze."""

    version: str
    inputs: Sequence[str]
    rows_in: int
    rows_out: int
    steps: Sequence[Mapping[str, Any]]
    recipe: str | None


@dataclass(frozen=True)
class Masks:
    """What the model's tokenizer and template make of an arm's rows; `issues` counts rows by kind.

    `verdict` is the audit's one line; `limit` is in tokens. Where the tokenizer could not be had, `missing` says why.
    """

    verdict: str = ""
    rows: int = 0
    tokens: int = 0
    trained: int = 0
    longest: int = 0
    limit: int | None = None
    lost_trained: int = 0
    issues: Mapping[str, int] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True)
class ArmPart:
    """One arm: the version that was trained on, where its rows came from, and what of them is trained."""

    arm: str
    version: str
    rows: int
    manifest_hash: str
    origins: Sequence[Origin]
    stages: Sequence[Stage]
    masks: Masks


@dataclass(frozen=True)
class GonePart:
    """A row that one arm has and the other has not. `survivor` is the row it duplicates, as "source row n"."""

    source: str
    row: int
    reason: str
    detail: str
    survivor: str
    similarity: float | None
    prompt: str


@dataclass(frozen=True)
class LeftPart:
    """The rows of version `of` that `other` has not: how many for which reason, and some of each."""

    of: str
    other: str
    rows: int
    by_reason: Mapping[str, int]
    samples: Sequence[GonePart]


@dataclass(frozen=True)
class RunPart:
    """One training run. `losses` are per optimizer step, in nats per trained token; `checks` its sanity block."""

    arm: str
    seed: int
    losses: Sequence[float]
    trained_tokens: int
    checks: Mapping[str, Any]


@dataclass(frozen=True)
class AnswerPart:
    """An arm's answer, in pieces that say whether the other trained arm's answer lacks them.

    `length` is that of the whole answer in characters; `finish` is `stop` or `length`.
    """

    arm: str
    seed: int
    pieces: Sequence[tuple[str, bool]]
    length: int
    finish: str

    @property
    def shown(self) -> int:
        """Characters that the pieces hold."""
        return sum(len(text) for text, _ in self.pieces)


@dataclass(frozen=True)
class ItemPart:
    """One eval item: its change on the primary metric (None without two arms), and every arm's answer."""

    item: int
    prompt: str
    reference: str
    change: float | None
    answers: Sequence[AnswerPart]


@dataclass(frozen=True)
class ItemsPart:
    """How single items came out on the primary metric: counts, and the items that moved most either way.

    `sample` holds items taken evenly, where there is one arm and so no best and worst.
    """

    total: int
    tally: Mapping[str, int]
    worst: Sequence[ItemPart] = ()
    best: Sequence[ItemPart] = ()
    sample: Sequence[ItemPart] = ()


@dataclass(frozen=True)
class Repeat:
    """All that is needed to make the experiment again.

    `facts` and `settings` are names with values; `environments` what the runs were computed with, by the ids of the
    runs; `commands` shell lines; `notes` what a command cannot say.
    """

    facts: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    environments: Sequence[tuple[str, Mapping[str, str]]]
    commands: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True)
class Contents:
    """A report. `result` is the JSON of `compare`, `margins` the tolerated harm by metric.

    `views` are the result as each of its comparisons (see `workbench.report.pairs`), or as it is where there is none.
    `recipe_diffs` are by the version that is compared with the baseline's; `items` are of the first comparison.
    """

    id: str
    name: str
    date: str
    question: Sequence[str]
    result: Mapping[str, Any]
    views: Sequence[Mapping[str, Any]]
    margins: Mapping[str, float]
    arms: Sequence[ArmPart]
    recipe_diffs: Sequence[tuple[str, Sequence[str]]]
    left: Sequence[LeftPart]
    runs: Sequence[RunPart]
    diagnosis: Diagnosis
    items: ItemsPart
    repeat: Repeat

    @property
    def title(self) -> str:
        """What was asked of what, in a line."""
        names = {arm.arm: arm.version for arm in self.arms}
        candidates = [version for arm, version in names.items() if arm.startswith("candidate")]
        if candidates:
            *others, last = candidates
            return f"{' and '.join([', '.join(others), last] if others else [last])} against {names['baseline']}"
        return f"{names['baseline']}, trained"
