"""The diagnosis in a report: what was found, with causes and where to look, and all that was looked for."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.markdown import code_block, plain, table
from workbench.report.failures import SAID, Diagnosis, Finding, ids_told, notes, readings, verdict_of

ABOUT = (
    "The classic failures of fine-tuning, looked for in the base model and in every arm. A cause is what most likely "
    "lies behind; training without it tells."
)


def heading(finding: Finding, found: Diagnosis) -> str:
    """What was found, in which arm, and where it comes from."""
    return f"{finding.arm} ({found.called(finding.arm)}): {finding.title}, {SAID[finding.kind]}"


def diagnosis_markdown(found: Diagnosis) -> Iterator[str]:
    """The section, but for its heading."""
    yield f"{ABOUT} Findings speak of {found.scope}."
    if not found.findings:
        yield f"**{verdict_of(found)}**"
    for finding in found.findings:
        yield f"### {plain(heading(finding, found))}"
        told = [f"Measured: {finding.sentence}", f"Likely cause: {finding.cause.why}"]
        told += [f"Rows: {ids}" for ids in [ids_told(finding.cause)] if ids]
        told += [f"Item {shown.item}: {shown.piece}" for shown in finding.shown]
        yield "\n".join(f"- {plain(sentence)}" for sentence in told)
        yield code_block("\n".join(finding.cause.look), "sh")
    columns, rows = readings(found)
    yield table(["looked for", *columns], [[plain(title), *cells] for title, cells in rows], range(1, len(columns) + 1))
    yield "\n".join(f"- {plain(note)}" for note in notes(found.looks))
