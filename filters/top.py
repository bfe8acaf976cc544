"""`top`: the rows with the best values of a score that an earlier step or an earlier run computed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from filters.step import Drop, Outside, SetResult, SetStep, StepParams, Survivors


class TopParams(StepParams):
    """`k` rows, or a `share` of the rows that have the score `by`, stay: the highest, or the lowest.

    Rows without the score leave, or stay beside the chosen ones, as `missing` says; either way they are counted.
    """

    by: str = Field(min_length=1)
    share: float | None = Field(default=None, gt=0, le=1)
    k: int | None = Field(default=None, ge=1)
    order: Literal["highest", "lowest"] = "highest"
    missing: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _one_size(self) -> TopParams:
        if (self.share is None) == (self.k is None):
            raise ValueError("say how many rows are to stay: share or k, one of them")
        return self


class Top(SetStep[TopParams]):
    """Keep the best rows by a score, as Chen et al., "AlpaGasus" (2024), do with a judge's.

    A judge of whole ratings gives many rows the same one. Of equals those with the smaller content hash stay: the order
    of input decides nothing. The ledger says where the cut fell (`cut_at`).
    """

    name = "top"
    kind = "selector"
    params_model = TopParams

    def select(self, rows: Survivors, outside: Outside) -> SetResult:
        """Drop all but the best. Raises UsageProblem where no score, or several, go by the name."""
        if outside.scored is None:
            raise TypeError("`top` needs scores, and the caller hands none over")
        sign = -1 if self.params.order == "highest" else 1
        ranked: list[tuple[float, str, int]] = []
        without: list[int] = []
        for batch in rows:
            for row, score in zip(batch, outside.scored(self.params.by, batch), strict=True):
                if score.value is None:
                    without.append(row.id)
                else:
                    ranked.append((sign * score.value, row.content_hash, row.id))
            outside.progress(len(ranked) + len(without), len(rows), self.name)
        ranked.sort()
        keep = self.params.k if self.params.k is not None else round((self.params.share or 0) * len(ranked))
        drops = [Drop(id, "not selected", sign * value) for value, _, id in ranked[keep:]]
        if self.params.missing == "drop":
            drops += [Drop(id, f"no score {self.params.by}") for id in without]
        settled = {"cut_at": sign * ranked[min(keep, len(ranked)) - 1][0]} if ranked and keep else {}
        gone = len(without) if self.params.missing == "drop" else 0
        return SetResult(drops, unscored=len(without), unscored_dropped=gone, settled=settled)
