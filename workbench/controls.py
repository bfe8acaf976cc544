"""Controls: arms made from the baseline, so that a candidate is measured by more than the baseline itself.

A curated version that beats the raw rows may do so because it is smaller, or because its answers are longer. So as many
rows of the baseline as the candidate has are drawn at random, or taken by length; and all of the baseline's rows are
trained on. Most published selectors fail to beat one of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from workbench.errors import UsageProblem
from workbench.store.database import VersionRow
from workbench.workspace import Workspace

RANDOM, LONGEST, FULL = "random-k", "longest-k", "full"
KINDS: Final = (RANDOM, LONGEST, FULL)

SAID: Final = {
    RANDOM: "as many rows of the baseline, drawn at random",
    LONGEST: "as many rows of the baseline, those with the longest answers",
    FULL: "all rows of the baseline, each at least once",
}
"""What each kind is, in words."""

_RECIPES: Final = {
    RANDOM: "# A control: as many rows as a candidate, at random.\nsteps:\n  - random-k: {{k: {k}, seed: 0}}\n",
    LONGEST: "# A control: as many rows as a candidate, the longest answers.\n"
    "steps:\n  - longest-k: {{k: {k}, on: response}}\n",
}


@dataclass(frozen=True)
class Control:
    """A control arm: its kind, what it trains on, and the candidate arms that it is the control of."""

    kind: str
    version: VersionRow
    of: tuple[str, ...]


def make_controls(
    ws: Workspace, kinds: Sequence[str], baseline: VersionRow, candidates: Mapping[str, VersionRow], *, dry_run: bool
) -> dict[str, Control]:
    """The control arms of an experiment by name. Those of one size for several candidates are one arm.

    Versions that are not there yet are made by recipes of one step, and so can be made again by anybody; a `dry_run`
    only counts them. Raises UsageProblem for an unknown kind, and where no candidate is smaller than the baseline.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageProblem(f"there is no control {unknown[0]!r}", do=f"There are {', '.join(KINDS)}.")
    made: dict[str, Control] = {}
    for kind in dict.fromkeys(kinds):
        if kind == FULL:
            made[FULL] = Control(FULL, baseline, tuple(candidates))
            continue
        sizes = sorted({version.rows for version in candidates.values() if version.rows < baseline.rows})
        if not sizes:
            raise UsageProblem(
                f"--control {kind} takes as many of the {baseline.rows:,} rows of {baseline.name!r} as a candidate "
                "has, and no candidate has fewer",
                do="It is for candidates that select from the baseline: give the larger version first.",
            )
        for number, size in enumerate(sizes, 1):
            arm = kind if number == 1 else f"{kind}{number}"
            of = tuple(name for name, version in candidates.items() if version.rows == size)
            made[arm] = Control(kind, _selected(ws, kind, baseline, size, dry_run=dry_run), of)
    return made


def _selected(ws: Workspace, kind: str, baseline: VersionRow, size: int, *, dry_run: bool) -> VersionRow:
    """The version of `size` rows of the baseline, made now where it is not there."""
    from filters.recipe import parse_recipe

    if ws.draft(baseline.name).summary().changes_rows:
        raise UsageProblem(
            f"{baseline.name!r} has changes by hand that are not frozen, and a control would be made of those rows",
            where=baseline.name,
            do="Freeze them as a version of their own, or undo them.",
        )
    name = f"{baseline.name}-{kind}-{size}"
    recipe = parse_recipe(_RECIPES[kind].format(k=size), name=f"{kind}.yaml")
    report = ws.run_recipe(recipe, [baseline.name], name, dry_run=dry_run)
    there = None if dry_run else ws.store.version(name)
    return there or VersionRow(0, name, report.manifest_hash, report.rows_out)
