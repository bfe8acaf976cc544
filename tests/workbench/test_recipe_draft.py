"""A recipe in the making: always one that can be run, undone step by step, saved over nothing that is not known."""

from __future__ import annotations

import pytest

from filters.errors import RecipeProblem
from filters.recipe import load_recipe
from filters.registry import STEPS
from workbench.errors import UsageProblem
from workbench.recipe_draft import Overwrites, RecipeDraft, needs, required, step_table

TEXT = "# mine\nsteps:\n  - exact: {on: both}\n  - length: {on: response, max_words: 400}  # a page\n"


@pytest.fixture
def draft(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    return RecipeDraft.open(path, {})


def names(draft):
    return [step.name for step in draft.steps]


def test_steps_are_added_moved_removed_and_all_of_it_undone(draft):
    draft.add("random-k", 2, "k: 10")
    draft.move(2, 0)
    draft.remove(1)
    assert names(draft) == ["random-k", "length"]
    told = [draft.undo(), draft.undo(), draft.undo(), draft.undo()]
    assert told == ["removing exact", "moving random-k", "adding random-k", None]
    assert draft.text == TEXT
    assert not draft.unsaved
    assert draft.redo() == "adding random-k"
    draft.set_param(0, "on", "prompt")
    assert draft.redo() is None, "what was undone is gone once something else is done"
    while names(draft):
        draft.remove(0)
    assert draft.recipe.steps == ()
    assert draft.unsaved


@pytest.mark.parametrize(
    ("name", "typed", "told"),
    [
        ("max_words", "many", "max_words must be a valid integer, not 'many'"),
        ("on", "answer", "must be 'prompt', 'response' or 'both', not 'answer'"),
        ("max_words", "null", "needs at least one of"),
        ("max_drop", "2", "max_drop must be less than or equal to 1, not 2"),
    ],
)
def test_a_value_that_does_not_fit_is_told_in_a_sentence_and_changes_nothing(draft, name, typed, told):
    with pytest.raises(RecipeProblem, match=told):
        draft.set_param(1, name, typed)
    assert draft.text == TEXT
    assert draft.undo() is None


def test_parameters_that_need_each_other_are_given_together(draft):
    with pytest.raises(RecipeProblem, match="needs `by`"):
        draft.set_param(0, "keep", "best")
    draft.set_params(0, "on: both, keep: best, by: quality")
    assert draft.given(0) == "on: both, keep: best, by: quality"
    draft.set_param(0, "by", "a, b: [c")
    assert draft.steps[0].params.by == "a, b: [c", "a text is a text, whatever signs are in it"


def test_parameters_tell_their_values_defaults_and_choices(draft):
    found = {param.name: param for param in draft.params(0)}
    assert (found["on"].value, found["on"].given, found["on"].choices) == ("both", True, ("prompt", "response", "both"))
    assert (found["keep"].value, found["keep"].given) == ("longest", False)
    assert found["ignore_case"].choices == ("false", "true")
    draft.set_param(0, "ignore_case", "true")
    assert draft.steps[0].params.ignore_case is True
    draft.reset_param(0, "ignore_case")
    assert draft.text == TEXT


def test_it_is_saved_with_its_comments_and_read_back(draft, tmp_path):
    draft.set_param(1, "max_words", "500")
    assert draft.unsaved
    draft.save(draft.path)
    assert draft.path.read_text() == TEXT.replace("400", "500")
    assert not draft.unsaved
    assert load_recipe(draft.path).recipe_hash == draft.recipe.recipe_hash
    draft.undo()
    assert draft.unsaved


def test_a_file_that_holds_something_else_is_not_written_over_unasked(draft, tmp_path):
    draft.set_param(1, "max_words", "500")
    draft.path.write_text("steps: [refusal]\n")
    with pytest.raises(Overwrites, match="changed since it was opened"):
        draft.save(draft.path)
    other = tmp_path / "other.yaml"
    other.write_text("steps: [refusal]\n")
    with pytest.raises(Overwrites, match="is there already"):
        draft.save(other)
    assert "refusal" in draft.path.read_text()
    assert "refusal" in other.read_text()
    draft.save(other, force=True)
    assert draft.name == "other"
    assert "max_words: 500" in other.read_text()
    with pytest.raises(UsageProblem, match="without steps"):
        RecipeDraft.empty({}).save(tmp_path / "none.yaml")


def test_a_shipped_recipe_has_no_file_to_save_to(tmp_path, draft):
    assert RecipeDraft.open(draft.path, {}, shipped=True).path is None


def test_every_step_there_is_can_be_added_after_what_it_needs_is_said():
    for name, kind, about in step_table():
        assert about.endswith(".")
        assert kind == STEPS[name].kind
        draft = RecipeDraft.empty({})
        if needs(name):
            with pytest.raises(RecipeProblem):
                draft.add(name, 0, "")
        else:
            draft.add(name, 0, "")
            assert names(draft) == [name]
            assert draft.params(0)
    assert required("top") == "by: "
    assert required("exact") == ""
