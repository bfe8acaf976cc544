"""The tutorial is run: its commands, its script and its recipes, in order, with a tiny model and budgets of seconds."""

from __future__ import annotations

import pytest

from .chapters import SMALL, Ran, needs_fork, put_starter, run_page

pytestmark = needs_fork


@pytest.fixture(scope="module")
def ran(tmp_path_factory, tiny_model, fork_job) -> list[Ran]:
    """The tutorial from top to bottom, each recipe saved where its first line says."""
    import trainer.likelihood  # noqa: F401  # the children find it loaded

    home = tmp_path_factory.mktemp("tutorial")
    put_starter(home, 40)
    smaller = {
        "--n 60": "--n 6",
        # To a model of random weights prompts are neither help nor harm.
        "max: 0.85, max_drop: 0.6": f"max: 1.0, max_drop: 0.99, model: {tiny_model}",
        "# exit code 7": "",  # nor do wrong answers make it reliably worse
    }
    return run_page("docs/tutorial.md", home, fork_job, {"compare": f"--model {tiny_model} {SMALL}"}, smaller)


def test_every_command_ends_well(ran):
    failed = [one for one in ran if not one.as_told and not ("--gate" in one.line and one.code == 7)]
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
