"""Embeddings for curation steps: from the workspace's cache, and for new texts from a job in another process."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.protocol import PLAN
from workbench.jobs import Event, run_job

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from filters.step import Progress


class CachedEmbeddings:
    """`filters.step.Embed` for a workspace: a text is embedded once for each model, whatever asks for it.

    Each finished job leaves one Parquet file in `cache/embeddings/<model>/`. A job that was killed keeps its
    folder under `runs/`, named by its texts, and the next call with the same texts goes on with it.
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
        self._known: dict[str, dict[str, NDArray[np.float32]]] = {}

    def __call__(self, texts: Sequence[str], model: str) -> NDArray[np.float32]:
        """Unit vectors, float32 (len(texts), dimensions); NaN for a text that the model cannot read.

        Raises ModelUnavailable where the model cannot be had, Stopped where the user stopped the job.
        """
        from filters.embedding import read_vectors, stack, text_key

        folder = self._cache / _identity(model)
        if model not in self._known:
            self._known[model] = {}
            for path in sorted(folder.glob("*.parquet")):
                self._known[model].update(read_vectors(path))
        known = self._known[model]
        missing = {text_key(text): text for text in texts if text_key(text) not in known}
        if missing:
            known.update(read_vectors(self._compute(missing, model, folder)))
        return stack(known, texts)

    def _compute(self, missing: dict[str, str], model: str, folder: Path) -> Path:
        from filters.embedding import VECTORS, EmbeddingPlan, write_job

        name = hashlib.sha256("\n".join([folder.name, *sorted(missing)]).encode()).hexdigest()[:16]
        job = self._runs / f"embed-{name}"
        if not (job / PLAN).exists():
            write_job(job, list(missing.values()), EmbeddingPlan(model=model))
        run_job("filters", job, self._on_event, wish=lambda: "stop" if self._cancelled() else "watch")
        folder.mkdir(parents=True, exist_ok=True)
        result = (job / VECTORS).replace(folder / f"{name}.parquet")
        shutil.rmtree(job)
        return result

    def _on_event(self, event: Event) -> None:
        if event["event"] == "progress" and self._progress:
            self._progress(int(event["done"]), int(event["total"]), str(event["what"]))


def _identity(model: str) -> str:
    """A folder name for the model as it is now: a new revision gets new vectors."""
    from trainer.models import resolve_model

    source = resolve_model(model)
    return hashlib.sha256(f"{source.name}\n{source.revision}".encode()).hexdigest()[:16]
