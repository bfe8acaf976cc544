"""`workbench doctor`: is everything there, and does the workspace still say what it should?"""

from __future__ import annotations

from pathlib import Path

import click

from workbench.cli import common
from workbench.diagnosis import Finding

_MARKS = {"ok": "ok ", "note": "·  ", "bad": "BAD"}


@click.command("doctor")
@common.json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Look at the installation, the machine and the workspace.

    In the workspace every count and every hash is computed again. Exit code: 0 if nothing is bad, 4 if something
    in the workspace is, else 2.
    """
    from workbench import diagnosis

    with common.progress_bar("looking") as progress:
        progress(0, None, "looking at the installation")
        found = [*diagnosis.installation(), diagnosis.devices()]
        progress(0, None, "looking at the workspace")
        root, in_workspace = _workspace(ctx.obj["workspace"])
        found += [*diagnosis.folders(root), *in_workspace]
    bad = [finding for finding in found if finding.status == "bad"]
    if as_json:
        checks = [{"area": f.area, "what": f.what, "status": f.status, "detail": f.detail} for f in found]
        common.print_json({"ok": not bad, "workspace": str(root) if root else None, "checks": checks})
    else:
        _print(found)
        common.note(f"{len(bad)} to see to." if bad else "All well.")
    if bad:
        ctx.exit(4 if any(finding.area == "workspace" for finding in bad) else 2)


def _workspace(folder: str | None) -> tuple[Path | None, list[Finding]]:
    """The workspace's folder and what its database says; a note where there is none."""
    from workbench.diagnosis import Finding
    from workbench.errors import BadInput, NotFound, UsageProblem, WorkspaceUnusable
    from workbench.workspace import Workspace

    try:
        workspace = Workspace.open(folder)
    except (WorkspaceUnusable, BadInput, NotFound) as problem:
        return None, [Finding("workspace", "cannot be opened", "bad", str(problem))]
    except UsageProblem as problem:
        return None, [Finding("workspace", "none", "bad" if folder else "note", str(problem))]
    try:
        checks = workspace.check()
    finally:
        workspace.close()
    return workspace.root, [
        Finding("workspace", check.what, "bad" if check.problem else "ok", check.problem or "") for check in checks
    ]


def _print(found: list[Finding]) -> None:
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
