"""`workbench doctor`: is everything there, does the workspace still say what it should, and what can be repaired?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli import common
from workbench.diagnosis import Finding
from workbench.errors import ModelUnavailable, UsageProblem, WorkspaceUnusable

if TYPE_CHECKING:
    from workbench.workspace import Workspace

_MARKS = {"ok": "ok ", "note": "·  ", "bad": "BAD"}


@click.command("doctor")
@click.option("--repair", is_flag=True, help="Put in order what can be: leftovers, and rows that belong to nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before each repair. Run folders stay.")
@click.option("--run-folders", is_flag=True, help="With --yes: remove run folders of no experiment too.")
@common.json_option
@click.pass_context
def command(ctx: click.Context, repair: bool, yes: bool, run_folders: bool, as_json: bool) -> None:
    """Look at the installation, the machine and the workspace.

    In the workspace every row is read, and every count and hash computed again. A repair touches nothing that a
    person made; rows that it removes are kept in a file.

    \b
    Exit code 0: nothing is bad.
              4: something in the workspace is, or it cannot be opened.
              5: something in the installation or the machine is (a library is missing or shadowed).
    """
    from workbench import diagnosis

    if (yes and not repair) or (run_folders and not yes):
        raise UsageProblem("--yes goes with --repair, and --run-folders with --repair --yes")
    with common.progress_bar("looking") as progress:
        progress(0, None, "looking at the installation")
        found = [*diagnosis.installation(), diagnosis.devices()]
    repaired: list[str] = []
    root: Path | None = None
    if any(finding.status == "bad" and finding.what.startswith("package ") for finding in found):
        found.append(Finding("workspace", "not looked at", "note", "another package stands in the place of ours"))
    else:
        ask = not yes and not as_json and sys.stdin.isatty()
        root = _look(ctx.obj["workspace"], repair, yes, ask, run_folders, found, repaired)
    bad = [finding for finding in found if finding.status == "bad"]
    if as_json:
        checks = [{"area": f.area, "what": f.what, "status": f.status, "detail": f.detail} for f in found]
        common.print_json(
            {"ok": not bad, "workspace": str(root) if root else None, "checks": checks, "repaired": repaired}
        )
    else:
        _print(found, repaired)
        common.note(f"{len(bad)} to see to." if bad else "All well.")
    if bad:
        ours = any(finding.area == "workspace" for finding in bad)
        ctx.exit(WorkspaceUnusable.exit_code if ours else ModelUnavailable.exit_code)


def _look(
    folder: str | None,
    repair: bool,
    yes: bool,
    ask: bool,
    run_folders: bool,
    found: list[Finding],
    repaired: list[str],
) -> Path | None:
    """Look at the workspace, if there is one, after repairs where they are wanted; returns its folder."""
    from workbench import diagnosis, maintenance
    from workbench.errors import BadInput
    from workbench.workspace import Workspace

    try:
        workspace = Workspace.open(folder)
    except (WorkspaceUnusable, BadInput) as problem:
        found += [*diagnosis.folders(None), Finding("workspace", "cannot be opened", "bad", str(problem))]
        return None
    except UsageProblem as problem:
        if folder:
            raise
        found += [*diagnosis.folders(None), Finding("workspace", "none", "note", str(problem))]
        return None
    try:
        if repair:
            repaired += _repair(workspace, yes, ask, run_folders)
        found += diagnosis.folders(workspace.root)
        with common.progress_bar("looking at the workspace") as progress:
            found += maintenance.findings(workspace, progress)
    except WorkspaceUnusable as problem:
        found.append(Finding("workspace", "cannot be read", "bad", str(problem)))
    finally:
        workspace.close()
    return workspace.root


def _repair(workspace: Workspace, yes: bool, ask: bool, run_folders: bool) -> list[str]:
    """Ask about each repair, do those that are wanted, and say what was done.

    Raises UsageProblem where there is something to ask about and nobody to `ask`.
    """
    from workbench.maintenance import repairs
    from workbench.text import safe_text

    done = []
    found = repairs(workspace)
    if found and not yes and not ask:
        raise UsageProblem(
            f"there is nobody to ask about repairs ({found[0].what})", do="Add --yes to have the safe ones done."
        )
    for one in found:
        wanted = (run_folders or not one.by_choice) if yes else click.confirm(safe_text(one.what), err=True)
        if wanted:
            done.append(one.run())
    return done


def _print(found: list[Finding], repaired: list[str]) -> None:
    from rich.text import Text

    from workbench.text import safe_text

    out = common.out()
    area = ""
    for finding in found:
        if finding.area != area:
            area = finding.area
            out.print(Text(area, style="bold"))
        detail = f": {safe_text(finding.detail)}" if finding.detail else ""
        out.print(f"  {_MARKS[finding.status]}  {safe_text(finding.what)}{detail}")
    for done in repaired:
        out.print(f"repaired: {safe_text(done)}.")
