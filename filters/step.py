"""What a curation step is: a class with a name, a version, checked parameters, and one of two ways to work.

A **row step** judges each row alone: its scorers turn rows into scores, `decide` turns scores and parameters into
a drop or nothing. Scores can be cached by content, because parameters that only move a decision (a threshold) are
not part of a scorer's fingerprint. What stays may go on with other messages (`rewrite`): the steps behind see these.

A **set step** sees all rows that are left: deduplicators and selectors.

Steps do no I/O. What they need from outside (embeddings, stored scores, progress) comes in through `Outside`, and a
scorer that needs a model or a service names a job (`JobScorer`) that the caller has done.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from trainer.conversation import Message, Side, canonical_json, content_text, side_text
from trainer.errors import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from filters.engines import Engine

Kind = Literal["filter", "dedup", "selector", "report"]
State = Literal["ok", "error", "unscored"]


@dataclass(frozen=True)
class Row:
    """One example as the steps see it; JSON is parsed when first asked for."""

    id: int
    content_hash: str
    messages_json: str
    tools_json: str | None = None
    source: str = ""
    category: str | None = None

    @cached_property
    def messages(self) -> list[Message]:
        """The conversation, roles and contents."""
        parsed: list[Message] = json.loads(self.messages_json)
        return parsed

    def text(self, side: Side) -> str:
        """The readable text of a side (`trainer.conversation.side_text`)."""
        return side_text(self.messages, side)

    def turns(self, side: Side) -> list[str]:
        """The texts of a side, one per turn: user turns, assistant turns, or all but tool results."""
        roles = {"prompt": {"user"}, "response": {"assistant"}, "both": {"system", "developer", "user", "assistant"}}[
            side
        ]
        return [content_text(m.get("content")) for m in self.messages if m["role"] in roles]

    @property
    def calls_tools(self) -> bool:
        """Whether an assistant turn calls a tool: such turns rightly have little or no text."""
        return any(m.get("tool_calls") for m in self.messages if m["role"] == "assistant")


@dataclass(frozen=True, slots=True)
class Score:
    """What a scorer says of a row. Only `ok` carries a number: an error or a missing score is never one.

    `label` is a short stable word (a language, a kind of flaw); `detail` is for people and never compared.
    """

    value: float | None = None
    label: str | None = None
    state: State = "ok"
    detail: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.state == "ok"):
            raise ValueError(
                f"a score is a number if and only if its state is ok, not {self.value!r} with {self.state!r}"
            )
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a score is a finite number, not {self.value!r}: what cannot be ranked is an error")

    @classmethod
    def measured(cls, value: float, label: str | None = None, detail: str | None = None) -> Score:
        """What a model gave: an error where that is no finite number, since NaN stands in no order."""
        if math.isfinite(value):
            return cls(value, label=label, detail=detail)
        return cls.error(f"the model gave {value!r}, which is no finite number")

    @classmethod
    def unscored(cls, why: str) -> Score:
        """The scorer has nothing to say about this row."""
        return cls(state="unscored", detail=why)

    @classmethod
    def error(cls, why: str) -> Score:
        """The scorer failed on this row."""
        return cls(state="error", detail=why)


@dataclass(frozen=True)
class Scorer:
    """A named function from rows to scores; `params` holds only what the scores depend on."""

    name: str
    version: int
    params: Mapping[str, object]
    score: Callable[[Sequence[Row]], list[Score]]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over name, version and parameters: with the content hash, the key of a cached score."""
        return _fingerprint(self.name, self.version, self.params)


@dataclass(frozen=True)
class JobScorer:
    """A scorer whose scores come from a job in another process: a model must be loaded, or a service asked.

    `plan` is the `plan.json` of that job (`filters.scoring`); `params` holds only what the scores depend on, so that
    a batch size in the plan changes no fingerprint.
    """

    name: str
    version: int
    params: Mapping[str, object]
    plan: BaseModel

    @cached_property
    def fingerprint(self) -> str:
        """As that of `Scorer`."""
        return _fingerprint(self.name, self.version, self.params)


@dataclass(frozen=True)
class DerivedScorer:
    """A score that follows from the scores of a step without a look at the row: kept to sort and pick by."""

    name: str
    version: int
    derive: Callable[[Sequence[Score]], Score]
    """Takes the step's scores of a row, all of them `ok`."""
    reads: int | None = None
    """How many of these it derives from, counted from the first; None for all."""

    def fingerprint(self, scorers: Sequence[Scorer | JobScorer]) -> str:
        """16 hex digits over name, version and those of the step's `scorers` that it derives from."""
        return _fingerprint(self.name, self.version, {"from": [scorer.fingerprint for scorer in scorers[: self.reads]]})


def _fingerprint(name: str, version: int, params: Mapping[str, object]) -> str:
    text = canonical_json([name, version, dict(params)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def each(score_row: Callable[[Row], Score]) -> Callable[[Sequence[Row]], list[Score]]:
    """A batch scorer out of one for a single row. A row that breaks it gets an `error` score; the others go on."""

    def score(rows: Sequence[Row]) -> list[Score]:
        return [one(row) for row in rows]

    def one(row: Row) -> Score:
        try:
            return score_row(row)
        except (Problem, OSError, MemoryError):  # a model that is gone, ctrl-c or a full disk is not the row's fault
            raise
        except Exception as error:  # one strange row must not stop a run over a million
            return Score.error(f"{type(error).__name__}: {error}")

    return score


@dataclass(frozen=True, slots=True)
class Drop:
    """One row leaves: `reason` is one of a few stable slugs to count by, `detail` says what was seen."""

    id: int
    reason: str
    score: float | None = None
    duplicate_of: int | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A row step's decision to drop, before it is tied to a row."""

    reason: str
    score: float | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """Other messages for a row, before they are tied to it. `reason` and `detail` are told as those of a drop are."""

    messages: Sequence[Message]
    reason: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One row goes on with other messages, as canonical JSON; its tools stay. `content_hash` is that of the new row."""

    id: int
    messages_json: str
    content_hash: str
    reason: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows found alike (cosine, Jaccard, or 1.0 for exact), dropped or not. `duplicate_of` is the one preferred.

    `answer_similarity` is that of their answers, where the step looked at both.
    """

    id: int
    duplicate_of: int
    similarity: float
    answer_similarity: float | None = None


@dataclass
class SetResult:
    """What a set step found. `unscored` counts rows that it could not judge, `unscored_dropped` how many of these left.

    `settled` holds parameters that the step chose itself, for the ledger: the threshold that meets a target.
    """

    drops: list[Drop] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    unscored: int = 0
    unscored_dropped: int = 0
    settled: dict[str, Any] = field(default_factory=dict)


class Embed(Protocol):
    """Texts to unit vectors."""

    def __call__(self, texts: Sequence[str], model: str) -> NDArray[np.float32]:
        """Float32 (len(texts), dimensions), each row of length 1; a row of NaN for a text the model cannot read."""
        ...


Progress = Callable[[int, int | None, str], None]


class Compute(Protocol):
    """Has the job of a scorer done."""

    def __call__(self, scorer: JobScorer, rows: Iterable[list[Row]]) -> Iterator[Mapping[str, Score]]:
        """The scores of `rows` by content hash, in parts as they come; what came is yielded before any error."""
        ...


class Scored(Protocol):
    """Looks up scores that are there, by the scorer's name."""

    def __call__(self, scorer: str, rows: Sequence[Row]) -> list[Score]:
        """The scores of `rows` in their order, `unscored` where there is none.

        Raises UsageProblem for a name that no score has, or several scorers have, with the names there are.
        """
        ...


@dataclass(frozen=True)
class Outside:
    """What a set step may ask of its caller."""

    embed: Embed | None
    progress: Progress
    others: Callable[[str], Iterable[list[Row]]] | None = None
    """The rows of another version or source by its name, in batches."""
    scored: Scored | None = None
    """Scores that an earlier step of the recipe or an earlier run computed, by the scorer's name."""
    items: Callable[[str], Iterable[list[Row]]] | None = None
    """The items of an eval set by its name, in batches; the id of each is its number in the set."""
    engine: Engine | None = None
    """Who does the work elsewhere of the steps that can be done there; None where all is done here."""


class Survivors(Protocol):
    """The rows that are left, in batches; can be walked more than once."""

    def __iter__(self) -> Iterator[list[Row]]:
        """Batches in the order of the input."""
        ...

    def __len__(self) -> int:
        """How many rows there are in all."""
        ...


class StepParams(BaseModel):
    """Parameters of a step. Unknown names and wrong types are errors; numbers are not read out of strings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FilterParams(StepParams):
    """Filters and deduplicators stop and ask when they would drop more than `max_drop` of their input."""

    max_drop: float = Field(default=0.5, gt=0, le=1, description="share; 1 also allows a whole group to go")


P = TypeVar("P", bound=StepParams)


class Step(ABC, Generic[P]):
    """One entry of a recipe. Raise `version` whenever the same parameters may give another result."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    kind: ClassVar[Kind]
    params_model: ClassVar[type[StepParams]]

    def __init__(self, params: P) -> None:
        self.params = params

    @property
    def max_drop(self) -> float | None:
        """The share of its input the step may drop; None for a selector, whose work is dropping."""
        return self.params.max_drop if isinstance(self.params, FilterParams) else None

    @property
    def references(self) -> tuple[str, ...]:
        """Names of versions and sources whose rows the step reads beside those it is given."""
        return ()

    @property
    def evalsets(self) -> tuple[str, ...]:
        """Names of eval sets whose items the step reads."""
        return ()

    def settings(self) -> dict[str, Any]:
        """All parameters, defaults written out, as JSON values."""
        return self.params.model_dump(mode="json")


class RowStep(Step[P]):
    """A step that judges each row alone."""

    @cached_property
    @abstractmethod
    def scorers(self) -> Sequence[Scorer | JobScorer]:
        """The scores that `decide` needs, in its order."""

    @property
    def derived(self) -> Sequence[DerivedScorer]:
        """Further scores that follow from those of `scorers`."""
        return ()

    @abstractmethod
    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """Whether a row with these scores leaves. Called only when all are `ok`."""

    def without(self, state: State) -> Finding | None:
        """Whether a row leaves that has a score in `state` (`error`, `unscored`). By default it is kept and counted."""
        return None

    def flag(self, scores: Sequence[Score]) -> str | None:
        """A reason by which a row is counted that stays. Called where `decide` lets it stay; by default none is."""
        return None

    def rewrite(self, row: Row, scores: Sequence[Score]) -> Edit | None:
        """What a row goes on as. Called where `decide` lets it stay; by default it goes on as it is."""
        return None


class SetStep(Step[P]):
    """A step that sees all rows that are left."""

    @abstractmethod
    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """The rows that leave. The order of `rows` must not matter unless a parameter asks for it."""


@dataclass(frozen=True)
class StepOutcome:
    """What one step did. `seconds` is wall time.

    `unscored` and `errors` count rows without a score, `unscored_dropped` and `errors_dropped` those that left of them.
    """

    position: int
    name: str
    kind: Kind
    params: dict[str, Any]
    rows_in: int
    drops: list[Drop]
    pairs: list[Pair]
    seconds: float
    unscored: int = 0
    unscored_dropped: int = 0
    errors: int = 0
    errors_dropped: int = 0
    rewrites: list[Rewrite] = field(default_factory=list)

    @property
    def rows_out(self) -> int:
        """Rows left after the step."""
        return self.rows_in - len(self.drops)

    @property
    def reasons(self) -> dict[str, int]:
        """Drops by reason, most frequent first."""
        return dict(Counter(drop.reason for drop in self.drops).most_common())

    @property
    def rewritten(self) -> dict[str, int]:
        """Rows that went on with other messages, by reason, most frequent first."""
        return dict(Counter(rewrite.reason for rewrite in self.rewrites).most_common())
