"""`audit`: rows that a model's chat template or the length limit does not let train as they should."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from pydantic import Field, field_validator

from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from trainer.chat import (
    ISSUES,
    Special,
    Tokenised,
    Truncation,
    Turns,
    configured_stops,
    fit,
    stop_ids,
    tokenise_many,
    window,
)
from trainer.chat.audit import TAGS_DISAGREE
from trainer.chat.cache import format_fingerprint
from trainer.chat.chat_format import chat_format
from trainer.chat.plain_formats import PLAIN_FORMATS, with_template
from trainer.conversation import canonical_json
from trainer.errors import Problem, UsageProblem
from trainer.models import DEFAULT_MODEL, load_tokenizer, resolve_model
from trainer.plan import SHORT, PolicySetting

DAY = "2025-01-01"
"""The day that chat templates see in this step, so that a recipe gives the same version on every day."""


class AuditParams(FilterParams):
    """`drop` names the kinds of issues (`trainer.chat.ISSUES`) whose rows leave; the rest is how rows are tokenised.

    The rest are the options of `workbench tokens`, under their names. `template` names a plain format
    (`trainer.chat.plain_formats`) to use instead of the model's own; `add_tokens` gives the tokenizer its special
    tokens. Without `max_length` (tokens) the limit is training's, or the model's where that is less.
    """

    drop: list[str] = Field(min_length=1)
    model: str = DEFAULT_MODEL
    template: str | None = None
    add_tokens: bool = False
    policy: Turns = "all"
    tool_calls: bool = True
    reasoning: bool = True
    special: Special = "flag"
    template_args: dict[str, Any] = Field(default_factory=dict)
    date: str = DAY
    max_length: int | None = Field(default=None, ge=1)
    truncate: Truncation = "drop"

    def setting(self) -> PolicySetting:
        """The policy, in the form that `compare` and `train` have it in."""
        return PolicySetting(
            turns=self.policy,
            tool_calls=self.tool_calls,
            reasoning=self.reasoning,
            special=self.special,
            template_args=self.template_args,
            date=self.date,
            template=self.template,
        )

    @field_validator("drop")
    @classmethod
    def _known(cls, drop: list[str]) -> list[str]:
        for kind in drop:
            if kind == TAGS_DISAGREE:
                raise ValueError(
                    f"cannot hold {kind!r}: tags are compared in the first rows alone, by `tokens --audit`"
                )
            if kind not in ISSUES:
                raise ValueError(f"must hold kinds of issues; {kind!r} is none ({_hint(kind, ISSUES)})")
        return drop

    @field_validator("template")
    @classmethod
    def _format(cls, template: str | None) -> str | None:
        if template is not None and template not in PLAIN_FORMATS:
            raise ValueError(f"must be a plain format; {template!r} is none ({_hint(template, PLAIN_FORMATS)})")
        return template


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.lower().replace("_", "-"), list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


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
        return [issues_scorer(self.params)]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """The first kind of `drop` that the row has."""
        (score,) = scores
        found = (score.label or "").split()
        kind = next((kind for kind in self.params.drop if kind in found), None)
        return None if kind is None else Finding(kind, score.value, json.loads(score.detail or "{}").get(kind))


def issues_scorer(asked: AuditParams) -> Scorer:
    """The issues of a row's tokens, whatever `asked` drops: value how many kinds, label these with blanks between.

    The detail is a JSON object from kind to what was seen. Raises ModelUnavailable where the tokenizer cannot be had.
    """
    source = resolve_model(asked.model, weights=False)
    tokenizer = load_tokenizer(asked.model)
    if asked.template is not None:
        tokenizer = with_template(tokenizer, asked.template, add_tokens=asked.add_tokens)
    elif asked.add_tokens:
        raise UsageProblem("there are no tokens to add without a template", do="Name one as `template` of the step.")
    policy = replace(asked.setting().mask_policy(), stop_ids=configured_stops(source.path))
    stops = stop_ids(tokenizer, policy=policy)  # now: a tokenizer without a template is no use for any row
    limit = asked.max_length or min(SHORT.max_length, window(tokenizer, source.path) or SHORT.max_length)

    def judge(row: Row, tools: list[Any] | None, done: Tokenised) -> Score:
        cut = fit(tokenizer, done, row.messages, tools, policy, limit, asked.truncate)
        seen: dict[str, str] = {}
        for issue in [*done.issues, *cut.issues]:
            where = "" if issue.turn is None else f"message {issue.turn}: "
            seen.setdefault(issue.kind, where + issue.detail)
        return Score(float(len(seen)), label=" ".join(seen) or None, detail=canonical_json(seen) if seen else None)

    def together(rows: Sequence[Row]) -> list[Score]:
        parsed = [(row.messages, json.loads(row.tools_json) if row.tools_json else None) for row in rows]
        done_rows = tokenise_many(tokenizer, parsed, policy)
        return [judge(row, tools, done) for row, (_, tools), done in zip(rows, parsed, done_rows, strict=True)]

    def score(rows: Sequence[Row]) -> list[Score]:
        try:
            return together(rows)
        except Problem:
            raise
        except Exception:  # one strange row: alone it gets an error, and the others their scores
            return each(lambda row: together([row])[0])(rows)

    params: dict[str, object] = {
        "tokenizer": asked.model,
        "revision": source.revision,
        "template": hashlib.sha256(repr(tokenizer.chat_template).encode()).hexdigest()[:16],
        "added": asked.add_tokens,
        # Library versions and our own code besides, as in the cache of tokenised rows; not known of slow tokenizers.
        "format": format_fingerprint(chat_format(tokenizer, policy)),
        "policy": asked.setting().model_dump(exclude={"template"}),
        "stops": sorted(stops),
        "limit": limit,
        "truncate": asked.truncate,
    }
    return Scorer("audit", 2, params, score)
