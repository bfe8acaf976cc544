"""What can be done on the Recipe screen."""

from __future__ import annotations

from workbench.tui.actions import Action, declare

RECIPE_ACTIONS = declare(
    Action("add", ("a",), "add", "Add a step behind this one.", "recipe", takes="STEP"),
    Action("remove", ("x",), "remove", "Take this step out of the recipe.", "recipe"),
    Action("move(1)", ("J",), "step down", "Move this step behind the next one.", "recipe"),
    Action("move(-1)", ("K",), "step up", "Move this step before the one above.", "recipe"),
    Action("edit", ("e",), "edit", "Type all parameters of this step; on a parameter, its value.", "recipe",
           takes="PARAMETERS"),
    Action("turn(1)", ("right", "l"), "next value", "Give a parameter of few values the next one.", "recipe"),
    Action("turn(-1)", ("left", "h"), "value before", "Give a parameter of few values the one before.", "recipe"),
    Action("reset", ("backspace", "delete"), "default", "Let a parameter have its default.", "recipe"),
    Action("undo", ("u",), "undo", "Take the last change of the recipe back.", "recipe"),
    Action("redo", ("ctrl+r",), "redo", "Do again what was undone.", "recipe"),
    Action("begin", ("c",), "compute", "Begin the job that a step needs, and count on.", "recipe"),
    Action("let", ("y",), "let pass", "Let a step drop more than it may, this time.", "recipe"),
    Action("recount", ("r",), "count", "Count on where it was stopped; esc stops.", "recipe"),
    Action("overlap", ("v",), "overlap", "Show what each step would drop by itself, and what only it.", "recipe"),
    Action("freeze", ("f", "p"), "freeze", "Run the recipe and freeze what is left as a version.", "recipe",
           takes="NAME"),
    Action("open_recipe", ("O",), "open recipe", "Open another recipe.", "recipe", takes="RECIPE"),
    Action("new_recipe", ("N",), "new recipe", "Begin a recipe without steps.", "recipe"),
    Action("save", ("w",), "save", "Write the recipe to its file.", "recipe", takes="FILE"),
    Action("save_as", ("W",), "save as", "Write the recipe to another file.", "recipe"),
    Action("into", ("enter",), "read", "Read the row that falls, and the one kept in its place.", "recipe"),
    Action("pane(1)", ("tab",), "next pane", "Go from steps to parameters, rows that fall, text.", "recipe"),
    Action("pane(-1)", ("shift+tab",), "pane before", "Go the other way.", "recipe"),
    Action("tokens", ("t",), "tokens", "Show the row that falls as tokens.", "recipe"),
)  # fmt: skip
