"""`workbench` alone: the terminal app, over the workspace that is here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from workbench.cli.common import note
from workbench.errors import UsageProblem


def open_app(folder: str | None, *, mouse: bool = True, light: bool | None = None) -> int:
    """Run the app until it is left; returns its exit code.

    Raises UsageProblem where the terminal cannot show it, WorkspaceUnusable where the workspace is in use or newer.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageProblem("the app needs a terminal", do="`workbench --help` lists the commands that need none.")
    if os.environ.get("TERM") == "dumb":
        raise UsageProblem(
            "the app cannot run here: TERM is dumb, so the terminal says that it has no screen to paint on",
            do="Use another terminal, or the commands that `workbench --help` lists.",
        )
    from workbench.tui.app import WorkbenchApp
    from workbench.workspace import Workspace

    try:
        workspace = Workspace.open(folder)
    except UsageProblem:  # there is none: the app offers to make one
        workspace = None
    app = WorkbenchApp(workspace, folder=Path(folder).expanduser() if folder else Path.cwd(), light=light)
    try:
        app.run(mouse=mouse)
    finally:
        for told in app.close_workspace():
            note(told)
    return app.return_code or 0
