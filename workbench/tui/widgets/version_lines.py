"""What is known of a source or version, as lines to read: where it came from, what each step dropped, who uses it."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.provenance import SourceReport, VersionReport
from workbench.store.catalogue import Entry
from workbench.store.sources import Origin
from workbench.store.versions import Stage
from workbench.text import clip_start
from workbench.tui.cells import fit, flat, wrap
from workbench.tui.widgets.line_view import Line


def version_lines(entry: Entry, report: VersionReport, width: int) -> list[Line]:
    """A version: its hash, experiments on it, sources of its rows, every stage on the way to it, its recipe."""
    version = report.version
    lines: list[Line] = [_heading(entry), *_field("made", f"{version.created_at:%Y-%m-%d %H:%M} UTC", width)]
    lines += _field("manifest", version.manifest_hash, width)
    lines += _experiments(report.experiments, width)
    lines += [[], [("its rows", "strong")], *_origin_lines(report.origins, width)]
    for stage in report.stages:
        lines += _stage_lines(stage, width)
    if version.recipe:
        lines += [[], [("the recipe of the last stage", "strong")], *_indented(version.recipe.rstrip(), width)]
    return lines


def source_lines(entry: Entry, report: SourceReport, width: int) -> list[Line]:
    """A source: where it was read from, its rejects by reason, what shares its rows and what was made of it."""
    source = report.source
    lines: list[Line] = [_heading(entry), *_field("imported", f"{source.created_at:%Y-%m-%d %H:%M} UTC", width)]
    lines += _field("from", source.path, width)
    lines += _field("as", source.format, width)
    lines += _field("licence", source.license or "not stated", width)
    lines += _field("hash", source.file_hash, width)
    if source.rejected:
        lines += [[], [(f"{source.rejected:,} rows of the input were rejected", "warning")]]
        for reason, count, first in report.reasons:
            lines += _indented(f"{count:,} {reason}, first row {first:,}", width)
    if report.overlaps:
        lines += [[], [("rows that other sources have too", "strong")]]
        for name, count in report.overlaps:
            lines += _indented(f"{count:,} in {name}", width)
    if report.versions:
        lines += [[], *_field("led to", ", ".join(report.versions), width)]
    return lines


def _heading(entry: Entry) -> Line:
    return [(flat(entry.name), "accent"), (f"  {entry.kind}, {entry.rows:,} row{'s' * (entry.rows != 1)}", "muted")]


def _experiments(ids: Sequence[str], width: int) -> list[Line]:
    if not ids:
        return _field("used by", "no experiment yet", width)
    return _field("used by", f"{len(ids)} experiment{'s' * (len(ids) != 1)}: {', '.join(ids)}", width)


def _origin_lines(origins: Sequence[Origin], width: int) -> list[Line]:
    rows = max((len(f"{origin.rows:,}") for origin in origins), default=0)
    lines: list[Line] = []
    for origin in origins:
        told = f"{origin.rows:>{rows},} of {flat(origin.source)}"
        lines.append([("  ", "text"), (told, "text")])
        lines += [[("    " + piece, "muted")] for piece in wrap(origin.license or "licence not stated", width - 4)]
        lines.append([("    " + clip_start(origin.path, width - 4), "muted")])
    return lines


def _stage_lines(stage: Stage, width: int) -> list[Line]:
    dropped = stage.rows_in - stage.rows_out
    lines: list[Line] = [[], [(f"{flat(', '.join(stage.inputs))} → {flat(stage.version)}", "strong")]]
    lines.append([(f"  {stage.rows_in:,} in, {dropped:,} dropped, {stage.rows_out:,} left", "muted")])
    if not stage.steps:
        return lines
    names = min(max(len(step.name) for step in stage.steps), max(width - 36, 8))
    lines.append([(f"  {'step':<{names}}{'in':>10}{'dropped':>9}{'seconds':>9}", "muted")])
    for step in stage.steps:
        numbers = f"{step.rows_in:>10,}{step.dropped:>9,}{step.seconds:>9.1f}"
        lines.append([(f"  {fit(flat(step.name), names)}", "text"), (numbers, "text" if step.dropped else "muted")])
        for reason, count in step.reasons.items():
            lines += _indented(f"{count:,} {reason}", width, by=4)
        for note in step.notes:
            lines += _indented(note, width, by=4)
    return lines


def _field(name: str, value: str, width: int) -> list[Line]:
    first, *more = wrap(value, width - 10)
    rest: list[Line] = [[(" " * 10 + piece, "text")] for piece in more]
    return [[(f"{name:<10}", "muted"), (first, "text")], *rest]


def _indented(text: str, width: int, by: int = 2) -> list[Line]:
    return [[(" " * by + piece, "muted")] for piece in wrap(text, width - by)]
