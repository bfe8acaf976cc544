"""The tutorial is run: its commands, its script and its recipes, in order, with a tiny model and budgets of seconds.

Commands are called in this process and jobs are children forked from it, so that nothing is loaded twice.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TUTORIAL = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
SMALL = "--seeds 2 --trained-tokens 80 --max-new-tokens 2 --answers 0 --preset short"
ROWS = 40
HELD = 6
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="jobs are forked, which this system cannot do"),
]


@dataclass(frozen=True)
class Ran:
    """A command of the tutorial: its line, its exit code and what it printed."""

    line: str
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory, tiny_model, fork_job) -> list[Ran]:
    """The tutorial from top to bottom, each recipe saved where its first line says."""
    import trainer.likelihood  # noqa: F401  # the children find it loaded

    home = tmp_path_factory.mktemp("tutorial")
    rows = (ROOT / "datasets/starter/good.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (home / "datasets" / "starter").mkdir(parents=True)
    (home / "datasets" / "starter" / "good.jsonl").write_text("".join(rows[:ROWS]), encoding="utf-8")
    done = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.jobs.start", fork_job)
        patch.delenv("WORKBENCH_WORKSPACE", raising=False)
        patch.chdir(home)
        for language, text in _FENCE.findall(TUTORIAL):
            if language == "sh":
                done += [_call(patch, line, tiny_model) for line in text.splitlines() if line.strip()]
            elif language == "python":
                exec(compile(text, "docs/tutorial.md", "exec"), {})
            elif language == "yaml":
                _save(text, tiny_model)
    return done


def _save(recipe: str, model: Path) -> None:
    name = re.match(r"# (\S+\.yaml)\n", recipe)
    assert name, "the first line of a recipe names its file"
    # To a model of random weights prompts are neither help nor harm.
    small = recipe.replace("max: 0.85, max_drop: 0.6", f"max: 1.0, max_drop: 0.99, model: {model}")
    Path(name[1]).write_text(small, encoding="utf-8")


def _call(patch: pytest.MonkeyPatch, line: str, model: Path) -> Ran:
    from workbench.cli import main

    words = shlex.split(line, comments=True)
    if words[0] == "cd":
        patch.chdir(words[1])
        return Ran(line, 0, "", "")
    assert words[0] == "workbench", line
    if words[1] == "compare":
        words += ["--model", str(model), *shlex.split(SMALL)]
    if "--n" in words:
        words[words.index("--n") + 1] = str(HELD)
    patch.setattr(sys, "argv", words)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main()
    return Ran(line, int(ended.value.code or 0), out.getvalue(), err.getvalue())


def test_every_command_ends_well(ran):
    may = {True: {0, 7}, False: {0}}
    failed = [one for one in ran if one.code not in may["--gate" in one.line]]
    assert not failed, failed
    assert len(ran) >= 12


def test_every_comparison_gives_a_verdict_and_the_last_trains_nothing(ran):
    compared = [one for one in ran if one.line.startswith("workbench compare")]
    assert len(compared) == 3
    words = ("better", "worse", "mixed", "no difference detected")
    assert all(any(word in one.out for word in words) for one in compared)
    assert "4 runs taken over" in compared[-1].err, "its runs were made by the comparisons before it"


def test_the_recipe_says_why_each_row_left(ran):
    [cleaned] = [one for one in ran if "--name cleaned" in one.line]
    assert "high ifd_ppl" in cleaned.out
