"""Pages of the docs are run: their commands, scripts and recipes, in order, with a tiny model and budgets of seconds.

Blocks fenced as `sh`, `python` and `yaml` are run; those without a language, or `text`, are only read. `workbench` is
called in this process and its jobs are children forked from it, so that nothing is loaded twice; `cd` changes the
folder for the lines after it; any other command is run by the shell. A recipe is saved where its first line, a comment,
says. A comment at the end of a line, `# exit code 7`, says how the command must end.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SMALL = "--seeds 2 --trained-tokens 80 --max-new-tokens 2 --answers 0 --preset short"
"""What `workbench compare` is told so that a run takes a second."""

needs_fork = [
    pytest.mark.model,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="jobs are forked, which this system cannot do"),
]
"""The `pytestmark` of tests that run a page."""

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"# exit code (\d)")


@dataclass(frozen=True)
class Ran:
    """A command of a page: its line, its exit code and what it printed."""

    line: str
    code: int
    out: str
    err: str

    @property
    def as_told(self) -> bool:
        """Whether it ended as the page says: with the exit code of its comment, else 0."""
        told = _CODE.search(self.line)
        return self.code == (int(told[1]) if told else 0)


def run_page(
    page: str,
    home: Path,
    start: Callable[..., Any],
    options: Mapping[str, str],
    smaller: Mapping[str, str] | None = None,
) -> list[Ran]:
    """Run a page, `docs/NAME.md`, from top to bottom in the folder `home`; returns its commands.

    `start` is the fixture `fork_job`. `options` are put behind the commands that begin with their key, as
    {"compare": f"--model {tiny_model} {SMALL}"}. `smaller` replaces text of the blocks, as {"--n 60": "--n 6"}; each
    must be there.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = _FENCE.findall(text)
    for old, new in (smaller or {}).items():
        assert any(old in block for _, block in blocks), f"{page} has no {old!r} any more"
        blocks = [(language, block.replace(old, new)) for language, block in blocks]
    done: list[Ran] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.jobs.start", start)
        patch.delenv("WORKBENCH_WORKSPACE", raising=False)
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.chdir(home)
        for language, block in blocks:
            if language == "sh":
                lines = block.replace("\\\n", " ").splitlines()
                done += [_call(patch, line, options) for line in lines if line.strip() and not line.startswith("#")]
            elif language == "python":
                exec(compile(block, page, "exec"), {})
            elif language == "yaml":
                name = re.match(r"# (\S+\.yaml)\n", block)
                assert name, "the first line of a recipe names its file"
                Path(name[1]).write_text(block, encoding="utf-8")
    return done


def put_starter(home: Path, rows: int) -> None:
    """The first `rows` pairs of the starter set, as datasets/starter/good.jsonl in `home`."""
    there = (ROOT / "datasets/starter/good.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (home / "datasets" / "starter").mkdir(parents=True)
    (home / "datasets" / "starter" / "good.jsonl").write_text("".join(there[:rows]), encoding="utf-8")


def _call(patch: pytest.MonkeyPatch, line: str, options: Mapping[str, str]) -> Ran:
    words = shlex.split(line, comments=True)
    if words[0] == "cd":
        patch.chdir(words[1])
        return Ran(line, 0, "", "")
    if words[0] != "workbench":
        ended = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
        return Ran(line, ended.returncode, ended.stdout, ended.stderr)
    called = " ".join(words[1:])
    for command, more in options.items():
        if called.startswith(f"{command} "):
            words += shlex.split(more)
    return _workbench(patch, line, words)


def _workbench(patch: pytest.MonkeyPatch, line: str, words: list[str]) -> Ran:
    from workbench.cli import main

    patch.setattr(sys, "argv", words)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main()
    return Ran(line, int(ended.value.code or 0), out.getvalue(), err.getvalue())
