"""Importing from the app: what is wanted, a look at it, the import itself, and what came of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from filters.step import Progress
from workbench.errors import Stopped
from workbench.importing import ImportReport, name_for
from workbench.store.rejects import RejectRow
from workbench.tui.cells import fit, flat, wrap
from workbench.tui.widgets.import_dialog import ImportDialog, Wish
from workbench.tui.widgets.line_view import Line
from workbench.tui.widgets.report_dialog import ReportDialog
from workbench.tui.workers import Cancelled

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp

_REJECTS = 200  # shown of a source
_RAW = 500  # characters of a rejected row


class ImportFlow:
    """Keeps what was asked for last, so that after an error nobody types it again."""

    def __init__(self, app: WorkbenchApp) -> None:
        self._app = app
        self._last = Wish()

    async def run(self, target: str = "") -> None:
        """Ask, import, and look at what came in."""
        app, workspace = self._app, self._app.workspace
        wish = await app.push_screen_wait(ImportDialog(Wish(target) if target else self._last))
        if wish is None:
            return
        self._last = wish

        def work(progress: Progress, cancelled: Cancelled) -> ImportReport:
            return workspace.import_file(
                wish.target,
                name=wish.name or None,
                format=wish.format or None,
                mapping=wish.columns,
                license=wish.license or None,
                progress=progress,
            )

        try:
            report = await app.tasks.run(
                f"importing {name_for(wish.target)}", work, if_stopped="Nothing of the import is kept.", in_bytes=True
            )
        except Stopped:
            app.say("Stopped: nothing of it was kept.")
            return
        self._last = Wish()
        app.tasks.land(report.source, import_told(report))

    async def rejects(self, name: str = "") -> None:
        """Show which rows of a source were rejected, and why."""
        name = name or self._app.base
        workspace = self._app.workspace
        reasons = await asyncio.to_thread(workspace.reject_reasons, name)
        total, rows = await asyncio.to_thread(workspace.rejects, name, limit=_REJECTS, chars=_RAW)
        if not total:
            self._app.say(f"No row of {name} was rejected.")
            return
        detail = f"To correct them, leave the app (ctrl+q) and type `workbench rejects export {name}`."
        title = f"{total:,} rejected row{'s' * (total != 1)} of {name}"

        def lines(width: int) -> list[Line]:
            return reject_lines(reasons, rows, total, width)

        await self._app.push_screen_wait(ReportDialog(title, lines, detail=detail))


def import_told(report: ImportReport) -> str:
    """What came of an import, in a sentence or two."""
    if report.already:
        return f"These bytes are source {report.source} already: nothing was added."
    rows = f"{report.imported:,} row{'s' * (report.imported != 1)}"
    said = f"Imported {rows} as {report.source} ({report.format})"
    if report.rejected:
        said += f"; {report.rejected:,} rejected, each with its reason (:rejects)"
    if report.duplicates_of_known:
        said += f". {report.duplicates_of_known:,} have content that another source has"
    if report.noted.other_weights:
        said += f". {report.noted.other_weights:,} have weights other than 0 and 1, which do nothing"
    if keys := report.noted.lost_keys:
        said += f". Not kept of parts of turns: {flat(', '.join(sorted(keys)[:3]))}"
    return said + "."


def reject_lines(reasons: list[tuple[str, int, int]], rows: list[RejectRow], total: int, width: int) -> list[Line]:
    """How often each reason came, then the rows."""
    lines: list[Line] = []
    for reason, count, _ in reasons:
        first, *more = wrap(reason, max(width - 10, 10))
        lines.append([(f"{count:>8,}  ", "strong"), (first, "text")])
        lines += [[(" " * 10 + line, "text")] for line in more]
    for row in rows:
        lines += [[], [(fit(flat(f"row {row.row:,}: {row.reason}"), width), "warning")]]
        lines += [[("  " + line, "muted")] for line in wrap(row.raw.rstrip(), width - 2)[:4]]
    if total > len(rows):
        lines += [[], [(f"… {total - len(rows):,} more", "muted")]]
    return lines
