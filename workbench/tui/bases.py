"""What can be looked at: the sources and versions of a workspace."""

from __future__ import annotations

from workbench.workspace import Workspace


def bases(workspace: Workspace) -> list[tuple[str, str]]:
    """Sources and versions as (name, label), the newest first."""
    found = [(s.created_at, s.name, f"source   {s.imported:>9,} rows  {s.name}") for s in workspace.sources()]
    found += [(v.created_at, v.name, f"version  {v.rows:>9,} rows  {v.name}") for v in workspace.versions()]
    return [(name, label) for _, name, label in sorted(found, reverse=True)]


def newest(workspace: Workspace) -> str:
    """The name of the newest; empty where there is none."""
    found = bases(workspace)
    return found[0][0] if found else ""
