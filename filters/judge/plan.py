"""What a judging job is told: the rubric, who judges, and how much may be spent. Never a key."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from filters.judge.rubric import Rubric
from trainer.models import DEFAULT_MODEL, resolve_model

KEY_VARIABLE = "OPENAI_API_KEY"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Budget(_Frozen):
    """Where to stop. Prices are for a million tokens, in any currency; `cost` is in the same one."""

    calls: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    cost: float | None = Field(default=None, gt=0)
    price_in: float | None = Field(default=None, ge=0)
    price_out: float | None = Field(default=None, ge=0)

    @property
    def priced(self) -> bool:
        """Whether a cost can be told."""
        return self.price_in is not None and self.price_out is not None

    def price(self, prompt_tokens: int, reply_tokens: int) -> float:
        """What these tokens cost; 0 without prices."""
        return ((self.price_in or 0) * prompt_tokens + (self.price_out or 0) * reply_tokens) / 1e6


class Endpoint(_Frozen):
    """An OpenAI-compatible chat endpoint. The key is read from the environment by the job, when it asks.

    `key_variable` says where it lies; None sends none, nor anything else of the environment: whoever makes the plan
    answers for sending that variable to that address. `timeout` is in seconds and below the minute that a stopped job
    is given to end, so that a call under way is not lost. `give_up`: the work ends where none of the first answers can
    be used.
    """

    kind: Literal["endpoint"] = "endpoint"
    base_url: str
    model: str = Field(min_length=1)
    key_variable: str | None = KEY_VARIABLE
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    max_reply_tokens: int = Field(default=400, ge=1)
    concurrency: int = Field(default=8, ge=1, le=256)
    timeout: float = Field(default=50.0, gt=0)
    calls_per_minute: float | None = Field(default=None, gt=0)
    give_up: bool = True
    budget: Budget = Budget()

    @field_validator("base_url")
    @classmethod
    def _url(cls, url: str) -> str:
        return checked_url(url)


class LocalModel(_Frozen):
    """A causal model in the job's own process. `micro_tokens` bounds rows x longest row of a forward pass."""

    kind: Literal["local"] = "local"
    model: str = DEFAULT_MODEL
    micro_tokens: int = Field(default=2048, ge=1)


class RewardModel(_Frozen):
    """A sequence classifier with one logit, in the job's own process. It reads the conversation and no rubric."""

    kind: Literal["reward"] = "reward"
    model: str
    micro_tokens: int = Field(default=2048, ge=1)


Backend = Annotated[Endpoint | LocalModel | RewardModel, Field(discriminator="kind")]


class JudgePlan(_Frozen):
    """The `plan.json` of a judging job. Only a reward model does without a rubric.

    `compares`: the rows are comparisons (`filters.judge.pairs.comparison`), and asked is which answer is better.
    """

    kind: Literal["judge"] = "judge"
    rubric: Rubric | None
    backend: Backend
    compares: bool = False


def checked_url(url: str) -> str:
    """The base URL, if nothing in it can be a secret: plans and reports show it. Raises ValueError, never with it."""
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname
    except ValueError:
        raise ValueError("base_url is no address; it looks like http://localhost:8000/v1") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("base_url must start with http:// or https:// and name a host: http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "base_url holds a password or a query, which would be written down with it; put the key into an "
            "environment variable"
        )
    return url.strip().rstrip("/")


def origin(url: str) -> str:
    """Scheme, host and port of an address, the port left out where it is the scheme's own: what a key is good for.

    Without a scheme it is https. Raises ValueError for what is no address.
    """
    parts = urlsplit(url.strip() if "://" in url else f"https://{url.strip()}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no address; it looks like https://host, or http://localhost:8000")
    port = "" if parts.port in (None, {"http": 80, "https": 443}[parts.scheme]) else f":{parts.port}"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host.rstrip('.')}{port}"


def identity(rubric: Rubric | None, backend: Endpoint | LocalModel | RewardModel) -> dict[str, object]:
    """What a score depends on: with the scorer's name and version, its fingerprint.

    Where an endpoint stands does not count, nor what only paces it. Raises ModelUnavailable for a local model that
    cannot be had.
    """
    told: dict[str, object] = {"kind": backend.kind, "model": backend.model}
    if rubric is not None:
        told["rubric"] = rubric.digest
    if isinstance(backend, Endpoint):
        told |= {"temperature": backend.temperature, "max_reply_tokens": backend.max_reply_tokens}
    else:
        told["revision"] = resolve_model(backend.model).revision
    return told
