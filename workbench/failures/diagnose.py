"""`workbench experiments diagnose`: the classic failures of fine-tuning, measured on base and arms, with likely causes.

A failure is found in an arm where its answers show it at least `MARGIN` more often than the references do (than the
base's, where there are no references to ask), and an exact or paired test says so after Holm's correction over all that
was looked for. It is *brought* where the base shows it less, by the same margin and test; else it is *kept*: training
neither brought nor cured it. Thresholds and what they were chosen by: docs/diagnosis.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trainer.plan import BASE
from trainer.statistics import holm, paired_difference, paired_share_difference
from workbench.failures import symptoms
from workbench.failures.case import Case, Floats, Tick, open_case, training_rows
from workbench.failures.causes import Causes
from workbench.failures.phrases import LEAST_SHARE, Phrase, over_represented
from workbench.failures.signs import LEAST_ITEMS, REFERENCES, Quotes, Signs, mark, runs_on, same_start
from workbench.report.failures import TITLES, Diagnosis, Finding, Kind, Look, Reading, Shown
from workbench.workspace import Workspace

MARGIN = 0.1
"""Share of the answers: what a person sees who reads ten. On answers of data sets the signs err in 1.5% at most."""

NLL_MARGIN = 0.02
"""Nats a token: twice what two seeds of one setting lie apart. Training that works lowers the loss by 0.03 to 0.4."""

GENERAL_MARGIN = 0.05
"""Nats a token of general text: the margin of the guardrail."""

GAIN_MARGIN = 0.15
"""Nats a token: sound training moved prompt gain by 0.04 at most, shuffled answers took 0.4 of 0.75."""

SYSTEM_MARGIN = 0.1
"""Nats a token of system gain: two seeds lay 0.01 apart, rows that heed system turns and rows that do not 0.11."""

STILL = 0.5
"""A failure in more than half of the answers is one, even where training made it rarer."""

GENERAL = ("general_nll",)
"""Metrics that are measured on windows of general text, not on items."""

ALPHA = 0.05
SHOWN = 5  # answers that show a finding


@dataclass(frozen=True)
class _Test:
    """An arm's difference from what it is held against, positive where it is worse, by the look's unit."""

    failure: str
    arm: str
    p: float
    worse: bool
    kind: Kind
    against: str


def diagnose(ws: Workspace, name: str, progress: Tick | None = None) -> Diagnosis:
    """Look for the failures in a finished experiment. Raises NotFound, or UsageProblem where there is no result yet."""
    case = open_case(ws, name)
    quotes = Quotes(case)
    for arm in case.versions:
        quotes.read(arm, training_rows(ws, case, arm, progress))
    signs = {
        "continues": mark(case, lambda question, given: symptoms.continues(question, given.text)),
        "runs-on": runs_on(case),
        "loops": mark(case, lambda _, given: symptoms.loops(given.text)),
        "garbled": mark(case, lambda question, given: symptoms.garbled(question, given.text)),
        "quotes": quotes.signs(),
        "same-start": same_start(case),
    }
    looks, tests = [], []
    for failure, found in signs.items():
        looks.append(_look_at_shares(failure, found))
        tests += [] if found.missing else _share_tests(case, failure, found)
    for look, some in (_knowledge(case), _listening(case), _listening_to_system(case)):
        looks.append(look)
        tests += some
    found_phrases = _phrases(case)
    looks.insert(6, _phrase_look(case, found_phrases))
    corrected = holm([test.p for test in tests]) if tests else []
    causes = Causes(ws, case, quotes, signs["quotes"], progress)
    by_failure = {look.failure: look for look in looks}
    findings = [
        Finding(
            test.failure,
            test.arm,
            test.kind,
            _sentence(case, by_failure[test.failure], test, p),
            p,
            causes.of(test.failure, test.arm, test.kind),
            _shown(signs.get(test.failure), test.arm),
        )
        for test, p in zip(tests, corrected, strict=True)
        if test.worse and p < ALPHA
    ]
    findings += [
        Finding("phrase", arm, "brought", _phrase_sentence(case, arm, phrase), phrase.p, causes.of_phrase(arm, phrase))
        for arm, phrases in found_phrases.items()
        for phrase in phrases
    ]
    order = list(TITLES)
    findings.sort(key=lambda f: (f.kind != "brought", order.index(f.failure), list(case.versions).index(f.arm)))
    scope = "any seed of this setting" if case.seeds > 1 else "these runs; more seeds tell of others"
    return Diagnosis(case.id, case.versions, len(case.questions), case.seeds, scope, looks, findings, case.labels)


def _share_tests(case: Case, failure: str, signs: Signs) -> list[_Test]:
    tests = []
    for arm in case.versions:
        ours = signs.tables[arm]
        to_base = _compared(signs.tables[BASE], ours, case.clusters)
        references = signs.tables.get(REFERENCES)
        to_references = None if references is None else _compared(references, ours, case.clusters)
        if to_base is None and to_references is None:
            continue
        more_than_base = bool(to_base and to_base[0] >= MARGIN and to_base[1] < ALPHA)
        less_than_base = bool(to_base and to_base[0] < 0 and to_base[1] < ALPHA)
        held = to_references or to_base
        assert held is not None
        still = not less_than_base or float(np.nanmean(ours)) > STILL
        tests.append(
            _Test(
                failure,
                arm,
                held[1] if not more_than_base or to_base is None else max(held[1], to_base[1]),
                held[0] >= MARGIN and (more_than_base or (to_references is not None and still)),
                "brought" if more_than_base else "kept",
                REFERENCES if to_references else BASE,
            )
        )
    return tests


def _compared(control: Floats, ours: Floats, clusters: Sequence[str]) -> tuple[float, float] | None:
    """Difference of shares and its p: McNemar's for one run, else that of runs x items; None without a common item."""
    control = np.repeat(control[:1], len(ours), axis=0) if len(control) == 1 else control
    if np.isnan(control + ours).any(0).all():
        return None
    found = paired_share_difference(control, ours, clusters=clusters)
    return found.delta, found.p


def _look_at_shares(failure: str, signs: Signs) -> Look:
    readings = []
    for column, table in signs.tables.items():
        known = ~np.isnan(table).all(0)
        if known.any():
            share, n = float(np.nanmean(table)), int(known.sum())
            ends = stats.binomtest(round(share * n), n).proportion_ci(method="wilson")
            readings.append(Reading(column, share, float(ends.low), float(ends.high), n))
    return Look(failure, "share", readings, signs.missing)


def _means(case: Case, failure: str, metric: str, margin: float, sign: int, note: str = "") -> tuple[Look, list[_Test]]:
    """A metric in nats: worse where the arm is `margin` beyond the base, upwards (`sign` 1) or downwards (-1)."""
    tables = case.metrics.get(metric, {})
    if BASE not in tables or len(tables) == 1:
        return Look(failure, "nats", missing=f"{metric} was not measured"), []
    keep: NDArray[np.bool_] = ~np.isnan(np.concatenate(list(tables.values()))).any(axis=0)
    if keep.sum() < LEAST_ITEMS:
        return Look(failure, "nats", missing=f"{int(keep.sum())} items have it; it takes {LEAST_ITEMS}"), []
    clusters = None
    if metric not in GENERAL:
        clusters = [cluster for cluster, kept in zip(case.clusters, keep, strict=True) if kept]
    readings, tests = [], []
    for column in (name for name in (BASE, *case.versions) if name in tables):
        ours = tables[column][:, keep]
        means = ours.mean(axis=0)
        half = float(stats.t.ppf(0.975, len(means) - 1) * stats.sem(means))
        value = float(means.mean())
        readings.append(Reading(column, value, value - half, value + half, len(means)))
        if column != BASE:
            base = np.repeat(tables[BASE][:, keep], len(ours), axis=0)
            found = paired_difference(base, ours, clusters=clusters)
            tests.append(_Test(failure, column, found.p, sign * found.delta >= margin, "brought", BASE))
    return Look(failure, "nats", readings, note=note), tests


def _knowledge(case: Case) -> tuple[Look, list[_Test]]:
    if BASE in case.metrics.get("general_nll", {}):
        return _means(case, "knowledge", "general_nll", GENERAL_MARGIN, 1, note="nats a token on general text")
    note = "nats a token on the eval set's answers, which is a weak sign: general text was not measured"
    return _means(case, "knowledge", "response_nll", NLL_MARGIN, 1, note=note)


def _listening(case: Case) -> tuple[Look, list[_Test]]:
    return _means(case, "prompt", "prompt_gain", GAIN_MARGIN, -1)


def _listening_to_system(case: Case) -> tuple[Look, list[_Test]]:
    if case.systems.sum() < LEAST_ITEMS:
        return Look(
            "system", "nats", missing=f"{int(case.systems.sum())} items have a system turn; it takes {LEAST_ITEMS}"
        ), []
    look, tests = _means(case, "system", "system_gain", SYSTEM_MARGIN, -1)
    return look, [test if test.worse else _beside_best(case, look, test) for test in tests]


def _beside_best(case: Case, look: Look, test: _Test) -> _Test:
    """The test of an arm's system gain against that arm which gains most: it shows that the system turns can be heeded.

    What lies below such an arm and no lower than the base is as deaf as the base was.
    """
    others = {r.column: r.value for r in look.readings if r.column not in (BASE, test.arm)}
    if not others:
        return test
    tables = case.metrics["system_gain"]
    best = max(others, key=lambda arm: others[arm])
    keep = ~np.isnan(np.concatenate(list(tables.values()))).any(axis=0)
    clusters = [cluster for cluster, kept in zip(case.clusters, keep, strict=True) if kept]
    found = paired_difference(tables[best][:, keep], tables[test.arm][:, keep], clusters=clusters)
    worse = found.delta <= -SYSTEM_MARGIN
    return _Test(test.failure, test.arm, min(1.0, found.p * len(others)), worse, "kept", best) if worse else test


def _phrases(case: Case) -> dict[str, list[Phrase]]:
    base = [runs[0].text for runs in case.given[BASE]]
    return {
        arm: over_represented([[given.text for given in runs] for runs in case.given[arm]], base, case.references)
        for arm in case.versions
    }


def _phrase_look(case: Case, found: dict[str, list[Phrase]]) -> Look:
    n = len(case.questions)
    readings = []
    for arm, phrases in found.items():
        most = max((phrase.items for phrase in phrases), default=0)
        ends = stats.binomtest(most, n).proportion_ci(method="wilson")
        readings.append(Reading(arm, most / n, float(ends.low), float(ends.high), n))
    return Look("phrase", "share", readings, note=f"the one that comes most, from {LEAST_SHARE:.0%} of the items up")


def _shown(signs: Signs | None, arm: str) -> list[Shown]:
    if signs is None:
        return []
    mine = sorted((item, run) for column, item, run in signs.pieces if column == arm)
    items = dict.fromkeys(item for item, _ in mine)
    return [Shown(item, signs.pieces[arm, item, next(r for i, r in mine if i == item)]) for item in list(items)[:SHOWN]]


def amount(reading: Reading, unit: str) -> str:
    """A reading in words: a share in percent, or nats."""
    return f"{reading.value:.0%}" if unit == "share" else f"{reading.value:.2f} nats"


def _sentence(case: Case, look: Look, test: _Test, p: float) -> str:
    by_column = {reading.column: reading for reading in look.readings}
    ours = by_column[test.arm]
    wide = f"{ours.low:.0%} to {ours.high:.0%}" if look.unit == "share" else f"{ours.low:.2f} to {ours.high:.2f}"
    beside = [
        f"{'the base' if column == BASE else column} {amount(by_column[column], look.unit)}"
        for column in (REFERENCES, BASE, *case.versions)
        if column in by_column and column != test.arm
    ]
    return f"{amount(ours, look.unit)} (95% interval {wide}); {', '.join(beside)}; {_p(p)}"


def _phrase_sentence(case: Case, arm: str, phrase: Phrase) -> str:
    n = len(case.questions)
    known = sum(reference is not None for reference in case.references)
    against = f", {phrase.references} of {known} references" if known else ""
    return (
        f'"{phrase.text}" in the answers to {phrase.items} of {n} items; {phrase.base} of the base\'s{against}; '
        f"{_p(phrase.p)}"
    )


def _p(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}" if math.isfinite(p) else "p unknown"
