"""What can be done on the Tokens screen, beside moving about in the tokens."""

from __future__ import annotations

from workbench.tables import ENDINGS
from workbench.tui.actions import Action, declare

TOKENS_ACTIONS = declare(
    Action("issue(1)", ("n",), "next issue", "Go to the next issue of the row.", "tokens"),
    Action("issue(-1)", ("N",), "previous issue", "Go to the issue before.", "tokens"),
    Action("row(1)", ("J",), "next row", "Show the next row of the list that this one was opened from.", "tokens"),
    Action("row(-1)", ("K",), "previous row", "Show the row before.", "tokens"),
    Action(
        "example(1)", ("greater_than_sign",), "next example", "Show the next training example of the row.", "tokens"
    ),
    Action("example(-1)", ("less_than_sign",), "previous example", "Show the training example before.", "tokens"),
    Action("model", ("m",), "model", "See the row as another model's tokenizer does.", "tokens", takes="MODEL"),
    Action(
        "policy",
        ("P",),
        "policy",
        "Train all turns, the last or every token (full); tool-calls and reasoning turn those on and off.",
        "tokens",
        takes="POLICY",
    ),
    Action(
        "template",
        ("T",),
        "template",
        "Write the row by another chat template: a format's name, a Jinja file, or own.",
        "tokens",
        takes="TEMPLATE",
    ),
    Action(
        "template_arguments",
        ("A",),
        "template arguments",
        "Give the chat template arguments, such as enable_thinking=false; none takes them away.",
        "tokens",
        takes="NAME=VALUE",
    ),
    Action(
        "truncation",
        ("x",),
        "truncation",
        "Choose what becomes of longer rows: drop, keep-end, keep-start or drop-turns.",
        "tokens",
        takes="HOW",
    ),
    Action("limit", ("L",), "limit", "Set how many tokens an example may have.", "tokens", takes="N"),
    Action("whitespace", ("w",), "whitespace", "Show spaces as glyphs, or as spaces again.", "tokens"),
    Action("heat", ("H",), "heat", "Measure the loss of every token under the base or an adapter.", "tokens"),
    Action("export_tokens", (), "export tokens", f"Write the row's tokens to a {ENDINGS} file.", "tokens", "FILE"),
)
