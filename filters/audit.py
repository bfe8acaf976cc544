"""`audit`: rows that a model's chat template or the length limit does not let train as they should."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property

from pydantic import Field, field_validator

from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from trainer.chat import ISSUES, MaskPolicy, Tokenised, Turns, configured_stops, fit, stop_ids, tokenise_many, window
from trainer.conversation import canonical_json
from trainer.errors import Problem
from trainer.models import DEFAULT_MODEL, load_tokenizer, resolve_model
from trainer.plan import SHORT

DAY = "2025-01-01"
"""The day that chat templates see in this step, so that a recipe gives the same version on every day."""


class AuditParams(FilterParams):
    """`drop` names the kinds of issues (`trainer.chat.ISSUES`) whose rows leave; the rest is how rows are tokenised.

    Without `max_length` (tokens) the limit is training's, or the model's where that is less.
    """

    drop: list[str] = Field(min_length=1)
    model: str = DEFAULT_MODEL
    policy: Turns = "all"
    max_length: int | None = Field(default=None, ge=1)

    @field_validator("drop")
    @classmethod
    def _known(cls, drop: list[str]) -> list[str]:
        for kind in drop:
            if kind not in ISSUES:
                near = difflib.get_close_matches(kind.lower().replace("_", "-"), ISSUES, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(ISSUES)}"
                raise ValueError(f"must hold kinds of issues; {kind!r} is none ({hint})")
        return drop


class Audit(RowStep[AuditParams]):
    """Drop rows with any of the issues named, by the tokens that training would make of them.

    The reason is the kind of issue, the first of `drop` that the row has, and what was seen.
    """

    name = "audit"
    kind = "filter"
    params_model = AuditParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """One: the issues of a row. Raises ModelUnavailable where the tokenizer cannot be had."""
        return [issues_scorer(self.params.model, self.params.policy, self.params.max_length)]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """The first kind of `drop` that the row has."""
        (score,) = scores
        found = (score.label or "").split()
        kind = next((kind for kind in self.params.drop if kind in found), None)
        return None if kind is None else Finding(kind, score.value, json.loads(score.detail or "{}").get(kind))


def issues_scorer(model: str, turns: Turns = "all", max_length: int | None = None) -> Scorer:
    """The issues of a row's tokens: value how many kinds, label the kinds with blanks between.

    The detail is a JSON object from kind to what was seen. Raises ModelUnavailable where the tokenizer cannot be had.
    """
    source = resolve_model(model, weights=False)
    tokenizer = load_tokenizer(model)
    policy = MaskPolicy(turns=turns, date=DAY, stop_ids=configured_stops(source.path))
    stops = stop_ids(tokenizer, policy=policy)  # now: a tokenizer without a template is no use for any row
    limit = max_length or min(SHORT.max_length, window(tokenizer, source.path) or SHORT.max_length)

    def judge(row: Row, done: Tokenised) -> Score:
        tools = json.loads(row.tools_json) if row.tools_json else None
        cut = fit(tokenizer, done, row.messages, tools, policy, limit)
        seen: dict[str, str] = {}
        for issue in [*done.issues, *cut.issues]:
            where = "" if issue.turn is None else f"message {issue.turn}: "
            seen.setdefault(issue.kind, where + issue.detail)
        return Score(float(len(seen)), label=" ".join(seen) or None, detail=canonical_json(seen) if seen else None)

    def together(rows: Sequence[Row]) -> list[Score]:
        parsed = [(row.messages, json.loads(row.tools_json) if row.tools_json else None) for row in rows]
        return [judge(row, done) for row, done in zip(rows, tokenise_many(tokenizer, parsed, policy), strict=True)]

    def score(rows: Sequence[Row]) -> list[Score]:
        try:
            return together(rows)
        except Problem:
            raise
        except Exception:  # one strange row: alone it gets an error, and the others their scores
            return each(lambda row: together([row])[0])(rows)

    params: dict[str, object] = {
        "tokenizer": model,
        "revision": source.revision,
        "template": hashlib.sha256(repr(tokenizer.chat_template).encode()).hexdigest()[:16],
        "turns": turns,
        "stops": sorted(stops),
        "limit": limit,
    }
    return Scorer("audit", 1, params, score)
