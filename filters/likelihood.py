"""`likelihood`: what a causal model makes of the answers: perplexity, and how much the prompt helps (IFD).

    response_nll         mean loss (nats) of the answers' tokens given all before them
    response_nll_alone   the same given nothing but the header of an answer
    perplexity           exp(response_nll)
    ifd_ppl              exp(response_nll) / exp(response_nll_alone)
    ifd_loss             response_nll / response_nll_alone

IFD is Li et al., "From Quantity to Quality" (arXiv:2308.12032), as a ratio of perplexities, and Li et al.,
"Superfiltering" (arXiv:2402.00530); other papers and programs take the ratio of losses. At 1 and above the prompt did
not help: it and the answer may not belong together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from filters.step import DerivedScorer, FilterParams, Finding, JobScorer, Row, RowStep, Score
from trainer.models import DEFAULT_MODEL
from trainer.plan import LikelihoodPlan, ModelSetting, PolicySetting
from trainer.protocol import Events, read_plan

DAY = "2025-01-01"
"""The day that chat templates see in this step, so that a recipe gives the same scores on every day."""

Metric = Literal["perplexity", "ifd_ppl", "ifd_loss"]


class LikelihoodParams(FilterParams):
    """Rows with a `metric` below `min` or above `max` leave; without either the rows are scored and stay.

    `dtype` and `quantize` are not left to the machine: they change the scores. Rows longer than `max_length` tokens
    are not scored, and stay. `micro_tokens` bounds the memory of a forward pass and changes no score.
    """

    metric: Metric = "perplexity"
    min: float | None = None
    max: float | None = None
    model: str = DEFAULT_MODEL
    dtype: Literal["float32", "bfloat16"] = "float32"
    quantize: Literal["none", "nf4"] = "none"
    template: str | None = None
    max_length: int = Field(default=2048, ge=8)
    micro_tokens: int = Field(default=2048, ge=8)

    @model_validator(mode="after")
    def _ordered(self) -> LikelihoodParams:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}: no row would stay")
        return self


class Likelihood(RowStep[LikelihoodParams]):
    """Score rows by a model's likelihood of their answers, and drop those outside of the limits."""

    name = "likelihood"
    kind = "filter"
    params_model = LikelihoodParams

    @cached_property
    def scorers(self) -> Sequence[JobScorer]:
        """The losses that the metric is made of. Raises ModelUnavailable where the model cannot be had."""
        alone = (False,) if self.params.metric == "perplexity" else (False, True)
        return [_scorer(self.params, alone=each) for each in alone]

    @cached_property
    def derived(self) -> Sequence[DerivedScorer]:
        """The metrics that follow from these losses."""
        # One perplexity, whichever metric it was computed for: it reads the first loss alone.
        perplexity = DerivedScorer("perplexity", 1, _perplexity, reads=1)
        if len(self.scorers) == 1:
            return [perplexity]
        return [perplexity, DerivedScorer("ifd_ppl", 1, _ifd_ppl), DerivedScorer("ifd_loss", 1, _ifd_loss)]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """Whether the metric is outside of the limits."""
        value = _FORMULAS[self.params.metric](scores).value
        if value is None:
            return None
        low, high = self.params.min, self.params.max
        if low is not None and value < low:
            return Finding(f"low {self.params.metric}", value, f"{value:.4g}, below {low:g}")
        if high is not None and value > high:
            return Finding(f"high {self.params.metric}", value, f"{value:.4g}, above {high:g}")
        return None


def _perplexity(scores: Sequence[Score]) -> Score:
    return _exp(scores[0].value or 0.0)


def _ifd_ppl(scores: Sequence[Score]) -> Score:
    return _exp((scores[0].value or 0.0) - (scores[1].value or 0.0))


def _ifd_loss(scores: Sequence[Score]) -> Score:
    given, alone = (score.value or 0.0 for score in scores)
    return Score(given / alone) if alone > 0 else Score.unscored("the answer alone has no loss to compare with")


def _exp(loss: float) -> Score:
    return Score(math.exp(min(loss, 700.0)))  # exp(710) is more than a float holds


_FORMULAS: dict[str, Callable[[Sequence[Score]], Score]] = {
    "perplexity": _perplexity,
    "ifd_ppl": _ifd_ppl,
    "ifd_loss": _ifd_loss,
}


def _scorer(asked: LikelihoodParams, *, alone: bool) -> JobScorer:
    from trainer.chat.cache import format_fingerprint
    from trainer.chat.chat_format import chat_format
    from trainer.chat.plain_formats import with_template
    from trainer.models import load_tokenizer, resolve_model

    source = resolve_model(asked.model)
    tokenizer = load_tokenizer(asked.model)
    if asked.template is not None:
        tokenizer = with_template(tokenizer, asked.template)
    policy = PolicySetting(date=DAY, template=asked.template)
    setting = ModelSetting(
        name=asked.model, revision=source.revision, quantize=asked.quantize, dtype=asked.dtype, device="auto"
    )
    plan = LikelihoodPlan(
        model=setting, policy=policy, alone=alone, max_length=asked.max_length, micro_tokens=asked.micro_tokens
    )
    params: dict[str, object] = {
        "model": asked.model,
        "revision": source.revision,
        "dtype": asked.dtype,
        "quantize": asked.quantize,
        "format": format_fingerprint(chat_format(tokenizer, policy.mask_policy())),
        "max_length": asked.max_length,
    }
    return JobScorer("response_nll_alone" if alone else "response_nll", 1, params, plan)


def score_likelihood(folder: Path, events: Events) -> None:
    """Score the rows of the run folder (`filters.scoring`) by its plan. Raises ModelUnavailable, BadInput."""
    from filters.scoring import score_folder
    from trainer.base import load_base, with_policy

    plan = read_plan(folder, LikelihoodPlan)

    def score(rows: Sequence[Row]) -> Iterator[Mapping[str, Score]]:
        from trainer.likelihood import answer_losses

        events.emit("stage", what="loading the model")
        base, policy = with_policy(load_base(plan.model), plan.policy)
        found = answer_losses(
            base,
            policy,
            ((row.messages, json.loads(row.tools_json) if row.tools_json else None) for row in rows),
            alone=plan.alone,
            max_length=plan.max_length,
            micro_tokens=plan.micro_tokens,
        )
        for number, answer in found:
            score = Score.unscored(answer.why) if answer.loss is None else Score.measured(answer.loss)
            yield {rows[number].content_hash: score}

    score_folder(folder, events, score, "answers without their prompts" if plan.alone else "answers")
