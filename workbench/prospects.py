"""Whether an experiment can decide anything, told before it is run, and what would be enough where it cannot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.plan import MIN_STEPS, SHORT, STANDARD, STANDARD_FROM, ExperimentPlan
from trainer.power import NoiseFloor, minimum_detectable_effect, t_effect
from trainer.preference import EVEN
from workbench.store import experiments as rows
from workbench.workspace import Workspace

MOST_SEEDS = 12
"""More seeds than this are not proposed: more items, or other data, are cheaper."""


def doubts(
    job: ExperimentPlan,
    clusters: Sequence[str],
    seeds: int,
    floor: NoiseFloor | None,
    gain: float | None,
    candidates: int = 1,
    least: float | None = None,
) -> list[str]:
    """Why this experiment will hardly decide anything, in sentences with what would be enough; none is good.

    `clusters` are those of the eval items, `floor` the noise of this setting on the primary metric, and `gain` how far
    training moved that metric at all; so many `candidates` are decided together; `least` is how many seconds the
    fewest steps worth comparing take. None where nothing is known yet.
    """
    told = []
    if len(set(clusters)) < 2:
        told.append(
            "it cannot decide anything: the eval set has one item or one cluster, and an interval needs two; "
            "some 50 items that have nothing to do with each other are a beginning"
        )
    if tokens := job.budget.trained_tokens:
        training = job.training or (STANDARD if tokens >= STANDARD_FROM else SHORT)
        steps = max(1, round(tokens / training.tokens_per_step))
        if steps < MIN_STEPS:
            enough = MIN_STEPS * training.tokens_per_step
            told.append(
                f"{tokens:,} trained tokens are {steps} optimizer steps, which teach little: "
                f"{enough:,} would be {MIN_STEPS}"
            )
    if (minutes := job.budget.minutes) and least is not None and least > minutes * 60:
        told.append(
            f"{minutes:g} minutes will hardly do: by earlier runs of this model, {MIN_STEPS} steps of each run, the "
            f"fewest that teach something, take {least / 60:.1f} minutes in all"
        )
    if floor is not None and gain is not None and len(set(clusters)) > 1:
        mde = expected_mde(floor, clusters, seeds, candidates)
        if math.isfinite(mde) and mde >= gain:
            wanted = _enough(floor, clusters, seeds, gain, candidates)
            told.append(
                f"it will hardly decide anything: the smallest effect to be found ({mde:.3f} nats) is not less than "
                f"all that training changed so far ({gain:.3f} nats); {wanted}"
            )
    return told


def gain_of_training(ws: Workspace, noted: Mapping[str, str]) -> float | None:
    """How far training by a setting moved the mean NLL of answers from the untrained model's, in nats a token."""
    base = rows.runs_with(ws.store, noted["base"])
    trained = [run for run in rows.runs_with(ws.store, noted["setting"]) if "made_of" not in json.loads(run.summary)]
    if not base or not trained:
        return None
    before, after = _mean_nll(ws, [base[0].id]), _mean_nll(ws, [run.id for run in trained])
    return None if before is None or after is None else abs(before - after)


def _mean_nll(ws: Workspace, runs: Sequence[str]) -> float | None:
    measured = rows.item_metrics(ws.store, runs).to_pylist()
    values = [row["value"] for row in measured if row["metric"] == "response_nll"]
    return float(np.nanmean(values)) if values else None


def expected_mde(
    floor: NoiseFloor, clusters: Sequence[str], seeds: int, candidates: int = 1, *, times: int = 1
) -> float:
    """The smallest effect that runs like the earlier ones will find on `times` as many items.

    Of several `candidates` it is that of the strictest test of Holm's correction.
    """
    if len(clusters) * times < 2:
        return math.inf
    return minimum_detectable_effect(
        item_sd=floor.item_sd,
        seed_sd=floor.seed_sd,
        n_items=len(clusters) * times,
        n_clusters=len(set(clusters)) * times,
        n_seeds=seeds,
        noise_df=floor.df,
        confidence=1 - 0.05 / max(candidates, 1),
    )


def least_win_rate(clusters: Sequence[str], seeds: int, candidates: int = 1) -> float:
    """How far from even a win rate must be to be found, if training again moved nothing and no pair were a tie."""
    pairs = len(clusters) * seeds
    return t_effect(EVEN / math.sqrt(pairs), len(set(clusters)) - 1, 1 - 0.05 / max(candidates, 1))


def _enough(floor: NoiseFloor, clusters: Sequence[str], seeds: int, gain: float, candidates: int) -> str:
    """What brings the smallest effect below half of what training does."""
    for more in range(seeds + 1, MOST_SEEDS + 1):
        if (mde := expected_mde(floor, clusters, more, candidates)) < gain / 2:
            return f"{more} seeds would find {mde:.3f}"
    for times in (2, 4, 8, 16):
        for more in (3, 6, MOST_SEEDS):
            if more >= seeds and (mde := expected_mde(floor, clusters, more, candidates, times=times)) < gain / 2:
                return f"{more} seeds on {len(clusters) * times:,} items would find {mde:.3f}"
    return "train longer, so that there is more to tell apart"
