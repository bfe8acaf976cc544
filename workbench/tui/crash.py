"""The end of the app by an error of ours."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text


class Crash(Exception):
    """An error of ours that ended the app, as a person is told of it."""

    def __init__(self, error: BaseException, log: Path | None) -> None:
        super().__init__(str(error))
        where = f"What it was is written in {log}. " if log else ""
        self.sentence = (
            f"The app ended on an unexpected {type(error).__name__}: {error}. {where}What you did is saved. "
            "This is our bug: please report it."
        )

    def __rich__(self) -> Text:
        return Text(self.sentence)
