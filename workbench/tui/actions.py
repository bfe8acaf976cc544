"""The one registry of what keys do: bindings, palette, `?`, the `:` line and docs/keys.md are all made from it."""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding, BindingType

SCREENS_IN_ORDER = ("browse", "tokens", "duplicates", "recipe", "versions", "experiments")
"""Scopes that are screens, in the order in which bar, help and docs name them."""


@dataclass(frozen=True)
class Action:
    """One thing that a person can do.

    `name` is the Textual action (`drop` runs `action_drop`), `keys` Textual key names, `title` a few words (its
    first, joined by hyphens, is the `:` command), `help` a sentence. `scope` is `app`, a screen or a widget.
    `takes` names what the `:` command may be followed by; `action_NAME` then takes it as one string.
    `anywhere` makes its keys work above dialogs and while typing.
    """

    name: str
    keys: tuple[str, ...]
    title: str
    help: str
    scope: str
    takes: str = ""
    anywhere: bool = False

    @property
    def command(self) -> str:
        """The word that stands for it on the `:` line."""
        return self.title.lower().replace(" ", "-")

    @property
    def shown_keys(self) -> str:
        """Its keys as they are written for people: `j ↓`."""
        return " ".join(key_name(key) for key in self.keys)


_declared: dict[str, tuple[Action, ...]] = {}


def declare(*actions: Action) -> tuple[Action, ...]:
    """Put the actions of one scope into the registry, once, where its class is made; returns them.

    Raises ValueError where two of them share a key, a name or a command: that is a bug of the caller.
    """
    scopes = {action.scope for action in actions}
    if len(scopes) != 1:
        raise ValueError(f"actions of one scope at a time, not of {sorted(scopes)}")
    for what in ("name", "command"):
        _once([getattr(action, what) for action in actions], what)
    _once([key for action in actions for key in action.keys], "key")
    _declared[scopes.pop()] = actions
    return actions


def actions_of(scope: str) -> tuple[Action, ...]:
    """The actions that were declared for a scope; none for a scope that is not loaded."""
    return _declared.get(scope, ())


def declared_scopes() -> list[str]:
    """All scopes that are loaded."""
    return list(_declared)


def bindings(scope: str) -> list[BindingType]:
    """The Textual bindings of a scope. Keys of the app and its screens never show in a footer: help tells them."""
    return [
        Binding(key, action.name, action.title, show=False, priority=action.anywhere)
        for action in actions_of(scope)
        for key in action.keys
    ]


_NAMES = {
    "up": "↑", "down": "↓", "left": "←", "right": "→", "pageup": "pgup", "pagedown": "pgdn", "escape": "esc",
    "question_mark": "?", "slash": "/", "colon": ":", "plus": "+", "minus": "-", "less_than_sign": "<",
    "greater_than_sign": ">", "left_square_bracket": "[", "right_square_bracket": "]", "full_stop": ".",
    "equals_sign": "=", "comma": ",", "asterisk": "*",
}  # fmt: skip


def key_name(key: str) -> str:
    """How a Textual key name is written for people."""
    return _NAMES.get(key, key)


def _once(values: list[str], what: str) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"two actions have the {what} {', '.join(twice)}")


APP_ACTIONS = declare(
    Action("help", ("question_mark", "f1"), "help", "Show the keys that work now.", "app"),
    Action("command_palette", ("ctrl+p",), "palette", "Find any action by name.", "app"),
    Action("command_line", ("colon",), "command", "Type a command, or a SQL condition where rows are listed.", "app"),
    *(
        Action(f"go('{name}')", (name[0].upper(),), name, f"Go to {name}.", "app")
        for name in SCREENS_IN_ORDER
        if name not in ("tokens", "duplicates")  # they are opened over another screen
    ),
    Action("open_base", ("o",), "open", "Choose the source or version to look at.", "app", takes="NAME"),
    Action("duplicates", ("D",), "duplicates", "Show the duplicates of what is in view.", "app", takes="NAME"),
    Action("import_file", ("i",), "import", "Import a file, a folder or a data set of the hub.", "app", takes="PATH"),
    Action("run_recipe", ("p",), "run", "Run a recipe over what is in view: a new version.", "app", takes="RECIPE"),
    Action("rejects", (), "rejects", "Show the rows that could not be imported, and why.", "app", takes="NAME"),
    Action("hold_out", (), "hold out", "Make an eval set of rows of a source or version.", "app", takes="NAME"),
    Action("stop_task", (), "stop work", "Stop the import or recipe that runs.", "app"),
    Action("toggle_theme", ("ctrl+t",), "theme", "Switch between dark and light.", "app"),
    Action("save_screen", (), "save screen", "Write the screen to an SVG file.", "app", takes="FILE"),
    Action("back", ("q", "escape"), "back", "Close what is open and go back.", "app"),
    Action("quit", ("ctrl+q",), "quit", "Leave the app. Jobs that run go on.", "app", anywhere=True),
)
