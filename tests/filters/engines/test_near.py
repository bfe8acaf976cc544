"""The join over files, with its files worked on here one after the other; Ray itself is in test_ray.py."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from filters.dedup import jaccard
from filters.engines import near
from filters.step import Score

SHARED = "near_duplicates/toolformer_exact_deduped.json"


class Files:
    """An engine that works on files in this process, the last first."""

    name = "files"

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size, self.calls = folder, size, 0

    def takes(self, scorer) -> bool:
        return False

    def each(self, files, work):
        self.calls += 1
        return map(work, reversed(files))

    def near_pairs(self, rows, outside, params, step, least):
        self.folder.mkdir(parents=True)
        return near.near_pairs(self.folder, self.each, rows, outside, params, step, least, self.size)


@pytest.fixture(scope="module")
def crowded(shared_rows):
    """Conversations: descriptions of tools that many share, near copies, copies in another order, and empty ones."""
    random.seed(0)
    rows = [row.messages for row in shared_rows(SHARED)[:300]]
    for messages in random.sample(rows, 60):
        words = messages[0]["content"].split()
        words[random.randrange(len(words))] = "otherwise"
        rows.append([{**messages[0], "content": " ".join(words)}, messages[1]])
    rows += random.sample(rows, 30)
    rows += [[{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]] * 3
    random.shuffle(rows)
    return rows


@pytest.mark.parametrize(
    "params",
    [
        "{on: prompt}",
        "{on: both, keep: newest, threshold: 0.6}",
        "{on: response, keep: shortest}",
        "{on: prompt, keep: first, target: 150}",
        "{on: prompt, keep: best, by: given}",
        "{on: prompt, keep: best, by: given, lowest: true}",
        "{on: prompt, against: [others]}",
    ],
)
def test_the_join_over_files_gives_what_the_join_in_memory_gives_in_its_order(
    crowded, batches, outcomes, tmp_path, params, monkeypatch
):
    from filters.pipeline import MemoryScores

    rows = batches(crowded, size=100)
    hashes = [key for batch in rows() for key in batch.column("content_hash").to_pylist()]
    scores = MemoryScores()
    scores.put({key: Score(float(i % 5)) for i, key in enumerate(hashes) if i % 7}, "given", "f" * 16)
    others = batches([(10_000 + i, messages) for i, messages in enumerate(crowded[:50])])
    recipe = f"steps: [{{minhash: {params}}}]"
    given = {"scores": scores, "others": lambda name: others, "allow_wipeout": True}
    [here] = outcomes(recipe, rows, **given)
    monkeypatch.setattr(near, "PIECE", 200)
    monkeypatch.setattr(near, "ROUND", 1500)
    [there] = outcomes(recipe, rows, engine=Files(tmp_path / "near", 128), **given)
    assert here.drops
    assert there.drops == here.drops
    assert there.pairs == here.pairs
    assert there.params == here.params | {"engine": "files"}


def test_of_a_crowd_the_same_pairs_are_looked_at(crowded, batches, outcomes, tmp_path, monkeypatch):
    monkeypatch.setattr(jaccard, "_MEETINGS", 500)
    monkeypatch.setattr(jaccard, "CROWD", 2)
    rows = batches(crowded, size=100)
    recipe = "steps: [{minhash: {threshold: 0.7, max_drop: 1}}]"
    [here], [there] = outcomes(recipe, rows), outcomes(recipe, rows, engine=Files(tmp_path / "near", 64))
    assert there.drops == here.drops
    assert there.pairs == here.pairs


def test_candidates_of_several_rounds_and_pieces_come_in_their_order(crowded, batches, outcomes, tmp_path, monkeypatch):
    monkeypatch.setattr(near, "PIECE", 200)
    monkeypatch.setattr(near, "ROUND", 1000)
    monkeypatch.setattr(jaccard, "_CHUNK", 700)
    rows, engine = batches(crowded, size=100), Files(tmp_path / "near", 128)
    recipe = "steps: [{minhash: {on: prompt, max_drop: 1}}]"
    [here], [there] = outcomes(recipe, rows), outcomes(recipe, rows, engine=engine)
    assert engine.calls > 3 + 2, "more than one round was made"
    assert there.pairs == here.pairs


def test_nothing_to_compare_is_no_error(batches, outcomes, tmp_path):
    empty = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
    engine = Files(tmp_path / "near", 2)
    for number, rows in enumerate(([], [empty] * 3)):
        engine.folder = tmp_path / str(number)
        [outcome] = outcomes("steps: [minhash]", batches(rows), engine=engine)
        assert (outcome.drops, outcome.pairs) == ([], [])
