"""`judge`: rows rated by a model that reads them, by a rubric."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, model_validator

from filters.judge.plan import Budget, Endpoint, JudgePlan, LocalModel, RewardModel, checked_url, identity
from filters.judge.rubric import Rubric, load_rubric
from filters.step import FilterParams, Finding, JobScorer, RowStep, Score, State
from trainer.errors import Problem, UsageProblem
from trainer.models import DEFAULT_MODEL

VERSION = 3
"""Raised whenever a judge is told other words, or its answers are read otherwise."""

_PACE = frozenset(
    {"concurrency", "timeout", "calls_per_minute", "give_up"}
    | {"budget_calls", "budget_tokens", "budget_cost", "price_in", "price_out"}
)


class JudgeParams(FilterParams):
    """Rows rated below `min` leave; without it the rows are rated and stay.

    `rubric` is a shipped one's name or a path. The judge is an OpenAI-compatible endpoint where `base_url` is given,
    else a local causal model; `backend: reward` is a local reward model, which reads no rubric. `on_error: drop` drops
    rows that the judge gave no usable answer for; either way they are counted. `timeout` is in seconds, prices are for
    a million tokens. `give_up: false` asks about every row even where none of the first answers can be used. Which key
    an endpoint gets is never the recipe's to say: its plan names none until the caller puts one there.
    """

    rubric: str = "helpfulness"
    model: str = DEFAULT_MODEL
    base_url: str | None = None
    backend: Literal["endpoint", "local", "reward"] | None = None
    min: float | None = None
    on_error: Literal["keep", "drop"] = "keep"
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    max_reply_tokens: int = Field(default=400, ge=1)
    concurrency: int = Field(default=8, ge=1, le=256)
    timeout: float = Field(default=50.0, gt=0)
    calls_per_minute: float | None = Field(default=None, gt=0)
    give_up: bool = True
    budget_calls: int | None = Field(default=None, ge=1)
    budget_tokens: int | None = Field(default=None, ge=1)
    budget_cost: float | None = Field(default=None, gt=0)
    price_in: float | None = Field(default=None, ge=0)
    price_out: float | None = Field(default=None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _no_key(cls, given: Any) -> Any:
        # Recipes come from others: one that names a variable and an address could have any secret sent anywhere.
        if isinstance(given, dict) and "key_variable" in given:
            raise ValueError(
                "a recipe cannot say which variable holds a key; take key_variable out, and name the variable in "
                "judge_key_variable in workbench.toml"
            )
        return given

    @model_validator(mode="after")
    def _sensible(self) -> JudgeParams:
        # As one check over all of them: an error of a single parameter repeats its value, which may hold a password.
        if self.base_url is not None:
            checked_url(self.base_url)
        if self.kind == "endpoint" and self.base_url is None:
            raise ValueError("backend: endpoint needs base_url")
        if self.kind == "endpoint" and "model" not in self.model_fields_set:
            raise ValueError("an endpoint needs model: the name by which the server knows it")
        if self.kind == "reward" and "model" not in self.model_fields_set:
            raise ValueError("backend: reward needs model: a sequence classifier with one logit")
        if self.budget_cost is not None and not self._budget().priced:
            raise ValueError("budget_cost needs price_in and price_out, for a million tokens")
        if self.kind != "reward":
            try:
                rubric = load_rubric(self.rubric)
            except Problem as problem:
                raise ValueError(str(problem)) from None
            if self.min is not None and not rubric.lowest < self.min <= rubric.highest:
                raise ValueError(
                    f"min must be above {rubric.lowest} and at most {rubric.highest}, rubric {rubric.name}"
                )
        return self

    @property
    def kind(self) -> Literal["endpoint", "local", "reward"]:
        """Who judges: as said, else an endpoint where there is an address."""
        return self.backend or ("endpoint" if self.base_url is not None else "local")

    def judge(self) -> Endpoint | LocalModel | RewardModel:
        """The judge, as its job is told of it; an endpoint without a key."""
        if self.kind == "reward":
            return RewardModel(model=self.model)
        if self.kind == "local" or self.base_url is None:
            return LocalModel(model=self.model)
        return Endpoint(
            base_url=self.base_url,
            model=self.model,
            key_variable=None,
            temperature=self.temperature,
            max_reply_tokens=self.max_reply_tokens,
            concurrency=self.concurrency,
            timeout=self.timeout,
            calls_per_minute=self.calls_per_minute,
            give_up=self.give_up,
            budget=self._budget(),
        )

    def _budget(self) -> Budget:
        return Budget(
            calls=self.budget_calls,
            tokens=self.budget_tokens,
            cost=self.budget_cost,
            price_in=self.price_in,
            price_out=self.price_out,
        )


class Judge(RowStep[JudgeParams]):
    """Rate rows by a rubric, as the score `judge-<rubric>` (`judge-reward` of a reward model)."""

    name = "judge"
    kind = "filter"
    params_model = JudgeParams

    @cached_property
    def rubric(self) -> Rubric | None:
        """The rubric as its file reads now; None for a reward model."""
        return None if self.params.kind == "reward" else load_rubric(self.params.rubric)

    @cached_property
    def scorers(self) -> Sequence[JobScorer]:
        """The rating, with the judge's reason as its detail."""
        return [self._scorer("judge-reward" if self.rubric is None else f"judge-{self.rubric.name}")]

    def comparer(self) -> JobScorer:
        """What the first of two answers got, of comparisons (`filters.judge.question`). Raises UsageProblem."""
        if self.rubric is None:
            do = "Compare by a judge that has a rubric."
            raise UsageProblem("a reward model rates one answer at a time", where="judge pairs", do=do)
        return self._scorer(f"judge-pairs-{self.rubric.name}", compares=True)

    def _scorer(self, name: str, *, compares: bool = False) -> JobScorer:
        backend = self.params.judge()
        plan = JudgePlan(rubric=self.rubric, backend=backend, compares=compares)
        return JobScorer(name, VERSION, identity(self.rubric, backend), plan)

    def settings(self) -> dict[str, Any]:
        """All parameters that can change the result, and what the rubric says: its file may change."""
        rubric = {} if self.rubric is None else {"rubric_hash": self.rubric.digest}
        return self.params.model_dump(mode="json", exclude=set(_PACE)) | rubric

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """A rating below `min`."""
        (score,) = scores
        if self.params.min is None or score.value is None or score.value >= self.params.min:
            return None
        return Finding(f"rated below {self.params.min:g}", score.value, score.detail)

    def without(self, state: State) -> Finding | None:
        """A row that the judge failed on, where that is asked for; a row with nothing to judge stays."""
        return Finding("not judged") if state == "error" and self.params.on_error == "drop" else None
