"""What each step of a recipe is worth, asked from the app: which recipe, over which rows, and how; then its versions
are made, what the training takes is told, and it begins."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, cast

from workbench.comparing import setup
from workbench.errors import Stopped
from workbench.tui.bases import bases
from workbench.tui.recipe_flow import Leave, choose_recipe
from workbench.tui.widgets.ablate_dialog import AblateDialog
from workbench.tui.widgets.dialogs import choose

if TYPE_CHECKING:
    from workbench.ablation import Mode
    from workbench.tui.app import WorkbenchApp

_WAYS = [
    ("leave-one-out", "leave one out: the full recipe, and the recipe without each step"),
    ("add-one", "add one: the rows as they are, and each step alone"),
]


async def ablate(app: WorkbenchApp, recipe: str = "") -> str | None:
    """Ask and begin; returns the id of the ablation, None where it was called off."""
    recipe = recipe or await choose_recipe(app, "What is each step worth: of which recipe?", ":ablate FILE takes any.")
    if not recipe:
        return None
    there = await asyncio.to_thread(bases, app.workspace)
    there.sort(key=lambda found: found[0] != app.base)  # what is in view first
    source = await choose(app, f"{Path(recipe).stem}: over which rows?", there)
    if not source:
        return None
    mode = cast("Mode | None", await choose(app, "Which way?", _WAYS))
    if not mode:
        return None
    leave, workspace = Leave(app), app.workspace
    from workbench.ablation import prepare  # what trains is loaded by now at the latest

    try:
        ablation = await leave.asked(
            f"making versions of {Path(recipe).stem}",
            lambda progress, cancelled: prepare(
                workspace,
                recipe,
                [source],
                mode=mode,
                allow_wipeout=leave.wipeout,
                agrees=leave.agrees,
                progress=progress,
            ),
            if_stopped="Asked again, it goes on behind the versions that are made. Nothing is trained.",
        )
    except Stopped:
        app.say("Stopped. Asked again, it goes on behind the versions that are made.")
        return None
    if ablation is None:
        return None
    if not ablation.to_compare:
        app.say(f"No step of {Path(recipe).stem} changes a row of {source}: there is nothing to compare.")
        return None
    await app.tasks.until_free()
    baseline = ablation.baseline.version
    begin_with = await asyncio.to_thread(setup, workspace, baseline, baseline)
    begun = await app.push_screen_wait(AblateDialog(begin_with, Path(recipe).stem, [source], ablation))
    if begun is None:
        app.say(f"Nothing is trained. The versions stay: {baseline} and {len(ablation.variants)} more.")
    return begun
