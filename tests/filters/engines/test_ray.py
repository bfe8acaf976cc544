"""A local Ray with two workers, one for all tests of this file: what comes out is what comes out here."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from contextlib import closing
from pathlib import Path

import pytest

from filters.engines.ray import LOG, RayEngine
from filters.engines.shards import ScoreShard, write_shards
from filters.pipeline import MemoryScores
from filters.step import Score, Scorer, each
from trainer.errors import ModelUnavailable, Problem, UsageProblem

from ...chapters import ROOT, run_page

SHARED = ROOT / "../shared/data"
RECIPE = """steps:
  - exact
  - length: {on: response, min_words: 3, max_chars: 2000}
  - pii: {action: redact}
  - language
  - refusal
  - minhash: {on: prompt}
  - repetition
  - random-k: {k: 100, seed: 1}
"""


@pytest.fixture(scope="module", autouse=True)
def two_workers(tmp_path_factory):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    folder, before = tmp_path_factory.mktemp("ray"), signal.getsignal(signal.SIGTERM)
    engine = RayEngine(folder / "work", lambda *_: None, cpus=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        engine.start()
    assert [path.name for path in folder.iterdir()] == ["work"], "Ray keeps nothing in the home folder"
    yield ray
    engine.close()
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is before, "what is forked later would not end when it is told to"


@pytest.fixture
def engine(tmp_path):
    with RayEngine(tmp_path / "ray", lambda *_: None, size=64) as engine:
        yield engine


@pytest.fixture(scope="module")
def rows(batches, shared_rows):
    found = [row.messages for row in shared_rows("alpaca/alpaca_en.json")[:150]]
    found += [row.messages for row in shared_rows("near_duplicates/toolformer_exact_deduped.json")[:150]]
    found += found[:20]
    found[0] = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Write to jo@firm.co.uk today."}]
    return batches(found, size=100)


def test_a_recipe_gives_the_same_drops_pairs_rewrites_and_scores_as_here(rows, outcomes, engine):
    here, there = MemoryScores(), MemoryScores()
    wanted = outcomes(RECIPE, rows, scores=here, allow_wipeout=True)
    found = outcomes(RECIPE, rows, scores=there, allow_wipeout=True, engine=engine)
    for one, other in zip(wanted, found, strict=True):
        assert (other.drops, other.pairs, other.rewrites) == (one.drops, one.pairs, one.rewrites), one.name
        assert (other.unscored, other.errors, other.rows_in) == (one.unscored, one.errors, one.rows_in), one.name
    assert sum(len(outcome.drops) for outcome in wanted if outcome.name == "minhash") > 20
    assert there._scores == here._scores
    on_ray = [outcome.name for outcome in found if outcome.params.get("engine") == "ray"]
    assert on_ray == ["length", "pii", "language", "refusal", "minhash", "repetition"]


def test_scores_that_are_there_are_not_sent_for_again(rows, outcomes, engine):
    scores = MemoryScores()
    recipe = "steps: [{length: {min_words: 2}}]"
    outcomes(recipe, rows, scores=scores)
    [outcome] = outcomes(recipe, rows, scores=scores, engine=engine)
    assert "engine" not in outcome.params


def scorer_of(score, name="own") -> Scorer:
    return Scorer(name, 1, {}, score)


def test_a_worker_that_fails_names_the_step_and_the_row(make_row, engine):
    rows = [make_row(f"Question {n}?", f"Answer {n}", id=n) for n in range(300)]

    def score(rows):
        return [Score(1 / (row.id - 177)) for row in rows]

    with pytest.raises(Problem, match=r"example 177 of .*: own failed \(ZeroDivisionError") as told:
        list(engine.score(scorer_of(score), [rows]))
    assert told.value.exit_code == 1


def test_what_a_worker_says_with_a_problem_is_said_as_it_is(make_row, engine):
    def score(rows):
        raise ModelUnavailable("no tokenizer", where="tiny", do="Fetch it.")

    with pytest.raises(ModelUnavailable, match=r"tiny: no tokenizer\. Fetch it"):
        list(engine.score(scorer_of(score), [[make_row("Who?", "Me")]]))


def test_rows_of_which_workers_die_are_given_up_with_their_step(make_row, engine):
    def score(rows):
        os._exit(3)

    with pytest.raises(Problem, match="own: 3 workers died of one file"):
        list(engine.score(scorer_of(score), [[make_row("Who?", "Me")]]))


def test_workers_find_the_files_wherever_they_were_started(make_row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = RayEngine(Path("here"), lambda *_: None)
    assert list(engine.score(scorer_of(each(lambda row: Score(1.0))), [[make_row("Who?", "Me")]]))


def test_a_scorer_that_cannot_be_sent_is_asked_here(make_row, engine):
    lock = threading.Lock()

    def score(row):
        with lock:
            return Score(1.0)

    assert not engine.takes(scorer_of(each(score)))
    assert engine.takes(scorer_of(each(lambda row: Score(1.0))))


def test_what_a_killed_run_left_is_taken_over(make_row, tmp_path):
    rows = [make_row(f"Question {n}?", "Yes", id=n) for n in range(6)]
    scorer = scorer_of(each(lambda row: Score(float(row.id))))
    left = tmp_path / f"score-{scorer.fingerprint}"
    (left / "parts").mkdir(parents=True)
    shards, _ = write_shards(left / "rows", [rows], 3, lambda *_: None, "")
    ScoreShard(scorer, left / "parts")(shards[1])
    engine = RayEngine(tmp_path, lambda *_: None)
    [part] = engine.score(scorer, [])
    assert part == {row.content_hash: Score(float(row.id)) for row in rows[3:]}
    assert not left.exists()


def test_ray_says_what_it_says_to_a_file(make_row, engine, capfd, tmp_path, recwarn):
    list(engine.score(scorer_of(each(lambda row: Score(1.0))), [[make_row("Who?", "Me")]]))
    said = capfd.readouterr()
    assert said.out == said.err == ""
    assert not [warned for warned in recwarn if "ray" in str(warned.category).lower()]
    assert "Starting execution" in (tmp_path / "ray" / LOG).read_text()


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageProblem, match=r"--engine ray: Ray is not installed. .*sft-workbench\[ray\]"):
        RayEngine(tmp_path, lambda *_: None)


def test_an_address_where_no_ray_answers_is_told_at_once(tmp_path, monkeypatch, two_workers):
    monkeypatch.setattr(two_workers, "is_initialized", lambda: False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageProblem, match=f"--ray-address {address}: Ray does not start, or does not answer"):
            RayEngine(tmp_path, lambda *_: None, address)


def some_rows(folder: Path) -> Path:
    """The first real rows, as rows.json in `folder`."""
    path = SHARED / "alpaca/alpaca_en.json"
    if not path.exists():
        pytest.skip(f"no real data at {path}")
    (folder / "rows.json").write_text(json.dumps(json.loads(path.read_text())[:200]))
    return folder / "rows.json"


def test_a_version_made_on_ray_is_the_one_made_here(tmp_path, monkeypatch):
    from workbench.scoring import chosen_engine
    from workbench.workspace import Workspace

    path = some_rows(tmp_path)
    (tmp_path / "r.yaml").write_text(RECIPE)
    made = {}
    for name in ("local", "ray"):
        with closing(Workspace.init(tmp_path / name)) as workspace:
            workspace.import_file(path, name="rows")
            with chosen_engine(name, workspace.runs_dir, lambda *_: None) as engine:
                report = workspace.run_recipe(tmp_path / "r.yaml", ["rows"], "v", allow_wipeout=True, engine=engine)
            scores = workspace.store.rows("FROM scores ORDER BY ALL")
            decisions = workspace.store.rows("FROM decisions ORDER BY ALL")
            made[name] = report, scores, decisions, workspace.store.rows("FROM duplicate_pairs ORDER BY ALL")
            if name == "ray":
                assert workspace.run_recipe(tmp_path / "r.yaml", ["rows"], "v", allow_wipeout=True).new is False
    here, there = made["local"], made["ray"]
    assert there[0].manifest_hash == here[0].manifest_hash
    assert [(s.name, s.rows_in, s.reasons) for s in there[0].steps] == [
        (s.name, s.rows_in, s.reasons) for s in here[0].steps
    ]
    assert there[1:] == here[1:]
    assert [step.name for step in there[0].steps if "on Ray" in step.notes] == [
        "length", "pii", "language", "refusal", "minhash", "repetition",
    ]  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the page's runner needs it")
def test_the_chapter_can_be_followed(tmp_path):
    some_rows(tmp_path)
    ran = run_page("docs/scaling.md", tmp_path, None, {}, {})
    assert [one for one in ran if not one.as_told] == []
    here, there = (one for one in ran if one.line.startswith("workbench run"))
    assert "on Ray" in there.out
    assert here.out.rsplit("manifest")[1].split()[0] == there.out.rsplit("manifest")[1].split()[0]
