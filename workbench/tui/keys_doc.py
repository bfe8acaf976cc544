"""docs/keys.md, made from the registry of actions: `python -m workbench.tui.keys_doc > docs/keys.md`."""

from __future__ import annotations

import sys

from workbench.tui.actions import SCREENS_IN_ORDER, Action, actions_of, declared_scopes
from workbench.tui.app import SCREENS  # every screen declares its actions when it is imported

_ABOUT = {
    "app": "On every screen",
    "rows": "In lists of rows",
    "text": "In text that scrolls",
    "token text": "In the text of tokens",
}


def keys_doc() -> str:
    """The whole page."""
    scopes = ["app", "rows", "text", *(name for name in SCREENS_IN_ORDER if name in SCREENS)]
    scopes += sorted(set(declared_scopes()) - set(scopes))
    parts = [
        "# Keys of the terminal app\n",
        "`workbench` opens it. `?` shows the keys that work where you are, `ctrl+p` finds an action by its name, and",
        "`:` runs one: `:` and its name, followed by what stands behind it in the tables below.",
        "This page is made from the same registry.",
    ]
    for scope in scopes:
        if actions := actions_of(scope):
            parts += [f"\n## {_ABOUT.get(scope, scope.capitalize())}\n", *_table(actions)]
    return "\n".join(parts) + "\n"


def _table(actions: tuple[Action, ...]) -> list[str]:
    rows = ["| keys | `:` | what it does |", "|---|---|---|"]
    for action in actions:
        keys = " ".join(f"`{key}`" for key in action.shown_keys.split())
        rows.append(f"| {keys} | `{action.command}{f' {action.takes}' * bool(action.takes)}` | {action.help} |")
    return rows


if __name__ == "__main__":
    sys.stdout.write(keys_doc())
