"""What can be done on the Duplicates screen."""

from __future__ import annotations

from workbench.tables import ENDINGS
from workbench.tui.actions import Action, declare

DUPLICATES_ACTIONS = declare(
    Action("accept", ("x",), "accept", "Let the row, those marked, or below a survivor its cluster fall.",
           "duplicates"),
    Action("reject", ("r",), "reject", "Take back the row, those marked, or on a survivor its cluster.", "duplicates"),
    Action("accept_all", ("X",), "accept all", "Make the version what a run at this threshold makes.", "duplicates"),
    Action("reject_all", ("R",), "reject all", "Take back every row that this step dropped.", "duplicates"),
    Action("survive", ("s",), "survivor", "Keep this row in the place of the one that it falls for.", "duplicates"),
    Action("threshold_by(-1)", ("minus",), "lower", "Lower the threshold by a hundredth: more rows fall.",
           "duplicates"),
    Action("threshold_by(1)", ("plus",), "raise", "Raise the threshold by a hundredth: fewer rows fall.",
           "duplicates"),
    Action("threshold_of_run", ("equals_sign",), "own threshold", "Go back to the threshold of the run.",
           "duplicates"),
    Action("threshold_to", (), "threshold", "Look at any threshold that the kept pairs reach.", "duplicates",
           takes="NUMBER"),
    Action("cluster(1)", ("n",), "next cluster", "Go to the next cluster.", "duplicates"),
    Action("cluster(-1)", ("N",), "previous cluster", "Go to the cluster before.", "duplicates"),
    Action("step(1)", ("right_square_bracket",), "next step", "Show what the next step found.", "duplicates"),
    Action("step(-1)", ("left_square_bracket",), "previous step", "Show what the step before found.", "duplicates"),
    Action("undo", ("u",), "undo", "Take the last change back, also one of an earlier day.", "duplicates"),
    Action("redo", ("ctrl+r",), "redo", "Do again what was undone.", "duplicates"),
    Action("into", ("enter", "tab"), "read", "Go into the texts, to scroll them; esc comes back.", "duplicates"),
    Action("tokens", ("t",), "tokens", "Show the row as tokens, and which of them are trained.", "duplicates"),
    Action("recipe", ("P",), "recipe", "Change a recipe over these rows, and see what each step drops.", "duplicates"),
    Action("look_now", ("d",), "look for duplicates", "Run a recipe that looks for equal and near prompts.",
           "duplicates"),
    Action("export", ("w",), "export", f"Write the clusters as listed to a {ENDINGS} file.", "duplicates",
           takes="FILE"),
)  # fmt: skip
