"""Before a judge at an endpoint is asked: what that takes, who agrees to it, and whether it may get a key.

Recipes come from others. So nothing is asked of an endpoint before the caller has agreed to it, and a key goes only to
an address that the user has named: where there is none, the endpoint gets no key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workbench.errors import UsageProblem
from workbench.text import counted

if TYPE_CHECKING:
    from filters.judge.plan import Budget, Endpoint, JudgePlan
    from filters.step import Compute, JobScorer, Row, Score
    from workbench.config import Config


@dataclass(frozen=True)
class Keys:
    """Which environment variable holds the key of an endpoint, and the origins (scheme, host, port) that may get it."""

    variable: str
    origins: frozenset[str]

    @classmethod
    def of(cls, config: Config, *named: str | None, variable: str | None = None) -> Keys:
        """The key of the settings, for the addresses there and those `named` on the command line."""
        from filters.judge.plan import KEY_VARIABLE, origin

        try:
            origins = frozenset(map(origin, [*config.judge_addresses(), *filter(None, named)]))
        except ValueError as error:
            do = "Write addresses with commas between them, in judge_hosts or WORKBENCH_JUDGE_HOSTS."
            raise UsageProblem(str(error), where="the judge's addresses", do=do) from None
        return cls(variable or config.judge_key() or KEY_VARIABLE, origins)

    def given(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with the variable of its key, where it may get one."""
        return endpoint.model_copy(update={"key_variable": self.variable if self.may_have(endpoint.base_url) else None})

    def may_have(self, url: str) -> bool:
        """Whether the user named this address."""
        from filters.judge.plan import origin

        return origin(url) in self.origins


@dataclass(frozen=True)
class Calls:
    """What a step would ask of an endpoint, without retries.

    Tokens asked are guessed from bytes; tokens answered and the cost are the most there can be. `cost` is None without
    prices. `known`: the address is one that the user named, or on this machine.
    """

    scorer: str
    fingerprint: str
    model: str
    base_url: str
    known: bool
    budget: Budget
    calls: int
    prompt_tokens: int
    reply_tokens: int
    cost: float | None

    @property
    def budgeted(self) -> bool:
        """Whether the step itself says where it stops, at an address that is known: its budget is consent enough."""
        budget = self.budget
        return self.known and any(limit is not None for limit in (budget.calls, budget.tokens, budget.cost))

    def __str__(self) -> str:
        """What it takes, in two sentences at most."""
        cost = "" if self.cost is None else f", a cost of at most {self.cost:,.2f}"
        asked = f"{counted(self.calls, 'call')} without retries: about {self.prompt_tokens:,} tokens asked and at most "
        budget = self.budget
        limits = [] if budget.calls is None else [counted(budget.calls, "call")]
        limits += [] if budget.tokens is None else [f"{budget.tokens:,} tokens"]
        limits += [] if budget.cost is None else [f"a cost of {budget.cost:g}"]
        stops = f" It stops at {' or '.join(limits)}." if limits else ""
        return f"{asked}{self.reply_tokens:,} answered{cost}.{stops}"


class ConsentNeeded(UsageProblem):
    """An endpoint would be asked, and nobody has agreed to that."""

    def __init__(self, calls: Calls) -> None:
        do = "Agree with --yes, or set a budget of calls, tokens or cost."
        if not calls.known:
            do = (
                "Agree with --yes if the rows may be sent there; or name the address in judge_hosts in workbench.toml "
                "and set a budget."
            )
        what = f"{calls.model} at {calls.base_url} would be asked, and nobody has agreed to that. It takes {calls}"
        super().__init__(what, where=calls.scorer, do=do)
        self.calls = calls


@dataclass
class Tally:
    """Counts what a judge would be asked about rows."""

    plan: JudgePlan
    calls: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0

    def add(self, row: Row) -> None:
        """Count one row; what has nothing to judge is not asked about."""
        from filters.judge.material import Request
        from filters.judge.plan import Endpoint
        from filters.judge.question import question
        from filters.judge.spending import reserve

        if not isinstance(self.plan.backend, Endpoint) or self.plan.rubric is None:
            return
        request = question(self.plan.rubric, compares=self.plan.compares).request(row)
        if isinstance(request, Request):
            needed = reserve(request.messages, self.plan.backend.max_reply_tokens)
            self.calls += 1
            self.prompt_tokens += needed.prompt_tokens
            self.reply_tokens += needed.reply_tokens

    @property
    def cost(self) -> float | None:
        """The most that it can cost, None without prices."""
        from filters.judge.plan import Endpoint

        backend = self.plan.backend
        if not isinstance(backend, Endpoint) or not backend.budget.priced:
            return None
        return backend.budget.price(self.prompt_tokens, self.reply_tokens)


Agrees = Callable[[Calls], bool]
"""Asked before an endpoint is; False refuses. It may tell a person what it takes."""


def within_budget(calls: Calls) -> bool:
    """Agree to what has a budget at a known address, and to nothing else."""
    return calls.budgeted


@dataclass
class ConsentedJobs:
    """`filters.step.Compute` that begins no job for an endpoint before `agrees` has said so; others begin at once.

    Raises ConsentNeeded where it says no.
    """

    compute: Compute
    keys: Keys
    agrees: Agrees

    def __call__(self, scorer: JobScorer, rows: Iterable[list[Row]]) -> Iterator[Mapping[str, Score]]:
        """The scores of `rows` in parts; see `filters.step.Compute`."""
        from filters.judge.plan import Endpoint, JudgePlan

        plan = scorer.plan
        if not isinstance(plan, JudgePlan) or not isinstance(plan.backend, Endpoint):
            yield from self.compute(scorer, rows)
            return
        backend = self.keys.given(plan.backend)
        scorer = replace(scorer, plan=plan.model_copy(update={"backend": backend}))
        known: set[str] = set()
        # A job writes its rows down before it begins: what is raised behind the last of them comes in time. What an
        # earlier job left has come by then, and is not counted.
        for part in self.compute(scorer, self._counted(scorer, backend, Tally(plan), rows, known)):
            known.update(key for key, score in part.items() if score.state != "error")
            yield part

    def _counted(
        self, scorer: JobScorer, backend: Endpoint, tally: Tally, rows: Iterable[list[Row]], known: set[str]
    ) -> Iterator[list[Row]]:
        for batch in rows:
            for row in batch:
                if row.content_hash not in known:
                    known.add(row.content_hash)
                    tally.add(row)
            yield batch
        calls = calls_of(scorer, backend, tally, self.keys)
        if tally.calls and not self.agrees(calls):
            raise ConsentNeeded(calls)


def calls_of(scorer: JobScorer, backend: Endpoint, tally: Tally, keys: Keys) -> Calls:
    """What was counted, with who is asked."""
    url = backend.base_url
    known = keys.may_have(url) or on_this_machine(url)
    counts = (tally.calls, tally.prompt_tokens, tally.reply_tokens, tally.cost)
    return Calls(scorer.name, scorer.fingerprint, backend.model, url, known, backend.budget, *counts)


def on_this_machine(url: str) -> bool:
    """Whether an address leads to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
