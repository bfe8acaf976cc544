"""Making eval sets from the app: out of a file, or by holding rows of a source or version out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from filters.step import Progress
from workbench.errors import NotFound, Stopped, UsageProblem
from workbench.evalset_import import EvalImport
from workbench.tui.widgets.dialogs import ask_text, choose
from workbench.tui.workers import Cancelled

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp

_MOST = 200
"""Items that are proposed at most: each costs time in every evaluation."""
_ABOUT = (
    "An eval set held out of data has the flaws of that data: one that was written to measure with tells more. "
    "The rows stay where they are; versions to be compared on it are frozen without them."
)


async def import_evalset(app: WorkbenchApp, file: str = "") -> str | None:
    """Ask for a file and a name and make an eval set of it; its name, None where it was called off."""
    detail = "Rows with a prompt and an answer to measure by; they are never trained on."
    file = file or await ask_text(app, "Import an eval set", detail=detail, placeholder="a file") or ""
    if not file:
        return None
    path = Path(file).expanduser()
    name = await ask_text(app, "What to call the eval set", path.stem)
    if not name:
        return None
    report = await asyncio.to_thread(app.workspace.import_evalset, path, name)
    rejected = f"; {len(report.rejected):,} rows could not be used" if report.rejected else ""
    app.say(f"{report.evalset.name} is an eval set of {report.evalset.rows:,} items{rejected}.")
    return report.evalset.name


async def hold_out(app: WorkbenchApp, source: str = "") -> str | None:
    """Ask what to hold out of, how many rows and a name, and make an eval set; its name, None where it was called off.

    Raises UsageProblem, NotFound.
    """
    workspace = app.workspace
    named = {entry.name: entry for _, entry in await asyncio.to_thread(workspace.catalogue)}
    about = _ABOUT if source else ""  # told once
    if not source:
        options = [(name, f"{entry.kind:<8}{entry.rows:>9,} rows  {name}") for name, entry in named.items()]
        options.sort(key=lambda option: option[0] != app.base)  # what is in view first
        source = await choose(app, "Hold rows out of which source or version?", options, detail=_ABOUT) or ""
    if not source:
        return None
    if source not in named:
        raise NotFound(f"no source or version {source!r}", do="o lists what there is.")
    proposed = str(max(min(_MOST, named[source].rows // 10), 1))
    number = await ask_text(app, f"How many items, out of {source}?", proposed, detail=about)
    if not number:
        return None
    if not number.isdecimal() or int(number) < 1:
        raise UsageProblem(f"items are a whole number, 1 or more, not {number!r}")
    name = await ask_text(app, "What to call the eval set", f"{source}-held-out")
    if not name:
        return None

    def work(progress: Progress, cancelled: Cancelled) -> EvalImport:
        return workspace.hold_out(source, name, int(number), progress=progress)

    try:
        report = await app.tasks.run(f"holding out {name}", work, if_stopped="No eval set is made.")
    except Stopped:
        app.say("Stopped: no eval set was made.")
        return None
    made = report.evalset
    app.say(
        f"{made.name} is an eval set of {made.rows:,} items; {report.overlaps:,} rows of {source} have their prompts: "
        "c, then ctrl+w, compares versions without them."
    )
    return made.name
