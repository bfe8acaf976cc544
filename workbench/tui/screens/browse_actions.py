"""What can be done on the Browse screen."""

from __future__ import annotations

from workbench.tables import ENDINGS
from workbench.tui.actions import Action, declare

BROWSE_ACTIONS = declare(
    Action("search_line", ("slash",), "search", "List the rows that contain a text.", "browse", takes="TEXT"),
    Action("hit(1)", ("n",), "next hit", "Go to the next row found.", "browse"),
    Action("hit(-1)", ("N",), "previous hit", "Go to the row found before.", "browse"),
    Action("where", (), "where", "List the rows that meet a SQL condition.", "browse", takes="CONDITION"),
    Action("sort", ("s",), "sort", "Order the rows by length, turns or any score.", "browse", takes="NAME"),
    Action("reverse", ("S",), "reverse", "Turn the order round.", "browse"),
    Action("facets", ("F",), "facets", "Show counts to filter by; choosing one again takes the filter away.", "browse"),
    Action("tokens", ("t",), "tokens", "Show the row as tokens, and which of them are trained.", "browse"),
    Action("duplicates_of_row", ("d",), "duplicates of row", "Show the duplicates of the row.", "browse"),
    Action("compare", ("c",), "compare", "Train two versions alike and compare them.", "browse"),
    Action("copy", ("y",), "copy", "Copy the row, or all marked rows, as JSON lines.", "browse"),
    Action("export", ("w",), "export", f"Write the rows as listed to a {ENDINGS} file.", "browse", takes="FILE"),
    Action(
        "export_rows", ("W",), "export rows", "Write the rows listed, whole, as JSONL or Parquet.", "browse", "FILE"
    ),
    Action("tab(1)", ("right_square_bracket",), "next tab", "Open the next tab of the preview.", "browse"),
    Action("tab(-1)", ("left_square_bracket",), "previous tab", "Open the tab before.", "browse"),
    Action("into", ("enter",), "read", "Go into the preview, to scroll it; esc comes back.", "browse"),
    Action("go_to", (), "row", "Go to a row by its number.", "browse", takes="NUMBER"),
)
