"""The diagnosis beside a verdict: what was found, likely causes, and the ways to the rows behind."""

from __future__ import annotations

import threading

import pytest

from workbench.report.failures import Cause, Diagnosis, Finding, Look, Reading, Shown
from workbench.tui.screens.tokens import TokensScreen
from workbench.tui.widgets.diagnosis_pane import DiagnosisPane, diagnosis_rows
from workbench.tui.widgets.line_view import LineView
from workbench.tui.widgets.verdict_view import VerdictView
from workbench.workspace import Workspace

LOOK = Look("loops", "share", [Reading("candidate", 0.5, 0.3, 0.7, 6)])


@pytest.fixture
def ws(compared_copy):
    opened = Workspace.open(compared_copy)
    yield opened
    opened.close()


def text_of(pane: DiagnosisPane) -> str:
    return "\n".join("".join(text for text, _ in line) for line in pane.query_one(LineView)._lines)


async def opened(pilot, tui) -> DiagnosisPane:
    """The tab, with its diagnosis made and the first line told."""
    app = pilot.app
    app.go("experiments")
    await tui.until(pilot, lambda: bool(app.screen.query(VerdictView)))
    view = app.screen.query_one(VerdictView)
    await tui.until(pilot, lambda: view.shown is not None)
    pane = view.query_one(DiagnosisPane)
    assert pane.found is None, "training rows are read only for those who ask"
    view.home().focus()
    await pilot.press("8")
    await tui.until(pilot, lambda: pane.found is not None and bool(text_of(pane)) and app.screen.focused is pane.table)
    return pane


async def test_all_that_was_looked_for_is_listed_with_why_some_was_not_measured(ws, tui):
    async with tui.running(ws, base="no", size=(80, 24)) as pilot:
        pane = await opened(pilot, tui)
        failed = {finding.failure for finding in pane.found.findings}
        rest = [look for look in pane.found.looks if look.failure not in failed]
        assert len(pane.table.keys) == len(pane.found.findings) + len(rest)
        marks = [pane.table._values[key][0] for key in pane.table.keys]
        assert marks.count("?") == sum(bool(look.missing) for look in pane.found.looks) > 0
        await pilot.press("G")
        await tui.until(pilot, lambda: "items have a system turn" in text_of(pane))
        await pilot.press("enter")
        await tui.until(pilot, lambda: "No row is named here" in tui.said(pilot.app))


async def test_from_a_finding_keys_lead_to_its_rows(ws, tui, monkeypatch):
    ids = [id for batch in ws.rows("no") for id in batch.column("id").to_pylist()]
    look = Look("phrase", "share", [Reading("candidate", 0.5, 0.3, 0.7, 6)])
    cause = Cause("2 of 30 rows of no say it", ["workbench examples no --search 'no 7'"], "no", 2, [ids[7], ids[8]])
    finding = Finding("phrase", "candidate", "brought", '"no" in 3 of 6', 0.01, cause, [Shown(2, tui.hostile[:-1])])
    versions = {"baseline": "yes", "candidate": "no"}
    monkeypatch.setattr(
        "workbench.failures.diagnose.diagnose",
        lambda ws, id, progress: Diagnosis(id, versions, 6, 2, "these runs", [look], [finding]),
    )
    async with tui.running(ws, base="yes") as pilot:
        pane = await opened(pilot, tui)
        told = text_of(pane)
        assert "a phrase that comes too often · training brought it" in told
        assert f"{ids[7]}, {ids[8]} of no" in told
        assert "enter shows these rows in Browse" in told
        await pilot.press("t")
        await tui.until(pilot, lambda: isinstance(pilot.app.screen, TokensScreen))
        await pilot.press("q")
        await tui.until(pilot, lambda: pilot.app.screen.focused is pane.table)
        await pilot.press("enter")
        await tui.until(
            pilot, lambda: pilot.app.current_mode == "browse" and "Question 7?" in tui.screen_text(pilot.app)
        )
        assert pilot.app.base == "no"


async def test_a_diagnosis_that_is_left_before_it_is_made_is_there_when_one_comes_back(ws, tui, monkeypatch):
    begun, go_on, asked = threading.Event(), threading.Event(), []

    def diagnosed(ws, id, progress):
        asked.append(id)
        begun.set()
        assert go_on.wait(20)
        return Diagnosis(id, {"baseline": "yes", "candidate": "no"}, 6, 2, "these runs", [LOOK], [])

    monkeypatch.setattr("workbench.failures.diagnose.diagnose", diagnosed)
    async with tui.running(ws, base="no") as pilot:
        app = pilot.app
        app.go("experiments")
        await tui.until(pilot, lambda: bool(app.screen.query(VerdictView)))
        view = app.screen.query_one(VerdictView)
        await tui.until(pilot, lambda: view.shown is not None)
        pane, shown = view.query_one(DiagnosisPane), view.shown
        view.home().focus()
        await pilot.press("8")
        await tui.until(pilot, begun.is_set)
        pane.show(None)  # as when another pair is read
        go_on.set()
        await tui.until(pilot, lambda: not pane._making)
        assert pane.found is None, "it is not of what is in view"
        pane.show(shown)
        await tui.until(pilot, lambda: pane.found is not None and pane.table.keys == ["0"])
        assert asked == [shown.id], "another pair has the same"


def test_of_many_arms_each_has_its_name_where_two_are_called_by_letters():
    versions = {"baseline": "raw", "candidate": "good", "candidate2": "best"}
    readings = [Reading(arm, 0.5, 0.3, 0.7, 6) for arm in ("base", *versions)]
    look = Look("loops", "share", readings)
    finding = Finding("loops", "candidate2", "brought", "3 of 6", 0.01, Cause("", []), [])
    found = Diagnosis("x", versions, 6, 2, "these runs", [look], [finding])
    columns, [(_, cells)], _ = diagnosis_rows(found, versions)
    assert [column.title for column in columns] == ["", "failure", "in", "base", "raw", "good", "best"]
    assert cells[2] == "best"
    two = Diagnosis("x", {"baseline": "raw", "candidate": "good"}, 6, 2, "these runs", [look], [])
    columns, _, _ = diagnosis_rows(two, two.versions)
    assert [column.title for column in columns] == ["", "failure", "in", "base", "A", "B"]
