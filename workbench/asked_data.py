"""The versions and the eval set that a question names: found, and checked for rows that they share."""

from __future__ import annotations

from workbench.errors import SharedPrompts, UsageProblem
from workbench.store.database import VersionRow
from workbench.store.evalsets import EvalSet, get_eval_set
from workbench.store.versions import get_version
from workbench.workspace import Workspace


def find_eval_set(ws: Workspace, name: str | None) -> EvalSet:
    """The eval set of that name, or the only one there is. Raises UsageProblem, NotFound."""
    known = ws.evalsets()
    if name is None and len(known) == 1:
        return known[0]
    if name is None and not known:
        raise UsageProblem(
            "there is no eval set to measure on",
            do="`workbench evalset import FILE --name E` brings one in; `workbench evalset hold-out` makes one.",
        )
    if name is None:
        raise UsageProblem(f"which eval set? There are {', '.join(e.name for e in known)}", do="Give --evalset NAME.")
    return get_eval_set(ws.store, name)


def find_version(ws: Workspace, name: str) -> VersionRow:
    """The version of that name. Raises UsageProblem for a source, NotFound for what there is not."""
    version = ws.store.version(name)
    if version:
        return version
    if any(source.name == name for source in ws.sources()):
        raise UsageProblem(
            f"{name!r} is a source, and only frozen versions are trained on",
            do=f"Freeze it first: workbench versions freeze {name} --name V.",
        )
    get_version(ws.store, name)
    raise AssertionError("get_version names what is missing")


_shared: dict[tuple[str, str], int] = {}
"""Rows that a version shares with an eval set, by their manifest hashes: a person who asks is told again and again."""


def refuse_overlap(ws: Workspace, version: VersionRow, evalset: EvalSet) -> None:
    """Raise SharedPrompts where a version has the prompt of an item of an eval set."""
    both = (version.manifest_hash, evalset.manifest_hash)
    if both not in _shared:
        _shared[both] = ws.overlaps(version.name, evalset.name)
    if shared := _shared[both]:
        raise SharedPrompts(
            f"{shared:,} rows of version {version.name!r} have the prompt of an item of eval set {evalset.name!r}",
            where=version.name,
            do=f"Freeze a version without them: workbench versions freeze {version.name} --name V "
            f"--without {evalset.name}.",
        )
