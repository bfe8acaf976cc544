"""Several comparisons with one baseline as one family: what each came to, corrected for how many were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainer.statistics import holm
from trainer.verdict import NO_DIFFERENCE

ALPHA = 0.05


@dataclass(frozen=True)
class Compared:
    """One comparison of a family, on its primary metric: candidate minus baseline.

    `p` is the comparison's own, `p_holm` the one for the whole family, which `verdict` stands on. `mde` is the
    smallest effect found four times in five, by the comparison alone. What cannot be known is None.
    """

    candidate: str
    experiment: str
    metric: str
    higher_is_better: bool
    delta: float | None
    ci: tuple[float | None, float | None]
    p: float | None
    p_holm: float | None
    mde: float | None
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """It as JSON."""
        return asdict(self) | {"ci": list(self.ci)}


def family(results: Sequence[Mapping[str, Any]], to_come: int = 0) -> list[Compared]:
    """The results of several comparisons (the JSON of `compare`) in order, their decisions corrected by Holm.

    So many of the family are `to_come`: they count as if they showed nothing. No p by Holm rises where another p
    falls, so what is told now as better or worse stays so, whatever they show.

    A verdict that does not outlive the correction becomes no difference detected: among many comparisons of equal
    data, one in twenty would say better or worse by luck.
    """
    primaries = [next(m for m in result["metrics"] if m["name"] == result["primary"]) for result in results]
    # A p that is not known decided nothing.
    decisive = [1.0 if m["p_decisive"] is None else m["p_decisive"] for m in primaries]
    corrected = holm(decisive + [1.0] * to_come)[: len(decisive)]
    return [
        Compared(
            candidate=result["candidate"],
            experiment=result["experiment"],
            metric=primary["name"],
            higher_is_better=primary["higher_is_better"],
            delta=primary["delta"],
            ci=(primary["ci"][0], primary["ci"][1]),
            p=primary["p"],
            p_holm=p if primary["p_decisive"] is not None else None,
            mde=primary["mde"],
            verdict=result["verdict"] if p < ALPHA else NO_DIFFERENCE,
        )
        for result, primary, p in zip(results, primaries, corrected, strict=True)
    ]
