"""Dark and light: quiet greys, one accent; orange and red only where something was changed or is wrong."""

from __future__ import annotations

import os

from textual.theme import Theme

# Blue and orange are told apart by nearly everybody; whatever they mean is also told by a letter or a glyph.
DARK = Theme(
    name="workbench-dark",
    primary="#6cb2eb",
    secondary="#8fa3b3",
    accent="#6cb2eb",
    warning="#e8a33d",
    error="#ef7a7a",
    success="#86c28b",
    foreground="#d5dae0",
    background="#14171a",
    surface="#181c20",
    panel="#22282e",
    dark=True,
    variables={
        "muted": "#858f9a",
        "rule": "#2c333a",
        "cursor": "#263340",
        "cursor-blurred": "#1e252b",
        "trained": "#6cb2eb",
        "ignored": "#e8a33d",
        "border": "#6cb2eb",
        "border-blurred": "#2c333a",
        "scrollbar": "#3a434c",
        "scrollbar-hover": "#4c5864",
        "scrollbar-active": "#6cb2eb",
        "scrollbar-background": "#14171a",
        "scrollbar-background-hover": "#14171a",
        "scrollbar-background-active": "#14171a",
        "scrollbar-corner-color": "#14171a",
        "block-cursor-background": "#263340",
        "block-cursor-foreground": "#d5dae0",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#1e252b",
        "block-cursor-blurred-foreground": "#d5dae0",
        "block-cursor-blurred-text-style": "none",
    },
)

LIGHT = Theme(
    name="workbench-light",
    primary="#0b62a8",
    secondary="#51606d",
    accent="#0b62a8",
    warning="#9a5700",
    error="#b3261e",
    success="#2c7a3a",
    foreground="#22282e",
    background="#fbfbf9",
    surface="#f5f5f2",
    panel="#e9e9e5",
    dark=False,
    variables={
        "muted": "#66707a",
        "rule": "#d8d8d2",
        "cursor": "#d9e7f3",
        "cursor-blurred": "#ebeeee",
        "trained": "#0b62a8",
        "ignored": "#9a5700",
        "border": "#0b62a8",
        "border-blurred": "#d8d8d2",
        "scrollbar": "#c6c8c4",
        "scrollbar-hover": "#aeb1ad",
        "scrollbar-active": "#0b62a8",
        "scrollbar-background": "#fbfbf9",
        "scrollbar-background-hover": "#fbfbf9",
        "scrollbar-background-active": "#fbfbf9",
        "scrollbar-corner-color": "#fbfbf9",
        "block-cursor-background": "#d9e7f3",
        "block-cursor-foreground": "#22282e",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#ebeeee",
        "block-cursor-blurred-foreground": "#22282e",
        "block-cursor-blurred-text-style": "none",
    },
)


def terminal_is_light() -> bool:
    """Whether the terminal says that its background is light (`COLORFGBG`, as rxvt, Konsole and others set it)."""
    background = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return background in {"7", "15"}


APP_CSS = """
ToastRack { display: none; }
CommandPalette > Vertical { margin-top: 2; max-width: 110; background: $surface; }
CommandPalette #--input, CommandPalette #--input.--list-visible { border: none; background: $panel; }
CommandPalette #--input SearchIcon { display: none; }
CommandPalette #--results CommandList { border: none; background: $surface; }
CommandPalette #--results LoadingIndicator { border: none; }
"""
"""Of the app: what is said stands in the status bar; the palette has the border and the colours of a dialog."""
