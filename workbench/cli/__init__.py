"""The command line: one file a noun, and nothing heavy imported before a command needs it."""

from __future__ import annotations

import importlib
import os
import sys

import click

import workbench
from workbench.errors import Problem, Stopped

# Noun -> module in this package. The commands' own modules import nothing heavy at the top.
COMMANDS = {
    "init": "init",
    "import": "import_",
    "run": "run",
    "examples": "examples",
    "versions": "versions",
    "tokens": "tokens",
    "evalset": "evalset",
    "train": "train",
    "compare": "compare",
    "experiments": "experiments",
    "doctor": "doctor",
    "demo": "demo",
}


class _Commands(click.Group):
    """Loads a command's module when it is named or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"workbench.cli.{COMMANDS[cmd_name]}")
        command = module.command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "-w",
    "--workspace",
    metavar="DIR",
    envvar="WORKBENCH_WORKSPACE",
    help="The workspace folder. Default: the nearest parent folder that is one.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(workbench.__version__, prog_name="workbench")
@click.pass_context
def app(ctx: click.Context, workspace: str | None, debug: bool) -> None:
    """Curate instruction data, see which tokens are trained, and measure what a curation choice does to the model.

    Start with `workbench demo`, or `workbench init DIR` and `workbench import FILE`.
    """
    ctx.obj = {"workspace": workspace, "debug": debug}


def main() -> None:
    """Entry point of the `workbench` command: runs it and turns every problem into its exit code."""
    debug = "--debug" in sys.argv or bool(os.environ.get("WORKBENCH_DEBUG"))
    try:
        code = app.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        _fail(Stopped("Stopped", do="The same command resumes where it was."), debug)
    except KeyboardInterrupt:
        _fail(Stopped("Stopped", do="The same command resumes where it was."), debug)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except Problem as error:
        _fail(error, debug)
    except BrokenPipeError:
        # The reader of our stdout went away (`| head`): not an error of ours, and nothing more to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        bug = Problem(
            f"Unexpected {type(error).__name__}: {error}",
            do="This is our bug. Run the command again with --debug before its name and report what it prints.",
        )
        _fail(bug, debug)


def _fail(error: Problem, debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exc()
    click.echo(f"error: {error}" if not isinstance(error, Stopped) else str(error), err=True)
    sys.exit(error.exit_code)
