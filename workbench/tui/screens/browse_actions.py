"""What can be done on the Browse screen."""

from __future__ import annotations

from workbench.tui.actions import Action, declare

BROWSE_ACTIONS = declare(
    Action("search_line", ("slash",), "search", "List the rows that contain a text.", "browse", takes="TEXT"),
    Action("hit(1)", ("n",), "next hit", "Go to the next row found.", "browse"),
    Action("hit(-1)", ("N",), "previous hit", "Go to the row found before.", "browse"),
    Action("where", (), "where", "List the rows that meet a SQL condition.", "browse", takes="CONDITION"),
    Action("sort", ("s",), "sort", "Order the rows by length, turns or any score.", "browse", takes="NAME"),
    Action("reverse", ("S",), "reverse", "Turn the order round.", "browse"),
    Action("facets", ("F",), "facets", "Show counts to filter by; choosing one again takes the filter away.", "browse"),
    Action("drop", ("x",), "drop", "Drop the row, or all marked rows, with a reason.", "browse", takes="REASON"),
    Action("restore", ("r",), "restore", "Take dropped rows back.", "browse"),
    Action("edit", ("e",), "edit", "Edit the turns of the row; the row as it was is kept.", "browse"),
    Action("label", ("l",), "label", "Label rows good, bad or 1 to 5.", "browse", takes="LABEL"),
    Action("label_as('good')", ("plus",), "good", "Label rows good.", "browse"),
    Action("label_as('bad')", ("minus",), "bad", "Label rows bad.", "browse"),
    *(Action(f"label_as('{n}')", (n,), f"rate {n}", f"Label rows {n}.", "browse") for n in "12345"),
    Action("label_as('')", ("0",), "no label", "Take the label away.", "browse"),
    Action("undo", ("u",), "undo", "Take the last change back, also one of an earlier day.", "browse"),
    Action("redo", ("ctrl+r",), "redo", "Do again what was undone.", "browse"),
    Action("freeze", ("f",), "freeze", "Freeze what is kept as a version with a name.", "browse", takes="NAME"),
    Action("tokens", ("t",), "tokens", "Show the row as tokens, and which of them are trained.", "browse"),
    Action("duplicates", ("d",), "duplicates", "Show the duplicates of what is in view.", "browse"),
    Action("copy", ("y",), "copy", "Copy the row, or all marked rows, as JSON lines.", "browse"),
    Action("export", ("w",), "export", "Write the rows as listed to a .csv or .jsonl file.", "browse", takes="FILE"),
    Action("tab(1)", ("right_square_bracket",), "next tab", "Open the next tab of the preview.", "browse"),
    Action("tab(-1)", ("left_square_bracket",), "previous tab", "Open the tab before.", "browse"),
    Action("into", ("enter",), "read", "Go into the preview, to scroll it; esc comes back.", "browse"),
    Action("go_to", (), "row", "Go to a row by its number.", "browse", takes="NUMBER"),
)
