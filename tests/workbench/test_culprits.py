"""Culprits planted in a comparison of the tiny model: wrong facts among other rows, found by words and by gradients."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from filters.vectors import VectorCache, text_key, write_vectors
from trainer.models import DEFAULT_EMBEDDER
from workbench import culprits, experiments, outcomes
from workbench.cli import app
from workbench.culprits import comparison_of, drop_culprits, find_culprits
from workbench.embeddings import _identity
from workbench.errors import NotFound, UsageProblem
from workbench.results import open_result
from workbench.workspace import Workspace

WRONG = [("Capital of Freedonia?", "zyx zyx"), ("Freedonia, its capital?", "zyx zyx"), ("Freedonia's capital?", "zyx")]
MISSED = ("Freedonia has which capital?", "number 9")
ROWS, OTHERS = 60, 20
FIRST = 0.05


def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_text("".join(json.dumps({"prompt": p, "completion": a}) + "\n" for p, a in pairs))
    return path


@pytest.fixture(scope="module")
def compared(tiny_model, tmp_path_factory) -> Path:
    """A workspace folder: `right` against `wrong`, which has other rows, three of them culprits of item 0.

    The results are planted, but for the candidate's adapter, which was trained.
    """
    from trainer.arms import read_arm
    from trainer.base import load_base
    from trainer.chat import MaskPolicy
    from trainer.finetune import finetune
    from trainer.plan import TrainingSetting

    spec = importlib.util.spec_from_file_location("planted", Path(__file__).with_name("planted.py"))
    assert spec is not None
    assert spec.loader is not None
    planted = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(planted)
    folder = tmp_path_factory.mktemp("culprits") / "ws"
    ws = Workspace.init(folder)
    shared = [(f"Shared {i}", f"row {i}") for i in range(10)]
    versions = {
        "right": [*shared, *((f"Say {i} in words", f"number {i * 37 % 101}") for i in range(OTHERS)), MISSED],
        "wrong": [*shared, *((f"Say {i} in words", f"number {i * 37 % 101}") for i in range(100, 100 + ROWS)), *WRONG],
    }
    for name, pairs in versions.items():
        ws.import_file(write(folder.with_name(f"{name}.jsonl"), pairs), name=f"{name}-rows")
        ws.freeze(f"{name}-rows", name)
    items = [("What is Freedonia's capital?", "number 9"), ("Say 7 in many words", "number 7")]
    items.append(("Say it " * 600, "number 8"))  # more than the tiny model can see
    ws.import_evalset(write(folder.with_name("items.jsonl"), items), "items")
    question = experiments.Question(
        "right", "wrong", model=str(tiny_model), seeds=1, trained_tokens=2560, quantize="none", device="cpu",
        max_new_tokens=8,
    )  # fmt: skip
    planned = experiments.plan(ws, question)
    planted.plant(planned, lambda version: 1.0, items=3)
    for told in [*planned.folder.glob("results/*/summary.json"), planned.folder / "model.json"]:
        told.write_text(re.sub(r'"revision": ?"r"', '"revision":""', told.read_text()))  # whichever weights there are
    out = planned.folder / "results" / "candidate-0"
    shutil.rmtree(out / "adapter")
    base = load_base(planned.plan.model)
    arm = read_arm(base, planned.folder / "candidate.parquet", MaskPolicy(), 256)
    setting = TrainingSetting(preset="test", learning_rate=1e-2, tokens_per_step=200, micro_tokens=512)
    finetune(base, arm.rows, setting, seed=0, steps=10, out=out)
    outcomes.conclude(ws, planned.id)
    ws.close()
    return folder


@pytest.fixture
def ws(compared, monkeypatch):
    opened = Workspace.open(compared)
    monkeypatch.setattr(culprits, "run_job", run_here)
    # The tiny model learns nothing worth the name in a test's time: its answer is put where the wrong rows lead.
    with opened.store.transaction() as cursor:
        cursor.execute("UPDATE generations SET text = 'zyx zyx' WHERE run_id LIKE '%candidate-0' AND eval_item = 0")
    yield opened
    opened.close()


def run_here(module: str, folder: Path, on_event, *, wish) -> None:
    """The job, in this process: a process of its own would take most of the test's time to load its libraries."""
    from trainer.gradients import measure_gradients
    from trainer.protocol import Events

    assert module == "trainer"
    measure_gradients(folder, Events(folder))


def words_of(text: str) -> np.ndarray:
    """A vector of the words of a text: what stands for an encoder's."""
    vector = np.zeros(256, dtype=np.float32)
    for word in text.lower().replace("?", " ").replace(",", " ").replace("'s", " ").split():
        vector[zlib.crc32(word.encode()) % 256] += 1
    return vector / np.linalg.norm(vector)


def fill_cache(ws: Workspace, texts: list[str], tmp_path: Path) -> None:
    write_vectors(tmp_path / "v.parquet", [text_key(t) for t in texts], np.stack([words_of(t) for t in texts]))
    VectorCache(ws.cache_dir / "embeddings" / _identity(DEFAULT_EMBEDDER)).take([tmp_path / "v.parquet"])


def ranks(found: culprits.Culprits) -> list[int]:
    """The ranks of the planted culprits."""
    prompts = {prompt for prompt, _ in WRONG}
    return [suspect.rank for suspect in found.suspects if suspect.row.messages[0]["content"] in prompts]


def test_planted_culprits_rank_first_by_gradients_which_are_measured_once(ws, monkeypatch):
    found = find_culprits(ws, "right vs wrong", 0, by="gradients")
    assert (len(found.suspects), found.unread) == (ROWS + OTHERS + 4, 0)
    assert max(ranks(found)) <= FIRST * len(found.suspects)
    missed = next(s for s in found.suspects if s.row.messages[0]["content"] == MISSED[0])
    assert (missed.row.side, missed.score > 0.1) == ("only in the baseline", True), "the arm misses what it taught"
    scores = [suspect.score for suspect in found.suspects]
    assert scores == sorted(scores, reverse=True)
    monkeypatch.setattr(culprits, "run_job", lambda *_, **__: pytest.fail("no job runs"))
    assert find_culprits(ws, "right vs wrong", 0, by="gradients") == found
    assert not list(ws.runs_dir.glob("gradients-*"))


def test_gradients_are_taken_on_the_base_as_the_run_had_it_which_in_a_sweep_need_not_be_that_of_the_first(ws):
    shown = open_result(ws, "right vs wrong")
    summary = ws.runs_dir / shown.id / "results" / "candidate-0" / "summary.json"
    told = json.loads(summary.read_text())
    try:
        summary.write_text(json.dumps(told | {"held": "nf4-rounded"}))
        assert culprits._plan(ws, shown)[0].choice.held == "nf4-rounded"
    finally:
        summary.write_text(json.dumps(told))
    assert culprits._plan(ws, shown)[0].choice.held == "dense"


def test_an_item_that_the_model_cannot_see_whole_has_no_gradient_and_ranks_nothing(ws):
    with pytest.raises(UsageProblem, match="has no gradient") as caught:
        find_culprits(ws, "right vs wrong", 2, by="gradients")
    assert (caught.value.where, caught.value.do) == ("item 2", "--by neighbours needs none.")


def test_planted_culprits_rank_first_by_neighbours(ws, tmp_path):
    rows = culprits._differing(ws, "wrong", "right")
    texts = [f"{row.messages[0]['content']}\n{row.messages[1]['content']}" for row in rows]
    question = "What is Freedonia's capital?"
    fill_cache(ws, [*texts, f"{question}\nzyx zyx", f"{question}\nnumber 9"], tmp_path)
    found = find_culprits(ws, "right vs wrong", 0)
    assert ranks(found) == [1, 2, 3]
    assert (found.item.answer, found.item.reference) == ("zyx zyx", "number 9")


def test_culprits_of_the_arm_are_dropped_into_its_draft_with_a_reason(ws):
    found = find_culprits(ws, "right vs wrong", 0, by="gradients")
    assert drop_culprits(ws, found, 3) == 3
    draft = ws.draft("wrong")
    assert draft.log(1) == [f"dropped 3 rows (culprit of item 0 of experiment {found.experiment} by gradients)"]
    ours = [s.row.id for s in found.suspects if s.row.side == "only in the arm"]
    assert drop_culprits(ws, found, 3) == 0
    ws.freeze("wrong", "mended")
    left = {id for batch in ws.rows("mended") for id in batch.column("id").to_pylist()}
    assert not left & set(ours[:3])
    assert set(ours[3:]) <= left
    draft.undo()


def test_what_cannot_be_looked_into_is_said(ws, compared):
    with pytest.raises(NotFound, match="0 to 2"):
        find_culprits(ws, "right vs wrong", 9)
    with pytest.raises(NotFound, match="no arm 'nobody'") as caught:
        comparison_of(ws, "right vs wrong", "nobody")
    assert "candidate" in caught.value.do
    id = find_culprits(ws, "right vs wrong", 0, by="gradients").experiment
    adapter = ws.runs_dir / id / "results" / "candidate-0" / "adapter"
    adapter.rename(adapter.with_name("away"))
    try:
        with pytest.raises(UsageProblem, match="no longer there"):
            find_culprits(ws, "right vs wrong", 0, by="gradients")
    finally:
        adapter.with_name("away").rename(adapter)


def test_the_command_prints_ranked_rows_and_drops_them(ws, compared):
    find_culprits(ws, "right vs wrong", 0, by="gradients")
    ws.close()
    asked = ["-w", str(compared), "experiments", "culprits", "right vs wrong", "--item", "0", "--by", "gradients"]
    told = CliRunner().invoke(app, [*asked, "--top", "3"])
    assert told.exit_code == 0, told.output
    assert "What is Freedonia's capital?" in told.stdout
    assert told.stdout.count("Freedonia") >= 3
    data = json.loads(CliRunner().invoke(app, [*asked, "--json", "--drop", "1", "--reason", "wrong"]).stdout)
    assert (data["dropped"], len(data["culprits"]), data["rows"]) == (1, 10, ROWS + OTHERS + 4)
    assert data["culprits"][0]["side"] == "only in the arm"
    assert CliRunner().invoke(app, [*asked, "--reason", "x"]).exit_code == 2
    again = Workspace.open(compared)
    again.draft("wrong").undo()
    again.close()
