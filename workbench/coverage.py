"""What rows are about, in clusters of their embeddings: how large each is, and what a version keeps of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.embeddings import CachedEmbeddings
from workbench.errors import BadInput
from workbench.store.examples import row_numbers
from workbench.store.members import Members, Named, resolve
from workbench.tables import Value, write_table
from workbench.text import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from filters.clusters import Clustering
    from filters.step import Progress
    from trainer.conversation import Side
    from workbench.store.database import Store
    from workbench.workspace import Workspace

MOST = 24
"""Clusters where nobody says how many: what a person can read."""

_LOST = 0.5  # of a version's share of all rows: what it keeps less of, it lost
_TEXT = 200  # characters of a row that are held


@dataclass(frozen=True)
class Place:
    """A row on the map: where it came from, what it says (cut short), and how near it is to what others are about."""

    id: int
    source: str
    row: int
    text: str
    cluster: int
    x: float
    y: float
    nearness: float
    outlier: bool


@dataclass(frozen=True)
class ClusterShare:
    """One cluster, the largest has number 1: its title, its row nearest to the centre, and how many rows names have."""

    number: int
    title: str
    rows: int
    example: Place
    kept: dict[str, int]


@dataclass(frozen=True)
class ClusterMap:
    """The rows of `names` together, each once, in clusters.

    `totals` says how many of the `rows` each name has. `unreadable` rows are in no cluster: their text is empty or
    nothing that the model can read. Places in `texts`, `sources` and `numbers` are those of `clustering`.
    """

    names: tuple[str, ...]
    totals: dict[str, int]
    unreadable: int
    clustering: Clustering
    titles: list[str]
    ids: NDArray[np.int64]
    sources: list[str]
    numbers: dict[int, int]
    texts: list[str]
    placed: NDArray[np.float32]
    has: dict[str, NDArray[np.bool_]]

    @property
    def rows(self) -> int:
        """Rows in clusters."""
        return len(self.ids)

    @cached_property
    def clusters(self) -> list[ClusterShare]:
        """All clusters, the largest first."""
        found = []
        for label, title in enumerate(self.titles):
            inside = self.clustering.labels == label
            kept = {name: int((has & inside).sum()) for name, has in self.has.items()}
            found.append(
                ClusterShare(label + 1, title, int(inside.sum()), self.place(self.clustering.typical(label)), kept)
            )
        return found

    @cached_property
    def outliers(self) -> list[Place]:
        """The rows that are far from what any other rows are about, the farthest first."""
        import numpy as np

        far = np.flatnonzero(self.clustering.outliers)
        order = far[np.argsort(self.clustering.nearness[far], kind="stable")]
        return [self.place(int(at)) for at in order]

    def lost(self, name: str) -> list[ClusterShare]:
        """The clusters of which a name has less than half of what its size would have it have."""
        usual = self.totals[name] / self.rows
        return [one for one in self.clusters if one.kept[name] < _LOST * usual * one.rows]

    def place(self, at: int) -> Place:
        """The row at a place of the clustering."""
        id, clustering = int(self.ids[at]), self.clustering
        return Place(
            id,
            self.sources[at],
            self.numbers[id],
            self.texts[at],
            int(clustering.labels[at]) + 1,
            round(float(self.placed[at, 0]), 5),
            round(float(self.placed[at, 1]), 5),
            round(float(clustering.nearness[at]), 4),
            bool(clustering.outliers[at]),
        )


def cluster_map(
    ws: Workspace,
    names: Sequence[str],
    *,
    k: int | None = None,
    on: Side = "prompt",
    model: str | None = None,
    progress: Progress | None = None,
) -> ClusterMap:
    """The rows of sources and versions, as people left them, in `k` clusters (default: by their number, at most 24).

    Writes nothing but embeddings, which are kept. Raises NotFound for a name that is none, BadInput where there are no
    rows or the model can read none, ModelUnavailable where it cannot be had.
    """
    import numpy as np

    from filters.clusters import cluster, default_clusters, plane, titles
    from filters.dedup.semantic import embed_unique
    from filters.dedup.survivor import compared_text
    from filters.remaining import parsed
    from filters.text import normalise
    from trainer.models import DEFAULT_EMBEDDER

    named = [resolve(ws.store, name) for name in dict.fromkeys(names)]
    with closing(Members(ws.store, named, drafted=True)) as members:
        read = sorted(
            (row.content_hash, row.id, row.source, normalise(compared_text(row, on)))
            for batch in parsed(members.batches)
            for row in batch
        )
    model = model or DEFAULT_EMBEDDER
    embed = CachedEmbeddings(ws.cache_dir, ws.runs_dir, progress)
    vectors = embed_unique(embed, [text for *_, text in read], model)
    readable = np.isfinite(vectors.sum(axis=1))
    if not readable.any():
        what = f"{model} can read none of its {counted(len(read), 'row')}" if read else "there are no rows"
        raise BadInput(
            what, where=", ".join(one.name for one in named), do="Give other rows, or a --model of their language."
        )
    rows = [one for one, there in zip(read, readable.tolist(), strict=True) if there]
    vectors = vectors[readable]
    clustering = cluster(vectors, k or min(MOST, default_clusters(len(vectors))))
    ids = np.array([id for _, id, *_ in rows], dtype=np.int64)
    has = {one.name: np.isin(ids, _ids(ws.store, one)) for one in named}
    return ClusterMap(
        names=tuple(has),
        totals={name: int(there.sum()) for name, there in has.items()},
        unreadable=len(read) - len(rows),
        clustering=clustering,
        titles=titles([text for *_, text in rows], clustering.labels),
        ids=ids,
        sources=[source for _, _, source, _ in rows],
        numbers=row_numbers(ws.store, ids.tolist()),
        texts=[text[:_TEXT] for *_, text in rows],
        placed=plane(vectors),
        has=has,
    )


def _ids(store: Store, name: Named) -> NDArray[np.int64]:
    with closing(Members(store, [name], drafted=True)) as members:
        found: NDArray[np.int64] = members.chosen().column("example_id").to_numpy()
        return found


def write_points(found: ClusterMap, path: Path) -> int:
    """Write the map as a table, a line for each row and a column for each name; returns how many rows.

    Raises as `write_table` does.
    """
    columns = ("id", "source", "row", "cluster", "title", "x", "y", "nearness", "outlier")
    return write_table(path, (*columns, *(f"in {name}" for name in found.names), "text"), _lines(found))


def _lines(found: ClusterMap) -> Iterator[list[Value]]:
    for at in range(found.rows):
        one = found.place(at)
        where: list[Value] = [one.id, one.source, one.row, one.cluster, found.titles[one.cluster - 1]]
        there: list[Value] = [int(has[at]) for has in found.has.values()]
        yield [*where, one.x, one.y, one.nearness, int(one.outlier), *there, one.text]
