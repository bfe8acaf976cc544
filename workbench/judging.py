"""Judging the rows of a source or version: what it would take, having it done, and how far people agree."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.consent import Agrees, ConsentedJobs, Keys, Tally, within_budget
from workbench.draft import LABELS
from workbench.errors import Stopped, UsageProblem
from workbench.scoring import ScoreJobs
from workbench.store.labels import labelled
from workbench.store.members import Members, resolve
from workbench.store.scores import StoredScores
from workbench.text import counted

if TYPE_CHECKING:
    from filters.judge.agreement import Agreement
    from filters.judge.step import Judge
    from filters.step import JobScorer, Progress, Row, Score
    from workbench.workspace import Workspace


@dataclass(frozen=True)
class Preflight:
    """What judging would take. `contents` are distinct rows, of which `known` have a score already.

    Calls, tokens and cost are as in `consent.Calls`.
    """

    scorer: str
    fingerprint: str
    judge: str
    rows: int
    contents: int
    known: int
    calls: int
    prompt_tokens: int
    reply_tokens: int
    cost: float | None


@dataclass
class Ratings:
    """What a judge said of the rows of a source or version, each content once."""

    values: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    unscored: int = 0
    injected: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rated": len(self.values),
            "mean": statistics.fmean(self.values) if self.values else None,
            "ratings": {str(rating): n for rating, n in sorted(Counter(round(v) for v in self.values).items())},
            "errors": dict(self.errors.most_common()),
            "unscored": self.unscored,
            "injected": self.injected,
        }


@dataclass(frozen=True)
class Judged:
    """A finished judging: its ratings, and what this run of it spent (`filters.judge.spending.Usage`)."""

    ratings: Ratings
    usage: dict[str, Any] | None


def judge_step(workspace: Workspace, given: dict[str, Any]) -> Judge:
    """The step `judge` with the parameters `given`, who judges taken from the settings where none of them says so.

    Raises UsageProblem for parameters that do not fit.
    """
    from pydantic import ValidationError

    from filters.judge.step import Judge, JudgeParams

    default = workspace.config.step_defaults().get("judge", {})
    try:
        return Judge(JudgeParams(**(given if given.keys() & default.keys() else given | default)))
    except ValidationError as error:
        first = error.errors()[0]
        what = first["msg"].removeprefix("Value error, ")
        spot = str(first["loc"][0]) if first["loc"] else "judge"
        raise UsageProblem(what, where=spot, do="See `workbench judge score --help`.") from None


def preflight(workspace: Workspace, name: str, step: Judge) -> Preflight:
    """What it would take to judge the rows of `name`. Nothing is asked yet."""
    from filters.judge.plan import Endpoint, JudgePlan

    scorer, backend = _scorer(step), step.params.judge()
    tally = Tally(JudgePlan.model_validate(scorer.plan))
    contents = rows = known = 0
    for batch, fresh, scores in _walk(workspace, name, scorer):
        rows += batch
        contents += len(fresh)
        settled = {key for key, score in scores.items() if score.state != "error"}
        known += len(settled)
        for row in fresh:
            if row.content_hash not in settled:
                tally.add(row)
    there = f"at {backend.base_url}" if isinstance(backend, Endpoint) else "on this machine"
    counts = (rows, contents, known, tally.calls, tally.prompt_tokens, tally.reply_tokens, tally.cost)
    return Preflight(scorer.name, scorer.fingerprint, f"{backend.model} {there}", *counts)


@dataclass(frozen=True)
class Asking:
    """How a judge is asked: by whose leave, with which key, and who watches.

    `key_variable` names another environment variable than the settings do. The address is one that the user named:
    on the command line or in the settings, not in a recipe.
    """

    agrees: Agrees = within_budget
    key_variable: str | None = None
    progress: Progress | None = None
    cancelled: Callable[[], bool] = lambda: False

    def compute(
        self, workspace: Workspace, step: Judge, scorer: JobScorer, rows: Iterable[list[Row]]
    ) -> dict[str, Any] | None:
        """Have `rows` judged that have no score by `scorer` yet, and say what that spent; None where nothing was asked.

        Raises ConsentNeeded, Stopped, also where the budget ends it, and ModelUnavailable where there is no judge.
        """
        from filters.pipeline import compute_missing

        spent: list[dict[str, Any]] = []
        jobs = ScoreJobs(workspace.runs_dir, self.progress, self.cancelled, spent.append)
        keys = Keys.of(workspace.config, step.params.base_url, variable=self.key_variable)
        with closing(StoredScores(workspace.store)) as scores:
            compute_missing(scorer, rows, scores, ConsentedJobs(jobs, keys, self.agrees))
        return {key: value for key, value in spent[-1].items() if key not in ("t", "event")} if spent else None


def judge_rows(workspace: Workspace, name: str, step: Judge, asking: Asking) -> Judged:
    """Have the rows of `name` judged that have no score yet; a stop or a failure loses none that is there.

    Raises as `Asking.compute`.
    """
    from filters.remaining import parsed

    scorer = _scorer(step)
    try:
        with closing(members_of(workspace, name)) as members:
            usage = asking.compute(workspace, step, scorer, parsed(members.batches))
    except Stopped as stopped:
        there = ratings(workspace, name, scorer)
        told = f"{stopped.what.rstrip('.')}: {counted(len(there.values), 'row')} of {name} rated so far"
        raise Stopped(told, do=stopped.do) from None
    return Judged(ratings(workspace, name, scorer), usage)


def ratings(workspace: Workspace, name: str, scorer: JobScorer) -> Ratings:
    """The scores that rows of `name` have, each content once."""
    found = Ratings()
    for _, _, scores in _walk(workspace, name, scorer):
        for score in scores.values():
            found.injected += score.label == "injected"
            if score.value is not None:
                found.values.append(score.value)
            elif score.state == "error":
                found.errors[score.label or "error"] += 1
            else:
                found.unscored += 1
    return found


@dataclass(frozen=True)
class Compared:
    """A judge beside people. `left_out` labels are of the other kind, `unrated` labelled rows have no rating."""

    scorer: str
    labels: str
    agreement: Agreement
    left_out: int
    unrated: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        about = {"scorer": self.scorer, "labels": self.labels, "left_out": self.left_out, "unrated": self.unrated}
        return about | asdict(self.agreement)


def compare_with_people(workspace: Workspace, name: str, step: Judge, field: str | None = None) -> Compared:
    """How far the judge of `step` agrees with the labels that people gave rows of `name`.

    Labels are those given in Browse, or with `field` those of that name in the rows' metadata: good and bad, or 1 to 5;
    where both kinds occur, the more frequent one counts. Raises UsageProblem where there is nothing to compare.
    """
    from filters.judge.agreement import agreement

    if step.rubric is None:
        raise UsageProblem("a reward model has a scale of its own", do="Compare a judge that has a rubric.")
    scorer = _scorer(step)
    labels = labelled(workspace.store, resolve(workspace.store, name), field)
    known = {key: label for key, label in labels.items() if label in LABELS}
    if not known:
        raise UsageProblem(
            f"no row of {name} has a label" + (f" in its metadata field {field!r}" if field else ""),
            do="Label rows in Browse with good or bad, or 1 to 5; or name a metadata field with --field.",
        )
    words = {key: float(label == "good") for key, label in known.items() if label in ("good", "bad")}
    numbers = {key: float(label) for key, label in known.items() if label not in ("good", "bad")}
    people, kind = (words, "good/bad") if len(words) >= len(numbers) else (numbers, "1-5")
    judged: list[tuple[float, float, int]] = []
    unrated = 0
    for _, fresh, scores in _walk(workspace, name, scorer):
        for row in fresh:
            if row.content_hash not in people:
                continue
            score = scores.get(row.content_hash)
            if score is None or score.value is None:
                unrated += 1
            else:
                judged.append((score.value, people[row.content_hash], len(row.text("response"))))
    if not judged:
        raise UsageProblem(
            f"none of the {counted(len(people), 'labelled row')} has a rating by this judge",
            where=scorer.name,
            do=f"Run `workbench judge score {name}` with the same options first.",
        )
    a, b, lengths = zip(*judged, strict=True)
    found = agreement(a, b, lengths, step.rubric.scale)
    return Compared(scorer.name, kind, found, len(labels) - len(people), unrated)


def _scorer(step: Judge) -> JobScorer:
    (scorer,) = step.scorers
    return scorer


def members_of(workspace: Workspace, name: str) -> Members:
    """The rows of `name` as people left them by hand."""
    return Members(workspace.store, [resolve(workspace.store, name)], drafted=True)


def _walk(workspace: Workspace, name: str, scorer: JobScorer) -> Iterator[tuple[int, list[Row], dict[str, Score]]]:
    """For each batch: how many rows, those with contents not seen before, and the scores that these have."""
    from filters.remaining import parsed

    seen = set[str]()
    with closing(members_of(workspace, name)) as members, closing(StoredScores(workspace.store)) as kept:
        for batch in parsed(members.batches):
            fresh = list({row.content_hash: row for row in batch if row.content_hash not in seen}.values())
            seen.update(row.content_hash for row in fresh)
            known = kept.get([row.content_hash for row in fresh], scorer.name, scorer.fingerprint)
            yield len(batch), fresh, dict(known)
