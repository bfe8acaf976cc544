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


Pair = tuple[str, str]
"""An arm, and which it is compared with."""


def families_of(noted: Mapping[str, Any]) -> list[list[Pair]]:
    """What is compared, in families that are decided together: each is a question of its own.

    Every candidate with the baseline, then with its controls. In a sweep over settings, each version with the first one
    under every setting, then the first one under each setting with itself under the first.
    """
    if sweep := noted.get("sweep"):
        labels: dict[str, str] = sweep["labels"]
        first: dict[str, str] = {}  # the arm of the first version under each setting
        for arm in noted["arms"]:
            first.setdefault(labels[arm], arm)
        data = [(arm, first[labels[arm]]) for arm in noted["arms"] if arm not in first.values()]
        settings = [(arm, BASELINE) for arm in first.values() if arm != BASELINE]
        return [family for family in (data, settings) if family]
    of_baseline = [(arm, BASELINE) for arm in candidates_of(noted)]
    of_controls = [(arm, control) for control, made in controls_of(noted).items() for arm in made["of"]]
    return [family for family in (of_baseline, of_controls) if family]


def pairs_of(noted: Mapping[str, Any]) -> list[Pair]:
    """What is compared, family after family."""
    return [pair for family in families_of(noted) for pair in family]


def setting_of(noted: Mapping[str, Any], arm: str) -> str:
    """The hash of the setting that an arm is trained by."""
    own: dict[str, str] = noted.get("sweep", {}).get("settings", {})
    return own.get(arm, str(noted["setting"]))


def labels_of(noted: Mapping[str, Any]) -> dict[str, str]:
    """How each arm is called before people: its version, and what was done with it where it is that of another arm."""
    if sweep := noted.get("sweep"):
        several = len(set(noted["arms"].values())) > 1
        return {arm: f"{noted['arms'][arm]}, {label}" if several else label for arm, label in sweep["labels"].items()}
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
    settings: Mapping[str, str],
    budget: Budget,
    seeds: int,
    hashes: Mapping[str, str],
    whole: Sequence[str],
    runs: Sequence[Run],
    merged: int = 0,
) -> dict[str, str]:
    """What tells runs that are trained apart, whichever experiment they belong to, by run id. Arms in `whole` see all
    of their rows.

    `settings` are the hashes of how each arm is trained. How much a run trains by a budget in minutes depends on how
    many runs share them, hence on the seeds and arms, of which so many `merged` ones are measured only.
    """
    metrics = [spec.name for spec in DEFAULT_METRICS]
    shared: object = None
    if budget.minutes:
        shared = seeds if len(hashes) + merged < 3 else [seeds, len(hashes), *([merged] if merged else [])]
    keys = {}
    for run in runs:
        own = ["whole"] if run.arm in whole else []
        keys[run.id] = digest("run", settings[run.arm], shared, metrics, hashes[run.arm], run.seed, *own)
    return keys


def digest(*parts: object) -> str:
    """SHA-256 (hex) of what JSON makes of some values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
