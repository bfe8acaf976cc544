"""A recipe's text, edited by the step: what an edit does not touch stays to the letter, and comments go with a step."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.recipe import parse_recipe
from workbench.errors import UsageProblem
from workbench.recipe_text import read_params, split, written
from workbench.resources import data_dir

TEXT = """# what it is for
steps: # in order
  # one copy is enough
  - exact: {on: both}  # of all turns

  # short ones
  # and long ones
  - length:   # in words
      on: response   # not the prompt
      # a page
      max_words: 400
      # max_chars would be finer
  - refusal  # opens with one
  - language:
# the end
"""


def test_what_is_only_read_is_written_as_it_was():
    shipped = sorted((data_dir() / "recipes").glob("*.yaml"))
    for text in [TEXT, *(path.read_text(encoding="utf-8") for path in shipped)]:
        assert str(split(text)) == text


def test_a_step_that_is_moved_or_removed_takes_the_comments_above_it_along():
    moved = str(split(TEXT).with_move(0, 1))
    assert moved.index("short ones") < moved.index("- length") < moved.index("finer") < moved.index("one copy")
    assert moved.index("one copy") < moved.index("- exact") < moved.index("- refusal")
    assert str(split(moved).with_move(1, 0)) == TEXT
    without = str(split(TEXT).without_step(1))
    assert "short ones" not in without
    assert "finer" not in without
    assert "one copy" in without
    assert "the end" in without


def test_a_parameter_is_changed_and_everything_beside_it_stays():
    changed = split(TEXT).with_params(1, {"on": "response", "max_words": 500})
    assert str(changed) == TEXT.replace("400", "500")
    assert str(split(TEXT).with_params(0, {"on": "both", "ignore_case": True})).count("ignore_case: true}") == 1
    fewer = str(split(TEXT).with_params(1, {"max_words": 400}))
    assert "on: response" not in fewer
    assert "# a page" in fewer
    assert "# in words" in fewer
    lists = split("steps:\n- pii:\n    kinds:\n    - mail\n    - key\n    on: both  # sides\n")
    assert str(lists.with_params(0, {"on": "both"})) == "steps:\n- pii:\n    on: both  # sides\n"
    assert str(lists.with_params(0, {})) == "steps:\n- pii\n"
    assert "on: both}" not in str(split(TEXT).with_params(0, {}))


def test_a_step_without_parameters_gets_some_in_its_line():
    changed = str(split(TEXT).with_params(2, {"max_drop": 1}).with_params(3, {"allow": ["en"]}))
    assert "  - refusal: {max_drop: 1}  # opens with one\n" in changed
    assert "  - language: {allow: [en]}\n" in changed
    assert len(parse_recipe(changed).steps) == 4


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("steps:\n", "steps:\n  - exact\n"),
        ("steps: []  # none yet\n", "steps: # none yet\n  - exact\n"),
        ("# nothing", "# nothing\nsteps:\n  - exact\n"),
        ("steps: [language]", "steps:\n  - language\n  - exact\n"),
        ("{steps: [language]}", "steps:\n  - language\n  - exact\n"),
        ("steps:\n- language", "steps:\n- language\n- exact\n"),
        ("steps:\n -\n   language\n", "steps:\n -\n   language\n - exact\n"),
    ],
)
def test_a_step_is_added_however_the_steps_were_written(text, then):
    pieces = split(text)
    assert str(pieces.with_step(len(pieces.blocks), "exact", {})) == then


def test_a_step_that_refers_to_another_is_left_to_an_editor():
    pieces = split("steps:\n  - exact: &same {on: prompt}\n  - length: {<<: *same, max_words: 4}\n")
    with pytest.raises(UsageProblem, match="another part of the file"):
        pieces.with_params(1, {"max_words": 5})


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12))
def test_what_is_written_for_a_person_reads_back(text):
    params = {"by": text, "k": 3, "kinds": [text, "b"], "none": None, "yes": True}
    assert dict(read_params(written(params))) == params


@pytest.mark.parametrize("typed", ["}", "x", "400", "a: [", "a: 1, a: 2", "*x"])
def test_what_are_no_parameters_is_told_how_they_look(typed):
    with pytest.raises(UsageProblem, match="like this"):
        read_params(typed)
