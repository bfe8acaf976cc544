"""The report of a finished experiment: everything that answers what was asked, why, and how to repeat it.

The same experiment gives the same report: nothing of the day or the place it is written goes in.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from trainer.conversation import content_text
from trainer.plan import SHORT, STANDARD, ExperimentPlan
from trainer.verdict import MetricSpec
from workbench import results
from workbench.arms import BASELINE, CANDIDATE, is_noise, setting_of
from workbench.controls import SAID
from workbench.errors import Problem, UsageProblem
from workbench.experiment_command import command_line
from workbench.experiments import Question, asked
from workbench.failures.diagnose import diagnose
from workbench.formats.whole import check_free, whole_file
from workbench.report.contents import (
    AnswerPart,
    ArmPart,
    Contents,
    GonePart,
    ItemPart,
    ItemsPart,
    LeftPart,
    Masks,
    Origin,
    Repeat,
    RunPart,
    Stage,
)
from workbench.report.pairs import comparisons, pair
from workbench.report.verdict import metric_name, number
from workbench.results import Finished, Item
from workbench.store import experiments as rows
from workbench.store.versions import get_version
from workbench.text import counted
from workbench.text_diff import differing
from workbench.trained_masks import trained_masks
from workbench.workspace import Workspace

Progress = Callable[[int, int | None, str], None]

ITEMS = 10
"""Items that are shown with their answers, at either end."""
SAMPLES = 20
"""Rows that left which are shown for each pair of arms, some for each reason."""
ANSWER = 1500
"""Characters of a prompt or an answer that are shown."""
_PROMPT = 300
_RECIPE_LINES = 2000


def write_report(
    ws: Workspace,
    name: str,
    out: Path,
    *,
    force: bool = False,
    items: int = ITEMS,
    progress: Progress | None = None,
) -> str:
    """Write the report of an experiment (id, the start of one, or name) to a `.html` or `.md` file; returns its id.

    Raises NotFound; UsageProblem for another ending, a file that is there and no `force`, or no result yet.
    """
    write = _writer(out)
    check_free(out, force=force)
    if not out.parent.is_dir():  # said before the work, not after it
        raise UsageProblem("there is no such folder", where=str(out.parent), do="Make it, or name another with -o.")
    contents = gather(ws, name, items=items, progress=progress)
    with whole_file(out) as path:
        path.write_text(write(contents), encoding="utf-8", newline="\n")
    return contents.id


def _writer(out: Path) -> Callable[[Contents], str]:
    ending = out.suffix.lower()
    if ending in (".html", ".htm"):
        from workbench.report.html import html_report

        return html_report
    if ending in (".md", ".markdown"):
        from workbench.report.markdown import markdown_report

        return markdown_report
    raise UsageProblem("a report is HTML or Markdown", where=str(out), do="Give it a name that ends in .html or .md.")


def gather(ws: Workspace, name: str, *, items: int = ITEMS, progress: Progress | None = None) -> Contents:
    """What the report of an experiment says. Raises NotFound, or UsageProblem where there is no result yet."""
    shown = results.open_result(ws, name)
    row = rows.find_experiment(ws.store, shown.id)
    noted = json.loads(row.plan)
    job = ExperimentPlan.model_validate(noted["job"])
    spec = next((spec for spec in shown.metrics if spec.name == shown.result["primary"]), shown.metrics[0])
    versions: dict[str, str] = noted["arms"]
    trained = {arm: version for arm, version in versions.items() if arm not in job.merged}
    arms = [_arm(ws, arm, version, job, shown.result["settings"], progress) for arm, version in trained.items()]
    pairs = dict.fromkeys((versions[BASELINE], version) for arm, version in trained.items() if arm != BASELINE)
    whole = json.loads(row.result or "{}")
    return Contents(
        id=shown.id,
        name=shown.name,
        date=f"{row.created_at:%Y-%m-%d}",
        question=_question(shown, whole, spec),
        result=whole,
        views=[pair(whole, number) for number in range(max(len(shown.comparisons), 1))],
        margins={spec.name: spec.margin for spec in shown.metrics if spec.margin is not None},
        arms=arms,
        recipe_diffs=[(other.version, _recipe_diff(arms[0], other)) for other in arms[1:]],
        left=[_left(ws, *names) for a, b in pairs for names in dict.fromkeys(((a, b), (b, a)))],
        runs=_runs(ws, shown.id, noted, job),
        diagnosis=diagnose(ws, shown.id, progress),
        items=_items(ws, shown, spec, items),
        repeat=_repeat(ws, shown, whole, asked(row), job, noted),
    )


def _question(shown: Finished, whole: dict[str, Any], spec: MetricSpec) -> list[str]:
    result, settings = shown.result, shown.result["settings"]
    items = counted(len(shown.items), "item")
    on = f"measured by {metric_name(spec.name)} on the {items} of eval set {shown.evalset.name}"
    merged = {arm["arm"]: arm["label"] for arm in whole.get("arms", ()) if arm.get("merged")}
    trained = {arm: count for arm, count in whole["trained_tokens"].items() if arm not in merged}
    *most, last = [f"{count:,} ({arm})" for arm, count in trained.items()]
    tokens = f"{', '.join(most)} and {last}" if most else last
    how = (
        f"Every run starts from {settings['model']} and trains an adapter on {tokens} trained tokens; "
        f"{counted(result['seeds'], 'seed')} an arm."
    )
    if merged:
        how += f" Not trained, but made of their adapters, are {', '.join(merged.values())}."
    if settings.get("epochs"):
        how += f" That is {counted(settings['epochs'], 'epoch')} of its own rows for each arm."
    if CANDIDATE not in shown.arms:
        return [f"What does training on {shown.arms[BASELINE]} do to the model, {on}?", how]
    candidates = _or([one["candidate"] for one in comparisons(whole) if one["arm"] not in merged])
    than = f"than on {shown.arms[BASELINE]}"
    if merged:
        candidates += f", or made as {_or(list(merged.values()))},"
        than = f"than after training on {shown.arms[BASELINE]}"
    sentence = f"Is the model better after training on {candidates} {than}, {on}?"
    told = [sentence, f"{how} What differs is the data alone." if not settings.get("epochs") else how]
    return told + [
        f"Control {arm['arm']}: {SAID[arm['control']]} ({arm['version']}, {counted(arm['rows'], 'row')})."
        for arm in whole.get("arms", ())
        if arm["control"]
    ]


def _or(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


# Arms and their rows


def _arm(
    ws: Workspace,
    arm: str,
    version: str,
    job: ExperimentPlan,
    settings: dict[str, Any],
    progress: Progress | None,
) -> ArmPart:
    shown = ws.show_version(version)
    stages = []
    for stage in shown.stages:
        recipe = get_version(ws.store, stage.version).recipe if ws.store.version(stage.version) else None
        steps = [step.as_dict() for step in stage.steps]
        stages.append(Stage(stage.version, stage.inputs, stage.rows_in, stage.rows_out, steps, recipe))
    return ArmPart(
        arm=arm,
        version=version,
        rows=shown.version.rows,
        manifest_hash=shown.version.manifest_hash,
        # A path tells where somebody keeps files: its last part is enough beside the hash.
        origins=[
            Origin(o.source, PurePath(o.path).name or o.path, o.license, o.file_hash, o.rows) for o in shown.origins
        ],
        stages=stages,
        masks=_masks(ws, version, job, settings, progress),
    )


def _masks(
    ws: Workspace, version: str, job: ExperimentPlan, settings: dict[str, Any], progress: Progress | None
) -> Masks:
    try:
        report = trained_masks(ws, version, job, settings, progress)
    except Problem as problem:
        return Masks(missing=str(problem))
    audit = report.audit
    return Masks(
        verdict=audit.verdict(),
        rows=audit.rows,
        tokens=audit.tokens,
        trained=audit.trained,
        longest=audit.longest,
        limit=audit.limit,
        lost_trained=audit.lost_trained,
        issues=audit.counts,
    )


def _recipe_diff(baseline: ArmPart, other: ArmPart) -> list[str]:
    """The recipes of two arms, all stages one after another, as a unified diff with all that is alike; [] if equal."""
    ours, theirs = (_recipes(arm.stages) for arm in (baseline, other))
    found = list(difflib.unified_diff(ours, theirs, n=_RECIPE_LINES, lineterm=""))
    return found[3:_RECIPE_LINES]  # without the names of files, and of the one hunk


def _recipes(stages: Sequence[Stage]) -> list[str]:
    lines = []
    for stage in stages:
        lines.append(f"# from {', '.join(stage.inputs)}" + ("" if stage.recipe else ": frozen without a recipe"))
        lines += (stage.recipe or "").splitlines()
    return lines


def _left(ws: Workspace, a: str, b: str) -> LeftPart:
    found = ws.diff(a, b, SAMPLES)
    samples = [
        GonePart(
            source=gone.source,
            row=gone.row,
            reason=gone.reason,
            detail=gone.detail or "",
            survivor=f"{gone.survivor[0]} row {gone.survivor[1]:,}" if gone.survivor else "",
            similarity=gone.similarity,
            prompt=_last_question(json.loads(gone.messages))[:_PROMPT],
        )
        for gone in found.gone
    ]
    return LeftPart(a, b, found.removed, found.by_reason, samples)


def _last_question(messages: Sequence[dict[str, Any]]) -> str:
    return next((content_text(m.get("content")) for m in reversed(messages) if m["role"] == "user"), "")


# Runs and items


def _stored_runs(ws: Workspace, id: str, noted: dict[str, Any], job: ExperimentPlan) -> list[rows.RunRow]:
    """The trained runs of the experiment in the order of its plan."""
    settings = dict.fromkeys(setting_of(noted, arm) for arm in noted["arms"])
    found = {run.id: run for setting in settings for run in rows.runs_with(ws.store, setting)}
    return [found[f"{id}/{run.id}"] for run in job.runs if f"{id}/{run.id}" in found]


def _runs(ws: Workspace, id: str, noted: dict[str, Any], job: ExperimentPlan) -> list[RunPart]:
    parts = []
    for run in _stored_runs(ws, id, noted, job):
        summary = json.loads(run.summary)
        if run.arm in job.merged:
            continue
        losses, checks = summary.get("losses", []), summary.get("sanity", {})
        parts.append(RunPart(run.arm, run.seed, losses, summary.get("trained_tokens", 0), checks))
    return parts


def _items(ws: Workspace, shown: Finished, spec: MetricSpec, most: int) -> ItemsPart:
    if CANDIDATE not in shown.arms:
        step = max(1, len(shown.items) // max(most, 1))
        sample = [_item(ws, shown, item, spec) for item in shown.items[::step][:most]]
        return ItemsPart(len(shown.items), {}, sample=sample)
    sign = 1 if spec.higher_is_better else -1
    moved = sorted(
        (item for item in shown.items if item.won(spec) in ("better", "worse")),
        key=lambda item: (sign * (item.change(spec.name) or 0.0), item.item),
    )
    worst = [item for item in moved[:most] if item.won(spec) == "worse"]
    best = [item for item in reversed(moved[-most:] if most else []) if item.won(spec) == "better"]
    return ItemsPart(
        total=len(shown.items),
        tally=dict(shown.tally(spec).items()),
        worst=[_item(ws, shown, item, spec) for item in worst],
        best=[_item(ws, shown, item, spec) for item in best],
    )


def _item(ws: Workspace, shown: Finished, item: Item, spec: MetricSpec) -> ItemPart:
    whole = results.item_answers(ws, shown, item.item)
    texts = {answer.arm: answer.text[:ANSWER] for answer in whole.answers}
    other = {BASELINE: texts.get(CANDIDATE), CANDIDATE: texts.get(BASELINE)}
    answers = []
    for answer in whole.answers:
        text, against = texts[answer.arm], other.get(answer.arm)
        pieces = [(text, False)] if against is None else differing(text, against)
        answers.append(AnswerPart(answer.arm, answer.seed, pieces, answer.length, answer.finish))
    prompt = _last_question(whole.asked)
    return ItemPart(item.item, _clipped(prompt), _clipped(whole.reference), item.change(spec.name), answers)


def _clipped(text: str) -> str:
    return text if len(text) <= ANSWER else f"{text[:ANSWER]}… ({len(text):,} characters)"


# Repeating it


def _repeat(
    ws: Workspace,
    shown: Finished,
    whole: dict[str, Any],
    question: Question,
    job: ExperimentPlan,
    noted: dict[str, Any],
) -> Repeat:
    settings = shown.result["settings"]
    steps, per_step = settings["steps"], settings["training"]["tokens_per_step"]
    trained = {arm: version for arm, version in noted["arms"].items() if arm not in job.merged}
    facts = [
        ("experiment", shown.id),
        *((f"{arm}: version and manifest hash", _named_hash(ws, version)) for arm, version in trained.items()),
        *(("an arm that is not trained", noted["arms"][arm]) for arm in job.merged),
        ("eval set and manifest hash", f"{shown.evalset.name} {shown.evalset.manifest_hash}"),
        ("model", job.model.name),
        ("model revision", str(settings.get("revision") or job.model.revision)),
        ("weights held as", f"{settings['held']}, {settings['dtype']}"),
        *((f"seeds of {arm}", _seeds(job, arm)) for arm in noted["arms"]),
        ("optimizer steps a run", f"{_steps(settings, whole)} of {per_step:,} trained tokens"),
    ]
    if any(is_noise(run.id) for run in job.runs):
        facts.append(("run for the noise floor", "the baseline with seed 1000"))
    told = {"training": settings["training"], "masks": job.policy.model_dump(), "answers": job.evaluation.model_dump()}
    values = [
        (
            f"{part}: {name.replace('_', ' ')}",
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
        )
        for part, of in told.items()
        for name, value in of.items()
        if (part, name) != ("answers", "items")
    ]
    command, notes = command_line(question)
    commands = [command]
    if question.minutes:
        # Of so many tokens another preset might be the usual one than of the minutes.
        preset = {known.preset: known for known in (SHORT, STANDARD)}.get(settings["training"]["preset"])
        training = question.training or preset
        exact = replace(question, minutes=None, trained_tokens=steps * per_step, training=training)
        commands.append(command_line(exact)[0])
        notes.append(
            f"What {question.minutes:g} minutes buy is measured, and differs between machines: the second command "
            f"trains as much as this experiment did, {number(steps * per_step / 1000)} thousand tokens a run."
        )
    return Repeat(facts, values, _environments(ws, shown.id, noted, job), commands, notes)


def _seeds(job: ExperimentPlan, arm: str) -> str:
    return ", ".join(str(run.seed) for run in job.runs if run.arm == arm and not is_noise(run.id))


def _steps(settings: dict[str, Any], whole: dict[str, Any]) -> str:
    """The optimizer steps of each arm, where they differ."""
    of_arms = {arm["arm"]: arm["steps"] for arm in whole.get("arms", ()) if not arm.get("merged")}
    if len(set(of_arms.values())) < 2:
        return f"{next(iter(of_arms.values()), settings['steps']):,}"
    return ", ".join(f"{steps:,} ({arm})" for arm, steps in of_arms.items())


def _named_hash(ws: Workspace, version: str) -> str:
    return f"{version} {get_version(ws.store, version).manifest_hash}"


def _environments(
    ws: Workspace, id: str, noted: dict[str, Any], job: ExperimentPlan
) -> list[tuple[str, dict[str, str]]]:
    """What runs were computed with, once for all that share it; runs of older releases did not note it."""
    found: dict[str, list[str]] = {}
    for run in _stored_runs(ws, id, noted, job):
        noted_there = json.dumps(json.loads(run.summary).get("environment", {}))
        found.setdefault(noted_there, []).append(run.id.partition("/")[2])
    return [(", ".join(runs), json.loads(text)) for text, runs in found.items()]
