"""The arms of an experiment: how they are called, what each is for, which runs they need, and what tells runs apart.

The first is the baseline, then the candidates that are compared with it, then the controls, by which candidates are
measured, then candidates that are not trained but merged of others (see `workbench.merged_arms`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.plan import Budget, Run
from trainer.verdict import DEFAULT_METRICS

BASELINE = "baseline"
CANDIDATE = "candidate"
NOISE = "noise"
"""The arm, in the table `runs`, of a run that only measures how far training alone moves the baseline."""

_NOISE_SEED = 1000


def candidate_arms(count: int) -> list[str]:
    """The names of so many candidate arms: `candidate`, `candidate2`, `candidate3` ..."""
    return [CANDIDATE, *(f"{CANDIDATE}{number}" for number in range(2, count + 1))][:count]


def is_noise(run: str) -> bool:
    """Whether the run of that id only measures the noise, and is no part of the comparison."""
    return run == f"{BASELINE}-{NOISE}"


def controls_of(noted: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The control arms of an experiment as it was noted: for each its `kind` and the candidate arms it is `of`."""
    controls: dict[str, dict[str, Any]] = noted.get("controls", {})
    return controls


def candidates_of(noted: Mapping[str, Any]) -> list[str]:
    """The candidate arms of an experiment as it was noted."""
    return [arm for arm in noted["arms"] if arm != BASELINE and arm not in controls_of(noted)]


def pairs_of(noted: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is compared: (arm, against which), every candidate with the baseline first, then with its controls."""
    pairs = [(arm, BASELINE) for arm in candidates_of(noted)]
    return pairs + [(arm, control) for control, made in controls_of(noted).items() for arm in made["of"]]


def labels_of(noted: Mapping[str, Any]) -> dict[str, str]:
    """How each arm is called before people: its version, and what was done with it where it is that of another arm."""
    controls = controls_of(noted)
    whole = {arm for arm, made in controls.items() if made["kind"] == "full"}
    return {arm: f"all of {version}" if arm in whole else version for arm, version in noted["arms"].items()}


def plan_runs(hashes: Mapping[str, str], seeds: int, *, measure_noise: bool) -> list[Run]:
    """Every arm with every seed; `hashes` are of each arm's rows, as they are trained.

    Arms of equal data get different seeds: the same run twice tells nothing. One seed alone needs a second run of the
    baseline, unless the noise of this setting is known already.
    """
    before = {arm: list(hashes.values())[:place].count(hashes[arm]) for place, arm in enumerate(hashes)}
    runs = []
    for seed in range(seeds):
        for arm in hashes:
            own = seed + seeds * before[arm]
            runs.append(Run(id=f"{arm}-{own}", arm=arm, seed=own))
    if seeds == 1 and measure_noise and len(hashes) > 1:
        runs.append(Run(id=f"{BASELINE}-{NOISE}", arm=BASELINE, seed=_NOISE_SEED))
    return runs


def run_keys(
    setting: str,
    budget: Budget,
    seeds: int,
    hashes: Mapping[str, str],
    whole: Sequence[str],
    runs: Sequence[Run],
    merged: int = 0,
) -> dict[str, str]:
    """What tells runs that are trained apart, whichever experiment they belong to, by run id. Arms in `whole` see all
    of their rows.

    How much a run trains by a budget in minutes depends on how many runs share them, hence on the seeds and arms, of
    which so many `merged` ones are measured only.
    """
    metrics = [spec.name for spec in DEFAULT_METRICS]
    shared: object = None
    if budget.minutes:
        shared = seeds if len(hashes) + merged < 3 else [seeds, len(hashes), *([merged] if merged else [])]
    keys = {}
    for run in runs:
        own = ["whole"] if run.arm in whole else []
        keys[run.id] = digest("run", setting, shared, metrics, hashes[run.arm], run.seed, *own)
    return keys


def digest(*parts: object) -> str:
    """SHA-256 (hex) of what JSON makes of some values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
