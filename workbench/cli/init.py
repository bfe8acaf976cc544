"""`workbench init`: make a folder a workspace."""

from __future__ import annotations

import click

from workbench.cli import common


@click.command("init")
@click.argument("folder", metavar="DIR")
@common.json_option
def command(folder: str, as_json: bool) -> None:
    """Make DIR a workspace: a database, a folder for runs, one for the cache, and a file of settings.

    A workspace that is there already stays as it is.
    """
    from workbench.workspace import Workspace

    workspace = Workspace.init(folder)
    root = str(workspace.root.resolve())
    workspace.close()
    if as_json:
        common.print_json({"workspace": root})
        return
    common.out().print(f"{root} is a workspace.")
    common.note(f"Next: cd {folder}, then `workbench import FILE`.")
