"""What was compared on one eval set so far, and what asking one eval set many questions does to its answers."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from workbench.comparing import listing
from workbench.errors import NotFound
from workbench.report.pairs import comparisons
from workbench.store import experiments as rows
from workbench.store.evalsets import get_eval_set
from workbench.workspace import Workspace

ERROR_RATE = 0.05
"""How often a comparison of equals is called a difference: verdicts stand on 95% intervals."""


@dataclass(frozen=True)
class Compared:
    """A comparison with its verdict. `p` is that of the primary metric alone, `p_adjusted` by Holm over all listed.

    `made` has, for both sides, the experiments that runs were made for, with the version.
    """

    id: str
    baseline: str
    candidate: str
    model: str
    seeds: int
    verdict: str
    delta: float
    p: float
    p_adjusted: float
    created_at: datetime
    made: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class History:
    """The comparisons made on an eval set, oldest first, and a word on their number."""

    evalset: str
    compared: list[Compared]

    @property
    def chance(self) -> float:
        """The chance that at least one comparison of equals among as many is called a difference: 1 - 0.95^k.

        For comparisons that do not depend on each other; those that share a baseline or runs err together more often,
        and then the chance is less. It is never more than k times 5%.
        """
        return float(1 - (1 - ERROR_RATE) ** len(self.compared))

    @property
    def sharing(self) -> int:
        """How many of the comparisons have runs that another one has, too."""
        times = Counter(side for one in self.compared for side in one.made)
        return sum(any(times[side] > 1 for side in one.made) for one in self.compared)

    def sentences(self) -> list[str]:
        """What that number means, and what to do; empty before the second comparison."""
        count = len(self.compared)
        if count < 2:
            return []
        called = [one for one in self.compared if one.p < ERROR_RATE]
        stand = [one for one in called if one.p_adjusted < ERROR_RATE]
        told = [
            f"{count:,} comparisons were made on {self.evalset!r}, each with a 5% chance to call a difference where "
            f"there is none: the chance that at least one of {count:,} does is 1 - 0.95^{count} = {self.chance:.0%}."
        ]
        if self.sharing:
            told.append(
                f"{self.sharing:,} of them have runs in common, and so their luck: where these err, they err together, "
                "and none of them confirms another."
            )
        if called:
            told.append(
                f"{len(called):,} found a difference on the primary metric; corrected for {count:,} comparisons "
                f"(Holm), {len(stand):,} of them still {'does' if len(stand) == 1 else 'do'}."
            )
        told.append(
            "Choosing among many versions by one eval set also fits them to it: use it to choose, and confirm the "
            "last choice once on an eval set that was never looked at."
        )
        return told


def history(ws: Workspace, evalset: str, model: str | None = None) -> History:
    """The comparisons on an eval set, of one model or all, with a verdict. Raises NotFound."""
    from trainer.statistics import holm

    get_eval_set(ws.store, evalset)
    on_it = [listed for listed in listing(ws) if listed.evalset == evalset]
    if model and model not in {listed.model for listed in on_it}:
        known = ", ".join(sorted({listed.model for listed in on_it}))
        do = f"There are comparisons of: {known}." if known else "Nothing was compared on it yet."
        raise NotFound(f"no experiment with model {model!r} on eval set {evalset!r}", do=do)
    found = []
    for listed in on_it:
        if listed.verdict is None or model not in (None, listed.model):
            continue
        result = json.loads(rows.find_experiment(ws.store, listed.id).result or "{}")
        found += [(listed, result, one) for one in comparisons(result)]
    adjusted = holm([one["p_alone"] for *_, one in found]) if found else []
    return History(
        evalset,
        [
            Compared(
                id=listed.id,
                baseline=one["baseline"],
                candidate=one["candidate"],
                model=listed.model,
                seeds=listed.seeds,
                verdict=one["verdict"],
                delta=next(metric["delta"] for metric in one["metrics"] if metric["name"] == one["primary"]),
                p=one["p_alone"],
                p_adjusted=float(p),
                created_at=listed.created_at,
                made=_made(listed.id, result, one),
            )
            for (listed, result, one), p in zip(found, adjusted, strict=True)
        ],
    )


def _made(id: str, result: dict[str, Any], one: dict[str, Any]) -> frozenset[tuple[str, str]]:
    sides = [arm for arm in result.get("arms", ()) if arm["arm"] in (one["arm"], one["against"])]
    return frozenset((made, arm["version"]) for arm in sides for made in (id, *arm.get("taken_from", ())))
