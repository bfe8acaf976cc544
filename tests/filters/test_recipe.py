from __future__ import annotations

import pytest

from filters.errors import RecipeProblem
from filters.recipe import load_recipe, parse_recipe


def problems(text):
    with pytest.raises(RecipeProblem) as caught:
        parse_recipe(text, "r.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "the recipe is empty"),
        ("# only a comment\n", 1, "the recipe is empty"),
        ("steps: []\n", 1, "no steps"),
        ("steps:\n", 1, "must be a list"),
        ("- exact\n", 1, "starts with `steps:`"),
        ("step:\n  - exact\n", 1, "Did you mean 'steps'?"),
        ("name: x\nsteps:\n  - exact\n", 1, "unknown key 'name'"),
        ("steps:\n  - exact\n  - lenght: {min_words: 1}\n", 3, "unknown step 'lenght'. Did you mean 'length'?"),
        ("steps:\n  - cutoff\n", 2, "Did you mean 'cut-off'?"),
        ("steps:\n  - random_k: {k: 3}\n", 2, "Did you mean 'random-k'?"),
        ("steps:\n  - zzz\n", 2, "Known are: audit, "),
        ("steps:\n  - length:\n      min_words: 2\n      max_word: 9\n", 4, "Did you mean 'max_words'?"),
        ("steps:\n  - length:\n      min_words: 2\n      max_words: '9'\n", 4, "must be a valid integer, not '9'"),
        ("steps:\n  - exact: {on: answer}\n", 2, "'prompt', 'response' or 'both', not 'answer'"),
        ("steps:\n  - top\n", 2, "'top' needs 'by'"),
        ("steps:\n  - random-k: {k: 10, seed: 1.5}\n", 2, "seed must be a valid integer"),
        ("steps:\n  - length: {min_words: 9, max_words: 3}\n", 2, "no row could pass"),
        ("steps:\n  - exact:\n      max_drop: 2\n", 3, "less than or equal to 1"),
        ("steps:\n  - random-k: {k: 1, max_drop: 0.5}\n", 2, "has no parameter 'max_drop'"),
        ("steps:\n  - language: {allow: [en, English]}\n", 2, "'English' is none"),
        (
            "steps:\n  - exact:\n      keep: first\n      keep: longest\n",
            4,
            "'keep' stands here twice (first in line 3)",
        ),
        ("steps:\n  - exact\nsteps:\n  - length: {min_words: 1}\n", 3, "'steps' stands here twice"),
        ("steps:\n  - length:\n    min_words: 3\n", 2, "not one step (found 'length', 'min_words')"),
        ("steps:\n  - exact: 3\n", 2, "must be names with values"),
        ("steps:\n  - [exact]\n", 2, "not one step"),
        ("steps: [exact\nmore: x\n", 2, "not YAML"),
        ("steps:\n\t- exact\n", 2, "not YAML"),
        ("steps:\n  - exact: *gone\n", 2, "not YAML"),
    ],
)
def test_an_error_names_its_line_and_what_to_do(text, line, words):
    said = problems(text)
    assert said.startswith(f"r.yaml:{line}: ")
    assert words in said


def test_every_error_is_told_at_once_in_order():
    said = problems("stepps: 1\nsteps:\n  - lenght\n  - exact: {on: x, kep: first}\n  - random-k: {k: 0}\n")
    assert "the recipe has 5 errors" in said
    lines = [part.split(":")[0] for part in said.split("r.yaml:")[2:]]
    assert lines == ["1", "3", "4", "4", "5"]


def test_a_step_without_parameters_may_stand_alone():
    hashes = {
        parse_recipe(text).recipe_hash for text in ("steps: [exact]", "steps:\n- exact:", "steps:\n- exact: {}\n")
    }
    assert len(hashes) == 1


def test_the_hash_is_of_what_the_recipe_does():
    base = parse_recipe("steps:\n  - exact\n  - random-k: {k: 5}\n").recipe_hash
    assert parse_recipe("# why\nsteps: [exact: {on: both}, random-k: {seed: 0, k: 5}]", "other").recipe_hash == base
    assert parse_recipe("steps:\n  - exact\n  - random-k: {k: 6}\n").recipe_hash != base
    assert parse_recipe("steps:\n  - random-k: {k: 5}\n  - exact\n").recipe_hash != base
    assert len(base) == 64


def test_a_file_that_is_not_there_or_not_text_is_said_plainly(tmp_path):
    with pytest.raises(RecipeProblem, match=r"gone\.yaml: there is no such recipe"):
        load_recipe(tmp_path / "gone.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeProblem, match="cannot be read"):
        load_recipe(tmp_path / "binary.yaml")
    (tmp_path / "control.yaml").write_text("steps: [exact]\x07")
    with pytest.raises(RecipeProblem, match="not YAML"):
        load_recipe(tmp_path / "control.yaml")


def test_the_text_is_kept_with_its_comments(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# why\nsteps: [exact]\n")
    recipe = load_recipe(path)
    assert recipe.name == "mine"
    assert recipe.text.startswith("# why")


def test_norwegian_is_a_language_and_not_a_no():
    (step,) = parse_recipe("steps:\n  - language: {allow: [no, en]}\n").steps
    assert step.params.allow == ["no", "en"]
