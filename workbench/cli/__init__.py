"""The command line: one file a noun, and nothing heavy imported before a command needs it."""

from __future__ import annotations

import difflib
import errno
import importlib
import importlib.util
import os
import sys

import click

import workbench
from workbench.cli import common

OURS = ("trainer", "filters")


def _shadowed(error: ImportError) -> str | None:
    """What to say where another package stands in the place of ours; None where the import failed otherwise."""
    package = (error.name or "").split(".")[0]
    if package not in OURS:
        return None
    found = importlib.util.find_spec(package)
    return (
        f"error: {found.origin if found else package}: Python finds this {package!r} in place of the workbench's own. "
        "Install the workbench in an environment of its own (pipx or uv tool), and take that one out of PYTHONPATH."
    )


try:
    from workbench.errors import ModelUnavailable, Problem, Stopped, WorkspaceUnusable
except ImportError as error:
    if said := _shadowed(error):
        click.echo(said, err=True)
        sys.exit(5)
    raise

# Noun -> module in this package. The commands' own modules import nothing heavy at the top.
COMMANDS = {
    "init": "init",
    "import": "import_",
    "sources": "sources",
    "rejects": "rejects",
    "run": "run",
    "examples": "examples",
    "dupes": "dupes",
    "clusters": "clusters",
    "versions": "versions",
    "tokens": "tokens",
    "evalset": "evalset",
    "train": "train",
    "compare": "compare",
    "sweep": "sweep",
    "ablate": "ablate",
    "experiments": "experiments",
    "merge": "merge",
    "judge": "judge",
    "doctor": "doctor",
    "vacuum": "vacuum",
    "demo": "demo",
}


class _Commands(common.Group):
    """Loads a command's module when it is named or listed."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, which does not know the names that are not loaded yet."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            raise click.UsageError(f"No such command {name!r}.{f' Did you mean {near[0]!r}?' if near else ''}", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"workbench.cli.{COMMANDS[cmd_name]}")
        command = module.command
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "-w",
    "--workspace",
    metavar="DIR",
    envvar="WORKBENCH_WORKSPACE",
    help="The workspace folder. Default: the nearest parent folder that is one.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--no-mouse", is_flag=True, help="Leave the mouse to the terminal while the app is open.")
@click.option("--light/--dark", default=None, help="Colours of the app. Default: what the terminal says of itself.")
@click.version_option(workbench.__version__, prog_name="workbench")
@click.pass_context
def app(ctx: click.Context, workspace: str | None, debug: bool, no_mouse: bool, light: bool | None) -> None:
    """Curate instruction data, see which tokens are trained, and measure what a curation choice does to the model.

    Without a command the terminal app opens. Else start with `workbench demo`, or `workbench init DIR` and
    `workbench import FILE`.
    """
    ctx.obj = {"workspace": workspace, "debug": debug}
    if ctx.invoked_subcommand is None:
        from workbench.cli.terminal import open_app

        ctx.exit(open_app(workspace, mouse=not no_mouse, light=light))


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
        if isinstance(error, ImportError) and (said := _shadowed(error)):
            click.echo(said, err=True)
            sys.exit(ModelUnavailable.exit_code)
        if isinstance(error, OSError) and (refused := _refused(error)):
            _fail(refused, debug)
        if debug:
            raise
        bug = Problem(
            f"Unexpected {type(error).__name__}: {error}",
            do="This is our bug. Run the command again with --debug before its name and report what it prints.",
        )
        _fail(bug, debug)


def _refused(error: OSError) -> WorkspaceUnusable | None:
    """The sentence where the disk or its owner says no: nothing that we could have done otherwise."""
    where = str(error.filename or "")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        do = "Free some space, then run the command again."
        return WorkspaceUnusable("the disk is full, or a quota is reached", where=where, do=do)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO):
        do = "Have its permissions changed, or look after the disk."
        return WorkspaceUnusable(os.strerror(error.errno).lower(), where=where, do=do)
    return None


def _fail(error: Problem, debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exc()
    click.echo(f"error: {error}" if not isinstance(error, Stopped) else str(error), err=True)
    sys.exit(error.exit_code)
