"""What every command shares: opening the workspace, JSON on stdout, notes and progress bars on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from workbench.workspace import Workspace

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else.")

F = TypeVar("F", bound=Callable[..., Any])

_MASK_OPTIONS = [
    click.option(
        "--policy",
        type=click.Choice(["all", "last", "full"]),
        default="all",
        show_default=True,
        help="Train all assistant turns, the last one only, or every token.",
    ),
    click.option("--tool-calls/--no-tool-calls", default=True, help="Whether the tool calls of a turn are trained."),
    click.option("--reasoning/--no-reasoning", default=True, help="Whether the reasoning of a turn is trained."),
    click.option(
        "--special",
        type=click.Choice(["flag", "text", "refuse"]),
        default="flag",
        show_default=True,
        help="Special tokens that somebody typed into a message: take them as real ones and say so, write them as "
        "plain text, or refuse the row.",
    ),
    click.option("--date", metavar="YYYY-MM-DD", help="The day that the chat template sees. Default: today."),
    click.option(
        "--template-arg", "template_args", multiple=True, metavar="K=V", help="An argument for the chat template."
    ),
    click.option(
        "--max-length",
        type=click.IntRange(min=1),
        metavar="N",
        help="The most tokens of a row. Default: 2,048, or what the model can see where that is less.",
    ),
    click.option(
        "--truncate",
        type=click.Choice(["drop", "keep-end", "keep-start", "drop-turns"]),
        default="drop",
        show_default=True,
        help="What becomes of longer rows: drop those that would lose trained tokens, keep the last or the first "
        "--max-length tokens, or drop the oldest turns.",
    ),
]


def mask_options(command: F) -> F:
    """The options that say which tokens are trained: those of looking at them are those of training on them."""
    for option in reversed(_MASK_OPTIONS):
        command = option(command)
    return command


Progress = Callable[[int, int | None, str], None]
"""`progress(done, total, what)`: called by use cases often and cheaply; `total` is None while unknown."""


@contextmanager
def workspace(ctx: click.Context) -> Iterator[Workspace]:
    """The workspace that this command works in, open for the time of the block."""
    from workbench.workspace import Workspace

    opened = Workspace.open(ctx.obj["workspace"])
    try:
        yield opened
    finally:
        opened.close()


class Group(click.Group):
    """A command with commands of its own, whose help has the first sentence of each whole."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, where click would cut each sentence to one line."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(300)) for name, command in found if command])


def print_json(data: dict[str, Any]) -> None:
    """One JSON object on stdout: the contract with other programs."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n")


def note(text: str) -> None:
    """A line for a person, on stderr."""
    click.echo(text, err=True)


def out() -> Console:
    """A console on stdout that wraps nothing when piped and never reads markup in text."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 110
    return Console(width=width, highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


@contextmanager
def progress_bar(title: str, *, in_bytes: bool = False) -> Iterator[Progress]:
    """A bar with rate and time left on stderr; silent where stderr is not a terminal."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    console = Console(stderr=True, markup=False, highlight=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn() if in_bytes else MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(title, total=None, rate="")

        def update(done: int, total: int | None, what: str) -> None:
            speed = bars.tasks[task].speed
            rate = f"{decimal(int(speed)) if in_bytes else f'{speed:,.0f}'}/s" if speed else ""
            bars.update(task, completed=done, total=total, description=what or title, rate=rate)

        yield update
