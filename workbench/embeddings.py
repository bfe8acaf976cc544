"""Embeddings for curation steps: from the workspace's cache, and for new texts from a job in another process."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.jobs import Event, Wish, run_job, stop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from filters.step import Progress
    from filters.vectors import VectorCache


class CachedEmbeddings:
    """`filters.step.Embed` for a workspace: a text is embedded once for each model, whatever asks for it.

    Each job leaves one file in `cache/embeddings/<model>/`. What a job had done when it was stopped or killed is taken
    over by the next call for that model, whatever texts it asks for.
    """

    def __init__(
        self,
        cache: Path,
        runs: Path,
        progress: Progress | None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """A job is stopped once `cancelled()` says so."""
        self._cache = cache / "embeddings"
        self._runs = runs
        self._progress = progress
        self._cancelled = cancelled
        self._open: dict[str, VectorCache] = {}

    def __call__(self, texts: Sequence[str], model: str) -> NDArray[np.float32]:
        """Unit vectors, float32 (len(texts), dimensions); NaN for a text that the model cannot read.

        Raises ModelUnavailable where the model cannot be had, Stopped where the user stopped the job.
        """
        from filters.vectors import VectorCache, text_keys

        name = _identity(model)
        if name not in self._open:
            self._open[name] = VectorCache(self._cache / name)
        cache, job = self._open[name], self._runs / f"embed-{name}"
        self._take_over(cache, job)
        keys = text_keys(texts)
        missing = cache.missing(keys)
        if missing.any():
            self._compute([text for text, absent in zip(texts, missing.tolist(), strict=True) if absent], model, job)
            self._take_over(cache, job)
        return cache.look_up(keys)

    def _compute(self, texts: Sequence[str], model: str, job: Path) -> None:
        from filters.embedding import EmbeddingPlan, write_job

        write_job(job, texts, EmbeddingPlan(model=model))
        run_job("filters", job, self._on_event, wish=self._wish)

    @staticmethod
    def _take_over(cache: VectorCache, job: Path) -> None:
        """Put what a job has done into the cache, and remove its folder."""
        from filters.embedding import PARTS, VECTORS

        if not job.exists():
            return
        stop(job)  # it may work for a bench that is gone, and on texts that nobody asks for any more
        cache.take([*job.glob(VECTORS), *sorted((job / PARTS).glob("[0-9]*.parquet"))])
        shutil.rmtree(job)

    def _wish(self) -> Wish:
        return "stop" if self._cancelled() else "watch"

    def _on_event(self, event: Event) -> None:
        if event["event"] == "progress" and self._progress:
            self._progress(int(event["done"]), int(event["total"]), str(event["what"]))


class StoredEmbeddings:
    """The vectors that are in the workspace's cache, read beside the jobs that add to it: none is started or stopped.

    What is missing goes to `on_missing(how many distinct texts, model)`, which may raise; else it is NaN, as for a
    text that the model cannot read.
    """

    def __init__(self, cache: Path, on_missing: Callable[[int, str], None]) -> None:
        self._cache = cache / "embeddings"
        self._on_missing = on_missing

    def __call__(self, texts: Sequence[str], model: str) -> NDArray[np.float32]:
        """As `CachedEmbeddings`."""
        import numpy as np

        from filters.vectors import VectorCache, text_keys

        cache, keys = VectorCache(self._cache / _identity(model)), text_keys(texts)
        absent = cache.missing(keys)
        if absent.any():
            self._on_missing(len(np.unique(keys[absent])), model)
        there = cache.look_up(keys[~absent])
        vectors = np.full((len(keys), there.shape[1]), np.nan, dtype=np.float32)
        vectors[~absent] = there
        return vectors


def _identity(model: str) -> str:
    """A folder name for the model as it is now: a new revision gets new vectors."""
    from trainer.models import resolve_model

    source = resolve_model(model)
    return hashlib.sha256(f"{source.name}\n{source.revision}".encode()).hexdigest()[:16]
