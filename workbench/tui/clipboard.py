"""Copying out of the terminal: by OSC 52, which crosses SSH, and the desktop's own tool; else into a file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from textual.app import App

_MOST = 74_000  # bytes; several terminals throw longer OSC 52 sequences away
_TOOLS = (("wl-copy", "WAYLAND_DISPLAY"), ("xclip", "DISPLAY"), ("pbcopy", ""))


def copy(app: App[None], text: str, file: Path) -> str:
    """Copy `text`; returns where it went, to end a sentence. Called in a worker.

    OSC 52 gives no answer: a terminal that does not know it ignores it. So a desktop's tool is used besides, where
    there is one, and what is too long for either, or for a bare console, goes to `file`.
    """
    if os.environ.get("SSH_CONNECTION") is None and _by_tool(text):
        return "to the clipboard"
    if len(text.encode()) <= _MOST and os.environ.get("TERM") != "linux":
        app.call_from_thread(app.copy_to_clipboard, text)
        return "to the terminal's clipboard"
    file.write_text(text, encoding="utf-8")
    return f"to {file}"


def _by_tool(text: str) -> bool:
    for tool, needs in _TOOLS:
        if (path := shutil.which(tool)) and (not needs or os.environ.get(needs)):
            argv = [path, "-selection", "clipboard"] if tool == "xclip" else [path]
            try:
                subprocess.run(argv, input=text.encode(), check=True, timeout=5, capture_output=True)
            except (OSError, subprocess.SubprocessError):
                continue
            return True
    return False
