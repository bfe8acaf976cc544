"""The walk in docs/diagnosis.md is run: compared, diagnosed, suspects dropped, compared again."""

from __future__ import annotations

from pathlib import Path

import pytest

from .chapters import Ran, needs_fork, put_starter, run_page

pytestmark = needs_fork
SMALL = "--trained-tokens 80 --max-new-tokens 2 --preset short"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """The folder that the page is run in."""
    return tmp_path_factory.mktemp("walk")


@pytest.fixture(scope="module")
def ran(home, tiny_model, fork_job) -> list[Ran]:
    """The page from top to bottom."""
    put_starter(home, 24)
    return run_page("docs/diagnosis.md", home, fork_job, {"compare": f"--model {tiny_model} {SMALL}"})


def test_every_command_ends_well(ran):
    assert not [one for one in ran if not one.as_told]
    diagnosed = next(one for one in ran if " diagnose " in one.line)
    assert "a phrase that comes too often" in diagnosed.out
    assert "1 run taken over" in ran[-1].err


def test_the_rows_that_are_dropped_are_the_planted_ones(ran, home):
    from workbench.workspace import Workspace

    ws = Workspace.open(home / "why")
    names = ("support-after", "support-mended")
    texts = {name: str([batch.column("messages").to_pylist() for batch in ws.rows(name)]) for name in names}
    ws.close()
    assert ("two years" in texts["support-after"], "two years" in texts["support-mended"]) == (True, False)
