"""Where libraries write to while the screen is the app's."""

from __future__ import annotations

import io
import sys


class Unheard(io.TextIOBase):
    """A stream that nobody reads."""

    def write(self, text: str) -> int:
        """Take what is written."""
        return len(text)


def hush() -> None:
    """Have what writes to the terminal write to nothing until the app ends, which puts the terminal's streams back.

    Textual's own streams hold the app. Libraries that are loaded meanwhile keep the stream for their logs, and thereby
    would keep the app with its database to the very end, where DuckDB complains of what was never freed.
    """
    sys.stdout = sys.stderr = Unheard()
