"""Writing rows from the app, to a file or to the hub: where to, what is in the way, and what was lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from filters.step import Progress
from workbench.errors import AlreadyOnHub, Stopped
from workbench.exporting import Exported, usual_form
from workbench.tui.cells import wrap
from workbench.tui.widgets.dialogs import confirm
from workbench.tui.widgets.export_dialog import Export, ExportDialog
from workbench.tui.widgets.line_view import Line
from workbench.tui.widgets.report_dialog import ReportDialog
from workbench.tui.workers import Cancelled

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp


async def export(app: WorkbenchApp, name: str, target: str = "") -> None:
    """Write source or version `name` to `target`, or to what a dialog is told; what is there goes only after a yes."""
    wish = Export(usual_form(Path(target)), target) if target else await app.push_screen_wait(ExportDialog(name))
    if wish is None:
        return
    is_push = wish.target.startswith("hf:")
    try:
        done = await (_push(app, name, wish.target) if is_push else _write(app, name, wish))
    except Stopped:
        app.say("Stopped: nothing was pushed." if is_push else "Stopped: nothing of it is left.")
        return
    if done is None:
        return
    to = done.pushed.url if done.pushed else Path(wish.target).expanduser()
    told = f"Wrote {done.rows:,} row{'s' * (done.rows != 1)} of {name} as {done.format} to {to}"
    told += f" ({'private' if done.pushed.private else 'public'})." if done.pushed else "."
    app.say(told)
    if done.lost or done.notes:
        await app.tasks.until_free()
        await app.push_screen_wait(ReportDialog(f"{name} is written", lambda width: _report(told, done, width)))


async def _write(app: WorkbenchApp, name: str, wish: Export) -> Exported | None:
    """Write a file or folder; None where one is there and stays."""
    out, workspace = Path(wish.target).expanduser(), app.workspace
    is_taken = await asyncio.to_thread(_is_taken, out)
    if is_taken and not await confirm(app, f"Replace {out}?", "It is there already."):
        return None

    def work(progress: Progress, cancelled: Cancelled) -> Exported:
        return workspace.export(name, out, wish.form, force=is_taken, progress=progress)

    return await app.tasks.run(f"writing {name}", work, if_stopped="Nothing of it is left, and what stood there stays.")


async def _push(app: WorkbenchApp, name: str, target: str) -> Exported | None:
    """Push to the hub; None where a data set of the name holds files and keeps them."""
    workspace = app.workspace

    async def push(*, force: bool) -> Exported:
        def work(progress: Progress, cancelled: Cancelled) -> Exported:
            return workspace.push(name, target, force=force, progress=progress)

        stops = "Nothing has been sent, unless the upload has begun: that goes on."
        return await app.tasks.run(f"pushing {name}", work, if_stopped=stops)

    try:
        return await push(force=False)
    except AlreadyOnHub:
        await app.tasks.until_free()  # the hub may have taken its time
        if not await confirm(app, f"Replace the files of {target}?", "It holds some already; its history keeps them."):
            return None
    return await push(force=True)


def _is_taken(out: Path) -> bool:
    """Whether there is a file, or a folder that holds something."""
    return out.exists() and any(out.iterdir() if out.is_dir() else [out])


def _report(told: str, done: Exported, width: int) -> list[Line]:
    lines: list[Line] = [[(piece, "text")] for piece in wrap(told, width)]
    if done.card:
        lines += [[(piece, "muted")] for piece in wrap(f"Card: {done.card}", width)]
    for title, found in (("lost", done.lost), ("to know", done.notes)):
        if found:
            lines += [[], [(title, "warning")]]
            lines += [[("  " + piece, "text")] for what in found for piece in wrap(what, width - 2)]
    return lines
