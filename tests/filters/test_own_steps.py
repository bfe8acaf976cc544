"""Steps of other packages, found by real entry points: metadata folders on the path, as pip leaves them."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from filters.errors import RecipeProblem
from filters.pipeline import MemoryScores, run
from filters.recipe import parse_recipe
from filters.registry import find_step, refused_steps, step_names
from trainer.errors import BadInput

EXAMPLE = Path(__file__).parents[2] / "docs/example_step"
HEAD = """
from filters.step import *
from filters.step import StepParams, FilterParams
class Params(FilterParams):
    n: int = 1
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(package, version, steps, code): a package with entry points, whose module has the name of the package."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def go(package, version, steps, code=None):
        info = tmp_path / f"{package}-{version}.dist-info"
        for old in tmp_path.glob(f"{package}-*.dist-info"):
            shutil.rmtree(old)
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        lines = "".join(f"{name} = {target}\n" for name, target in steps.items())
        (info / "entry_points.txt").write_text(f"[sft_workbench.steps]\n{lines}")
        if code is not None:
            (tmp_path / f"{package}.py").write_text(HEAD + code)
        monkeypatch.delitem(sys.modules, package, raising=False)

    return go


@pytest.fixture
def example(install, monkeypatch):
    """The package in docs/, installed; call it with a version to have another one."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    monkeypatch.syspath_prepend(str(EXAMPLE))

    def go(version=project["version"]):
        install(project["name"].replace("-", "_"), version, project["entry-points"]["sft_workbench.steps"])

    return go


@pytest.fixture
def rows(batches, talk):
    return batches([talk("Say it.", "I AM HERE"), talk("Say it.", "I am here."), talk("Say it.", "42")])


def test_the_example_package_works_in_a_recipe(example, rows, outcomes):
    example()
    exact, shouting = outcomes("steps: [exact, {shouting: {max_share: 0.3}}]", rows)
    assert [(drop.id, drop.reason, drop.score) for drop in shouting.drops] == [(0, "shouting", 1.0)]
    assert (exact.name, shouting.name, shouting.unscored) == ("exact", "shouting", 1)
    assert shouting.params == {"max_drop": 0.5, "max_share": 0.3, "package": "example_step 1.0"}
    with pytest.raises(
        RecipeProblem, match=r"recipe:2: 'shouting' has no parameter 'max_shar'. Did you mean 'max_share'"
    ):
        parse_recipe("steps:\n  - shouting: {max_shar: 1}")
    with pytest.raises(RecipeProblem, match="Did you mean 'shouting'"):
        parse_recipe("steps: [shoutin]")


def test_the_example_is_as_short_as_the_page_says():
    assert len((EXAMPLE / "example_step.py").read_text().splitlines()) <= 35
    page = (EXAMPLE.parent / "own-steps.md").read_text()
    assert re.search(r'shouting = "example_step:Shouting"', page)


def test_another_version_of_the_package_is_another_recipe_with_scores_of_its_own(example, rows):
    cache, hashes = MemoryScores(), set()
    for version in ("1.0", "1.1", "1.1"):
        example(version)
        recipe = parse_recipe("steps: [shouting]")
        hashes.add(recipe.recipe_hash)
        list(run(recipe, rows, scores=cache))
    assert len(hashes) == 2
    assert len(cache.scorers()["capitals"]) == 2


def test_no_package_is_loaded_before_a_recipe_names_its_step(install):
    install("bomb", "1.0", {"bang": "bomb:Bang"}, "raise RuntimeError('loaded')")
    assert "bang" in step_names()
    parse_recipe("steps: [exact]")
    with pytest.raises(BadInput, match=r"'bang' of bomb 1.0 failed \(RuntimeError: loaded\)"):
        find_step("bang")


SET = """
class {name}(SetStep[Params]):
    name, kind, params_model = "odd", {kind!r}, Params
    def select(self, rows, outside):
        {body}
"""
ROW = """
class Odd(RowStep[Params]):
    name, kind, params_model = "odd", "filter", Params
    @property
    def scorers(self):
        {scorers}
    def decide(self, scores):
        {decide}
"""
SCORER = "return [Scorer('odd', 1, {}, lambda rows: [Score(1.0) for row in rows])]"


def rewriting(edit):
    return ROW.format(scorers=SCORER, decide=f"pass\n    def rewrite(self, row, scores): return {edit}")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("", "AttributeError"),
        ("Odd = 5", "neither a RowStep nor a SetStep"),
        ("class Odd(SetStep[Params]): name = 'odd'", "lacks select"),
        ("class Odd(SetStep[Params]):\n    def select(self, rows, outside): pass", "has no 'name'"),
        (SET.format(name="Odd", kind="dedup", body="pass").replace('"odd"', '"even"'), "calls itself 'even'"),
        (SET.format(name="Odd", kind="cleaner", body="pass"), "of the kind 'cleaner'"),
        (SET.format(name="Odd", kind="filter", body="pass") + "\nOdd.params_model = dict", "no StepParams"),
    ],
)
def test_a_broken_package_is_named_at_the_line_of_the_recipe_and_breaks_no_other(install, code, says, rows):
    install("odd_steps", "0.1", {"odd": "odd_steps:Odd"}, code)
    with pytest.raises(RecipeProblem, match=f"recipe:2: the step 'odd' of odd_steps 0.1 .*{says}") as caught:
        parse_recipe("steps:\n  - odd")
    assert "uninstall odd_steps" in str(caught.value)
    assert list(run(parse_recipe("steps: [exact]"), rows))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (SET.format(name="Odd", kind="selector", body="return 1 / 0"), r"failed \(ZeroDivisionError"),
        (SET.format(name="Odd", kind="selector", body="return None"), "selected NoneType"),
        (ROW.format(scorers="return 1 / 0", decide="pass"), r"failed \(ZeroDivisionError"),
        (ROW.format(scorers=SCORER, decide="return {}[1]"), r"failed \(KeyError"),
        (ROW.format(scorers=SCORER, decide="return True"), "gave True in decide, which is neither"),
        (ROW.format(scorers=SCORER.replace("in rows", "in rows[:2]"), decide="pass"), "gave 2 scores for 3 rows"),
        (
            ROW.format(scorers=SCORER, decide="pass\n    def flag(self, scores): return 1 / 0"),
            r"failed \(ZeroDivisionError",
        ),
        (ROW.format(scorers=SCORER.replace("Score(1.0)", "row.nothing"), decide="pass"), r"failed \(AttributeError"),
        (ROW.format(scorers=SCORER.replace("Score(1.0)", "0.5"), decide="pass"), "gave 0.5 as a score"),
        (ROW.format(scorers=SCORER.replace("{}", "{'set': {1}}"), decide="pass"), r"failed \(TypeError"),
        (ROW.format(scorers=SCORER, decide="pass\n    def flag(self, scores): return 1"), "gave 1 in flag"),
        (rewriting("'abc'"), "gave 'abc' in rewrite, which is neither an Edit nor None"),
        (rewriting("Edit('abc', 'x')"), "gave an Edit whose messages are no list"),
        (rewriting("Edit([], 'x')"), "gave an Edit whose messages are no list"),
        (rewriting("Edit([{'content': 'x'}], 'x')"), "gave an Edit whose messages are no list"),
        (rewriting("Edit([{'role': 'user', 'content': {1}}], 'x')"), r"failed \(TypeError"),
        (rewriting("Edit([{'role': 'user', 'content': chr(0xd800)}], 'x')"), r"failed \(UnicodeEncodeError"),
        (rewriting("Edit(row.messages, 5)"), "gave an Edit with the reason 5"),
        (SET.format(name="Odd", kind="selector", body="return SetResult([1])"), "dropped 1, which is no Drop"),
        (SET.format(name="Odd", kind="selector", body="return SetResult([Drop(9, 'x')])"), "dropped the row 9, which"),
        (
            SET.format(name="Odd", kind="selector", body="return SetResult([Drop(1, 'x'), Drop(1, 'y')])"),
            "dropped the row 1, which it was not given or had dropped already",
        ),
    ],
)
def test_a_package_that_fails_at_work_is_named(install, code, says, rows):
    install("odd_steps", "0.1", {"odd": "odd_steps:Odd"}, code)
    recipe = parse_recipe("steps: [odd]")
    with pytest.raises(BadInput, match=f"the step 'odd' of odd_steps 0.1 {says}"):
        list(run(recipe, rows))


def test_a_selector_of_a_package_selects(install, rows):
    body = "return SetResult([Drop(row.id, 'odd id') for batch in rows for row in batch if row.id % 2])"
    install("odd_steps", "0.1", {"odd": "odd_steps:Odd"}, SET.format(name="Odd", kind="selector", body=body))
    (outcome,) = run(parse_recipe("steps: [{odd: {n: 3}}]"), rows)
    assert [drop.id for drop in outcome.drops] == [1]
    assert outcome.params == {"max_drop": 0.5, "n": 3, "package": "odd_steps 0.1"}


def test_a_name_that_is_taken_stays_what_it_was_and_the_clash_is_told(install):
    built_in = find_step("exact")
    install("odd_steps", "0.1", {"exact": "odd_steps:Exact"}, "raise RuntimeError('loaded')")
    assert find_step("exact") is built_in
    assert step_names().count("exact") == 1
    (said,) = [one for one in refused_steps() if "exact" in one]
    assert said == "the step 'exact' of odd_steps 0.1 is left out: the workbench has a step of that name"


def test_a_name_of_two_packages_is_nobodys(install):
    install("odd_steps", "0.1", {"odd": "odd_steps:Odd"}, "")
    install("even_steps", "2.0", {"odd": "even_steps:Odd"}, "")
    with pytest.raises(RecipeProblem, match=r"recipe:1: .*'odd' is left out: even_steps 2.0 and odd_steps 0.1 both"):
        parse_recipe("steps: [odd]")
