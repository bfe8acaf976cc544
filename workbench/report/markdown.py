"""A report as Markdown: for a pull request, where a picture or a script has no place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple
from typing import Any

from workbench.markdown import code_block, plain, table
from workbench.report.contents import ArmPart, Contents, ItemPart, ItemsPart, LeftPart, Repeat, RunPart, arm_name
from workbench.report.diagnosed import diagnosis_markdown
from workbench.report.intervals import HEAD, interval_bar
from workbench.report.pairs import arms, comparisons
from workbench.report.slices import ABOUT, LISTED, other_slices, slice_tables
from workbench.report.sweep import ABOUT as ABOUT_SETTINGS
from workbench.report.sweep import HEADER, data_sentences, settings_table
from workbench.report.verdict import (
    RANKED,
    SMALLEST,
    checks,
    items_title,
    left_out,
    metric_name,
    number,
    ranking,
    recited,
    sentences,
    view_title,
)
from workbench.text import counted


def markdown_report(contents: Contents) -> str:
    """The whole report; texts from data are escaped, and answers stand in blocks that no text can close."""
    result = dict(contents.result)
    parts = [f"# {plain(contents.title)}"]
    compared = comparisons(result)
    for one in compared:
        of = f" of {plain(one['candidate'])}" if len(compared) > 1 else ""
        parts.append(f"**Verdict{of}: {plain(one['verdict'])}**, for {plain(one['scope'])}.")
    parts.append(f"Experiment {plain(contents.id)} of {contents.date} (UTC)")
    parts += ["## The question", *map(plain, contents.question)]
    if settings := settings_table(result):
        rows = [list(map(plain, astuple(row))) for row in settings]
        parts += ["## All settings", table(list(HEADER), rows, right=range(1, len(HEADER))), ABOUT_SETTINGS]
        parts += [plain(sentence) for sentence in data_sentences(result)]
    elif len(arms(result)) > 2:
        parts += ["## All arms", *_ranking(result)]
    for view in map(dict, contents.views):
        parts += [f"## {plain(view_title(view, len(contents.views)))}", *_measured(contents, view)]
    parts += ["## The arms", *(part for arm in contents.arms for part in _arm(arm))]
    if len(contents.arms) > 1:
        parts += ["## What differs in the data"]
        for version, diff in contents.recipe_diffs:
            parts += _recipes(diff, f"Recipes: {plain(version)}" if len(contents.recipe_diffs) > 1 else "Recipes")
        parts += [part for left in contents.left for part in _left(left)]
    parts += ["## What is trained: the masks", *_masks(contents.arms)]
    parts += ["## The runs", _runs(contents.runs)]
    parts += [plain(note) for note in (checks(result), left_out(result), *recited(result)) if note]
    parts += ["## Diagnosis", *diagnosis_markdown(contents.diagnosis)]
    parts += [f"## {plain(items_title(contents.views))}", *_items(contents.items)]
    parts += ["## To repeat it", *_repeat(contents.repeat)]
    return "\n\n".join(parts) + "\n"


def _ranking(result: dict[str, Any]) -> Iterator[str]:
    rows = [
        [one.place, plain(one.label), one.rows, one.trained_tokens, number(one.mean), plain(one.said)]
        for one in ranking(result)
    ]
    header = ["place", "arm", "rows", "trained tokens", metric_name(result["ranked_by"]), "verdict"]
    yield table(header, rows, right=(0, 2, 3, 4))
    yield RANKED


def _measured(contents: Contents, result: dict[str, Any]) -> Iterator[str]:
    if not result["verdict"]:
        base = result["means"]["base"]
        rows = [[plain(metric_name(n)), number(base.get(n)), number(v)] for n, v in result["means"]["baseline"].items()]
        yield table(["metric", "base", "trained"], rows, right=(1, 2))
        return
    header = ["metric", "role", "better", "base", "baseline", "candidate", "change", "95% interval", "smallest found"]
    rows = []
    for metric in result["metrics"]:
        low, high = metric["ci"]
        cells = [
            plain(metric_name(metric["name"])),
            metric["role"],
            "higher" if metric["higher_is_better"] else "lower",
            number(result["means"]["base"].get(metric["name"])),
            number(metric["baseline"]),
            number(metric["candidate"]),
            number(metric["delta"], signed=True),
            "unknown" if low is None else f"{number(low, signed=True)} to {number(high, signed=True)}",
            "unknown" if metric["mde"] is None else number(metric["mde"]),
            metric["verdict"],
        ]
        rows.append(cells)
    yield table([*header, "verdict"], rows, right=range(3, 9))
    yield f"Means over items and seeds. Smallest found: {SMALLEST}."
    yield code_block(_bars(contents, result["metrics"]), "text")
    if result.get("shifts"):
        yield (
            "How the length and shape of answers moved: told, and no part of the verdict. List, code and heading are "
            "shares of answers that have one."
        )
        yield table(
            ["of an answer", "base", "baseline", "candidate", "change", "95% interval"], _shifts(result), range(1, 6)
        )
    yield "\n".join(f"- {plain(sentence)}" for sentence in sentences(result))
    yield from _slices(result)


def _slices(result: dict[str, Any]) -> Iterator[str]:
    tables = slice_tables(result)
    if tables:
        yield f"{plain(metric_name(result['primary']))} within slices. {ABOUT}"
    for found in tables:
        rows = [[plain(r.name), r.items, r.change, r.interval, r.p, r.verdict] for r in found.rows[:LISTED]]
        header = [found.dimension, "items", "change", "95% interval", "p", "verdict"]
        yield table(header, rows, right=range(1, 5))
        if rest := found.rest():
            yield plain(rest)
    if told := other_slices(result):
        yield "\n".join(f"- {plain(sentence)}" for sentence in told)


def _shifts(result: dict[str, Any]) -> list[list[str]]:
    rows = []
    for shift in result["shifts"]:
        low, high = shift["ci"]
        means = [number(shift[arm]) for arm in ("base", "baseline", "candidate")]
        between = "unknown" if low is None else f"{number(low, signed=True)} to {number(high, signed=True)}"
        rows.append([shift["name"].replace("_", " "), *means, number(shift["delta"], signed=True), between])
    return rows


def _bars(contents: Contents, metrics: Sequence[dict[str, Any]]) -> str:
    """The intervals in characters, each to its own scale."""
    names = [metric_name(metric["name"]) for metric in metrics]
    width = max(map(len, names))
    lines = [f"{'':<{width}}  {HEAD[0]:<13}{HEAD[1]:>12}"]
    for name, metric in zip(names, metrics, strict=True):
        low, high = metric["ci"]
        bar = "interval unknown"
        if low is not None:
            margin = contents.margins.get(metric["name"])
            bar = interval_bar(low, metric["delta"], high, higher_is_better=metric["higher_is_better"], margin=margin)
        lines.append(f"{name:<{width}}  {bar}".rstrip())
    return "\n".join(lines)


def _arm(arm: ArmPart) -> Iterator[str]:
    yield f"### {arm_name(arm.arm)}: {plain(arm.version)}"
    yield f"{counted(arm.rows, 'row')}, manifest hash `{arm.manifest_hash}`"
    rows = [
        [plain(o.source), f"{o.rows:,}", plain(o.license or "not stated"), plain(o.file), plain(o.file_hash)]
        for o in arm.origins
    ]
    yield table(["source", "rows", "licence", "file", "SHA-256 of the file"], rows, right=(1,))
    for stage in arm.stages:
        inputs = ", ".join(map(plain, stage.inputs))
        yield (
            f"{plain(stage.version)} from {inputs}: {counted(stage.rows_in, 'row')} in, "
            f"{stage.rows_in - stage.rows_out:,} dropped, {stage.rows_out:,} left."
        )
        if stage.steps:
            rows = []
            for step in stage.steps:
                told = [f"{count:,} {reason}" for reason, count in step["reasons"].items()] + list(step["notes"])
                rows.append([plain(step["name"]), f"{step['in']:,}", f"{step['dropped']:,}", plain("; ".join(told))])
            yield table(["step", "in", "dropped", "reasons"], rows, right=(1, 2))


def _recipes(diff: Sequence[str], title: str) -> Iterator[str]:
    yield f"### {title}"
    if diff:
        yield "Lines with + are of the candidate alone, lines with - of the baseline alone."
        yield code_block("\n".join(diff), "diff")
    else:
        yield "Both arms were made by the same recipes of the same inputs."


def _left(left: LeftPart) -> Iterator[str]:
    yield f"### Rows of {plain(left.of)} that are not in {plain(left.other)}: {left.rows:,}"
    if not left.rows:
        return
    reasons = [[f"{count:,}", plain(reason)] for reason, count in left.by_reason.items()]
    yield table(["rows", "reason"], reasons, right=(0,))
    if left.samples:
        rows = []
        for gone in left.samples:
            like = gone.survivor + (f", similarity {number(gone.similarity)}" if gone.similarity is not None else "")
            why = f"{gone.reason} ({gone.detail})" if gone.detail else gone.reason
            rows.append([plain(f"{gone.source} row {gone.row}"), plain(why), plain(like), plain(gone.prompt)])
        yield f"{len(left.samples)} of {left.rows:,} rows, some for each reason. All: `workbench versions diff`"
        yield table(["row", "reason", "like which row", "prompt"], rows)


def _masks(arms: Sequence[ArmPart]) -> Iterator[str]:
    header = ["arm", "rows", "tokens", "trained", "longest", "limit", "trained tokens lost", "rows by issue"]
    rows = []
    for arm in arms:
        m = arm.masks
        if not m.missing:
            share = f"{m.trained:,} ({m.trained / m.tokens:.0%})" if m.tokens else "0"
            issues = ", ".join(f"{count:,} {kind}" for kind, count in m.issues.items()) or "none"
            numbers = [f"{m.rows:,}", f"{m.tokens:,}", share, f"{m.longest:,}", f"{m.limit or 0:,}"]
            rows.append([arm_name(arm.arm), *numbers, f"{m.lost_trained:,}", plain(issues)])
    if rows:
        yield table(header, rows, right=range(1, 7))
    told = [f"- {arm_name(arm.arm)}: {plain(arm.masks.verdict or f'not audited, {arm.masks.missing}')}" for arm in arms]
    yield "\n".join(told)


def _runs(runs: Sequence[RunPart]) -> str:
    header = ["arm", "seed", "steps", "trained tokens", "first loss", "after a quarter", "half", "three quarters"]
    rows = []
    for run in runs:
        last = len(run.losses) - 1
        losses = [number(run.losses[round(last * part)] if run.losses else None) for part in (0, 0.25, 0.5, 0.75, 1)]
        rows.append([arm_name(run.arm), str(run.seed), f"{len(run.losses):,}", f"{run.trained_tokens:,}", *losses])
    return table([*header, "last loss"], rows, right=range(1, 9))


def _items(items: ItemsPart) -> Iterator[str]:
    if not items.tally:
        yield f"{len(items.sample)} of {counted(items.total, 'item')}, taken evenly."
        yield from (part for item in items.sample for part in _item(item))
        return
    tally = items.tally
    yield (
        f"Of {counted(items.total, 'item')} the candidate came out better on {tally['better']:,}, worse on "
        f"{tally['worse']:,}, and equal on {tally['equal']:,}. This describes what was measured; whether there is a "
        "difference the verdict alone says."
    )
    for name, found in (("worst", items.worst), ("best", items.best)):
        total = tally["worse" if name == "worst" else "better"]
        yield f"### Items that got {name}: {len(found)} of {total:,}"
        yield from (part for item in found for part in _item(item))


def _item(item: ItemPart) -> Iterator[str]:
    change = f", {number(item.change, signed=True)}" if item.change is not None else ""
    yield f"**Item {item.item}{change}**"
    yield f"Prompt\n\n{code_block(item.prompt, 'text')}"
    if item.reference:
        yield f"Reference\n\n{code_block(item.reference, 'text')}"
    for answer in item.answers:
        seed = "" if answer.arm == "base" else f", seed {answer.seed}"
        cut = f" (the first {answer.shown:,} of {answer.length:,} characters)" if answer.length > answer.shown else ""
        limit = "; ran into the limit of new tokens" if answer.finish == "length" else ""
        text = "".join(piece for piece, _ in answer.pieces)
        yield f"{arm_name(answer.arm)}{seed}{cut}{limit}\n\n{code_block(text, 'text')}"


def _repeat(repeat: Repeat) -> Iterator[str]:
    yield code_block("\n".join(repeat.commands), "sh")
    yield from map(plain, repeat.notes)
    for facts in (repeat.facts, repeat.settings):
        yield table(["what", "value"], [[plain(name), plain(value)] for name, value in facts])
    for runs, noted in repeat.environments:
        yield f"Computed with: {plain(runs)}"
        if noted:
            yield table(["what", "value"], [[plain(name), plain(value)] for name, value in noted.items()])
        else:
            yield "These runs were made by a release that did not note it."
