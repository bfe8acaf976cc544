"""What deduplicators found: their steps, the pairs that were alike, and lists of clusters, read by windows."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa

from trainer.conversation import Message
from workbench.store.database import Connection, Store, fetch, insert, interruptible
from workbench.store.drafts import MANUAL
from workbench.store.members import Base, rows_sql
from workbench.store.previews import RowPreview, preview
from workbench.store.versions import lineage_runs

Standing = Literal["kept", "fell", "dropped", "back", "gone"]
"""Where a row stands now: it is in the base, the step dropped it, a person did as a duplicate, a person took it back,
or it left for another reason."""

_FALLS = pa.schema([("example_id", pa.int64()), ("survivor", pa.int64()), ("similarity", pa.float64())])


@dataclass(frozen=True)
class DedupStep:
    """One step of a recipe run that looked for rows that are alike; one that `reports` dropped none of them."""

    id: int
    name: str
    params: dict[str, Any]
    rows_in: int
    reports: bool = False


@dataclass(frozen=True)
class Counts:
    """How many rows fall, for how many others, and how many rows the largest cluster has, its survivor among them."""

    rows: int
    clusters: int
    largest: int


@dataclass(frozen=True)
class Member:
    """A row of a cluster, with as much of it as is read for looking."""

    id: int
    source: str
    row: int
    messages: list[Message]


@dataclass(frozen=True)
class Cluster:
    """A row that is kept and the most similar of the `size` rows that fall for it: (row, similarity)."""

    survivor: Member
    size: int
    members: list[tuple[Member, float]]


@dataclass(frozen=True, slots=True)
class ClusterRow(RowPreview):
    """One row of the list of clusters: a survivor (`similarity` None, `members` rows fall for it), or one of those.

    `cluster` counts clusters from 0. `of` is the row that it falls for, itself for a survivor: the one a person chose,
    or `survivor`, which the list has. `alone` where it is down and that row is not among the rows any more.
    """

    source: str
    row: int
    cluster: int
    survivor: int
    similarity: float | None
    members: int
    of: int
    standing: Standing
    alone: bool

    @property
    def is_survivor(self) -> bool:
        """Whether it is the first row of a cluster."""
        return self.similarity is None


@dataclass(frozen=True)
class Fall:
    """A row of the list that falls for `survivor`, which stands at `of_standing`; `now` is what it is down for."""

    id: int
    survivor: int
    similarity: float
    standing: Standing
    of_standing: Standing
    now: int | None


def dedup_steps(store: Store, version: str, names: Collection[str], *, reports: bool = False) -> list[DedupStep]:
    """The steps of these names on the way to `version`, the first run first; none for a source."""
    found = []
    for run_id in reversed(lineage_runs(store, version)):
        found += [
            DedupStep(step_id, name, json.loads(params), rows_in, reports)
            for step_id, name, params, rows_in in store.rows(
                "SELECT id, name, params, rows_in FROM steps WHERE recipe_run_id = ? AND finished ORDER BY position",
                [run_id],
            )
            if name in names
        ]
    return found


def pairs(store: Store, step_id: int) -> pa.Table:
    """All pairs that a step found alike: `example_id`, `duplicate_of` (the preferred one), `similarity`."""
    return store.table("SELECT example_id, duplicate_of, similarity FROM duplicate_pairs WHERE step_id = ?", [step_id])


def down_for(store: Store, base: Base, ids: Sequence[int]) -> int:
    """How many rows are down as duplicates of rows `ids`, by the recipes on the way to `base` or by its draft."""
    [(count,)] = store.rows(
        f"""WITH draft AS (FROM draft_rows WHERE base_kind = ? AND base_id = ?),
            asked AS (SELECT unnest(?) AS of),
            fell AS (
                SELECT example_id, duplicate_of AS of FROM decisions d JOIN steps s ON s.id = d.step_id
                WHERE s.recipe_run_id IN (SELECT unnest(?))
                QUALIFY row_number() OVER (PARTITION BY example_id ORDER BY step_id DESC) = 1),
            down AS (
                FROM fell ANTI JOIN ({rows_sql(base)}) USING (example_id)
                ANTI JOIN (FROM draft WHERE field IN ('dropped', 'restored')) USING (example_id)
                UNION ALL SELECT example_id, CAST(value ->> '$.of' AS BIGINT) FROM draft WHERE field = 'duplicate_of')
            SELECT count(*) FROM down SEMI JOIN asked USING (of)""",
        [base.kind, base.id, list(ids), lineage_runs(store, base.name)],
    )
    return int(count)


def falls_table(falls: Sequence[tuple[int, int, float]]) -> pa.Table:
    """(row, survivor, similarity) as `OpenClusters.show` takes them."""
    columns = zip(*falls, strict=True) if falls else ((), (), ())
    return pa.table([list(column) for column in columns], schema=_FALLS)


class OpenClusters:
    """Rows that fall, listed below the row that each falls for: the largest cluster first, the most similar row first.

    Windows may be read from any thread, one at a time; `close` it when the screen is done.
    """

    def __init__(self, store: Store, base: Base | None, step: DedupStep | None = None) -> None:
        """The clusters that fell in `step`, or that it reports: then a row may be in several.

        `base` is what has a draft; without one all rows stand as kept.
        """
        self._base = base
        self._lock = threading.Lock()
        self._closed = False
        self._cursor = store.cursor()
        self._step_id = step_id = step.id if step else -1
        try:
            fetch(
                self._cursor,
                """CREATE TEMP TABLE fell AS
                   SELECT example_id, duplicate_of AS survivor, coalesce(score, 1) AS similarity FROM decisions
                   WHERE step_id = ? AND duplicate_of IS NOT NULL""",
                [step_id],
            )
            self._add_by_hand(store)
            fetch(
                self._cursor,
                f"""CREATE TEMP TABLE inside AS
                    SELECT example_id FROM ({rows_sql(base) if base else "SELECT -1 AS example_id"})
                    SEMI JOIN (SELECT example_id FROM fell UNION ALL SELECT survivor FROM fell UNION ALL
                        SELECT unnest([example_id, duplicate_of]) FROM duplicate_pairs WHERE step_id = ?)
                    USING (example_id)""",
                [step_id],
            )
            reported = f"SELECT example_id, duplicate_of, similarity FROM duplicate_pairs WHERE step_id = {step_id}"
            self.counts = self._show(
                f"SELECT * FROM ({reported}) t(example_id, survivor, similarity)"
                if step and step.reports
                else "SELECT * FROM fell"
            )
        except BaseException:
            self._cursor.close()
            raise

    def _add_by_hand(self, store: Store) -> None:
        """To what fell in the step add what people decided about it in the drafts frozen since, the later word first.

        A frozen decision does not say in which list it was made: it is that of the first step to which its two rows
        were as much alike, or in one cluster.
        """
        runs = lineage_runs(store, self._base.name) if self._base else []
        if self._base is None or not runs:
            return
        fetch(
            self._cursor,
            f"""CREATE TEMP TABLE by_hand AS
                WITH way AS (SELECT id AS step_id, name FROM steps WHERE recipe_run_id IN (SELECT unnest(?))),
                    decided AS (
                        SELECT example_id, duplicate_of AS survivor, coalesce(score, 1) AS similarity
                        FROM decisions JOIN way USING (step_id) ANTI JOIN ({rows_sql(self._base)}) USING (example_id)
                        WHERE name = ? AND step_id > ? AND duplicate_of IS NOT NULL
                        QUALIFY row_number() OVER (PARTITION BY example_id ORDER BY step_id DESC) = 1),
                    pairs AS (FROM duplicate_pairs SEMI JOIN way USING (step_id)),
                    alike AS (SELECT step_id, example_id, duplicate_of AS survivor, similarity FROM pairs
                              UNION ALL SELECT step_id, duplicate_of, example_id, similarity FROM pairs),
                    found AS (SELECT example_id, survivor, min(step_id) AS step_id
                              FROM decided d JOIN alike a USING (example_id, survivor)
                              WHERE abs(a.similarity - d.similarity) < 1e-9 GROUP BY ALL),
                    heads AS (SELECT example_id, survivor AS head FROM fell UNION SELECT survivor, survivor FROM fell)
                SELECT d.* FROM decided d LEFT JOIN found f USING (example_id, survivor)
                LEFT JOIN heads a ON a.example_id = d.example_id LEFT JOIN heads b ON b.example_id = d.survivor
                WHERE f.step_id = ? OR (f.step_id IS NULL AND a.head = b.head)""",
            [runs, MANUAL, self._step_id, self._step_id],
        )
        # A row that survived in the place of another does not stay below it.
        fetch(
            self._cursor,
            """DELETE FROM fell WHERE example_id IN (SELECT example_id FROM by_hand)
               OR survivor IN (SELECT example_id FROM by_hand)""",
        )
        fetch(self._cursor, "INSERT INTO fell FROM by_hand")

    def show_own(self) -> Counts:
        """List what fell in the step."""
        return self._locked(lambda: self._show("SELECT * FROM fell"))

    def show(self, falls: pa.Table, cancelled: Callable[[], bool] = lambda: False) -> Counts:
        """List other rows: `example_id`, `survivor`, `similarity`. Rows that a step knew before fall as they did."""

        def work() -> Counts:
            fetch(
                self._cursor,
                "CREATE OR REPLACE TEMP TABLE moved (example_id BIGINT, survivor BIGINT, similarity DOUBLE)",
            )
            insert(self._cursor, "moved", falls)
            return self._show("FROM moved UNION ALL SELECT * FROM fell WHERE example_id = survivor")

        return self._locked(lambda: interruptible(self._cursor, work, cancelled))

    def _locked(self, work: Callable[[], Counts]) -> Counts:
        with self._lock:
            if not self._closed:
                self.counts = work()
            return self.counts

    def _show(self, falls: str) -> Counts:
        cursor = self._cursor
        fetch(cursor, f"CREATE OR REPLACE TEMP TABLE fallen AS {falls}")
        fetch(
            cursor,
            """CREATE OR REPLACE TEMP TABLE clusters AS
               SELECT row_number() OVER (ORDER BY count(*) DESC, survivor) - 1 AS cluster, survivor,
                      count(*) AS members FROM fallen GROUP BY survivor""",
        )
        fetch(
            cursor,
            """CREATE OR REPLACE TEMP TABLE listed AS
               WITH lines AS (
                   SELECT cluster, survivor AS example_id, survivor, NULL AS similarity, members FROM clusters
                   UNION ALL SELECT c.cluster, f.example_id, f.survivor, f.similarity, 0
                   FROM fallen f JOIN clusters c USING (survivor))
               SELECT row_number() OVER (ORDER BY cluster, similarity DESC NULLS FIRST, example_id) - 1 AS pos, *
               FROM lines ORDER BY 1""",
        )
        [(rows, clusters, most)] = fetch(
            cursor, "SELECT coalesce(sum(members), 0), count(*), coalesce(max(members), 0) FROM clusters"
        )
        return Counts(int(rows), int(clusters), int(most) + 1 if most else 0)

    @property
    def lines(self) -> int:
        """How many rows the list has: those that fall and their survivors."""
        return self.counts.rows + self.counts.clusters

    # Reading

    @contextmanager
    def _reading(self) -> Iterator[Connection | None]:
        with self._lock:
            yield None if self._closed else self._cursor

    def window(self, start: int, count: int) -> list[ClusterRow]:
        """Rows `start` to `start + count` of the list (fewer at the end); none once it is closed."""
        return self._rows(f"pos >= {start} AND pos < {start + count}")

    def clusters(self, start: int, count: int, members: int) -> list[Cluster]:
        """Clusters `start` to `start + count`, each with at most `members` of the rows that fall for its survivor."""
        rows = self._ask(
            """WITH m AS (FROM listed WHERE cluster >= ? AND cluster < ? QUALIFY
                   row_number() OVER (PARTITION BY cluster ORDER BY pos) <= ?)
               SELECT m.members, m.similarity, e.id, s.name, e."row", e.messages FROM m
               JOIN examples e ON e.id = m.example_id JOIN sources s ON s.id = e.source_id ORDER BY m.pos""",
            [start, start + count, members + 1],
        )
        found: list[Cluster] = []
        for size, similarity, id, source, row, messages in rows:
            member = Member(id, source, row, json.loads(messages))
            if similarity is None:
                found.append(Cluster(member, size, []))
            else:
                found[-1].members.append((member, similarity))
        return found

    def _rows(self, which: str) -> list[ClusterRow]:
        with self._reading() as cursor:
            if cursor is None:
                return []
            rows = fetch(
                cursor,
                f"""WITH draft AS ({self._draft()}), m AS (FROM listed WHERE {which}),
                    r AS (SELECT m.*, {_STANDING} AS standing, coalesce(d.replaced, m.example_id) AS shown,
                          if(m.similarity IS NULL, m.survivor, coalesce(d.of, m.survivor)) AS of,
                          if(m.similarity IS NULL, NULL, coalesce(d.similarity, m.similarity)) AS now_similarity
                          FROM m LEFT JOIN draft d USING (example_id) LEFT JOIN inside i USING (example_id)
                          LEFT JOIN fell f USING (example_id)),
                    gone AS (SELECT example_id FROM (SELECT DISTINCT of AS example_id FROM r) o
                             LEFT JOIN draft d USING (example_id) LEFT JOIN inside i USING (example_id)
                             LEFT JOIN fell f USING (example_id) WHERE {_STANDING} = 'gone'
                             AND (d.dropped IS NOT NULL OR example_id IN (SELECT survivor FROM r))),
                    e AS (SELECT id, source_id, "row", messages FROM examples
                          WHERE id IN (SELECT shown FROM r))
                    SELECT r.pos, r.example_id, e.messages, s.name, e."row", r.cluster, r.survivor, r.now_similarity,
                           r.members, r.of, r.standing, r.standing IN ('fell', 'dropped') AND r.of IN (FROM gone)
                    FROM r JOIN e ON e.id = r.shown JOIN sources s ON s.id = e.source_id ORDER BY r.pos""",
            )
        return [
            ClusterRow(**asdict(preview(pos, id, messages)), **dict(zip(_MORE, more, strict=True)))
            for pos, id, messages, *more in rows
        ]

    def ids(self, start: int, stop: int) -> list[int]:
        """The example ids of lines `start` to `stop`."""
        return [
            int(id)
            for (id,) in self._ask(f"SELECT example_id FROM listed WHERE pos >= {start} AND pos < {stop} ORDER BY 1")
        ]

    def position_of(self, id: int) -> int | None:
        """Where a row stands in the list first, if it does."""
        found = self._ask("SELECT min(pos) FROM listed WHERE example_id = ?", [id])
        return None if not found or found[0][0] is None else int(found[0][0])

    def head_of(self, cluster: int) -> int | None:
        """Where a cluster begins, if there are so many."""
        found = self._ask("SELECT min(pos) FROM listed WHERE cluster = ?", [cluster])
        return None if not found or found[0][0] is None else int(found[0][0])

    def text(self, id: int) -> tuple[str, int, list[Message]] | None:
        """A row as it stands by hand: source, row, messages."""
        found = self._ask(
            f"""WITH draft AS ({self._draft()})
                SELECT s.name, e."row", e.messages FROM examples e JOIN sources s ON s.id = e.source_id
                WHERE e.id = coalesce((SELECT replaced FROM draft WHERE example_id = ?), ?)""",
            [id, id],
        )
        return (str(found[0][0]), int(found[0][1]), json.loads(found[0][2])) if found else None

    # What a decision about them is made from

    def falls(self, survivors: Sequence[int] | None = None, ids: Sequence[int] | None = None) -> list[Fall]:
        """Rows of the list that fall: of these clusters, of these ids, or all of them where neither is given."""
        given = survivors is not None or ids is not None
        chosen = "WHERE f.survivor IN (SELECT unnest(?)) OR f.example_id IN (SELECT unnest(?))" if given else ""
        rows = self._ask(
            f"""WITH standing AS ({self._standings()})
                SELECT f.example_id, f.survivor, f.similarity, a.standing, b.standing, a.of FROM fallen f
                JOIN standing a ON a.example_id = f.example_id JOIN standing b ON b.example_id = f.survivor
                {chosen} ORDER BY f.survivor, f.example_id""",
            [list(survivors or ()), list(ids or ())] if given else [],
        )
        return [Fall(*row) for row in rows]

    def down(self) -> list[int]:
        """Rows that this step dropped, or a person in its list, and that do not fall in the list as it is."""
        return self._down(
            "ANTI JOIN fallen USING (example_id) SEMI JOIN (SELECT ? AS step) USING (step)", [self._step_id]
        )

    def down_for(self, ids: Sequence[int]) -> list[int]:
        """Rows that are down as duplicates of the rows `ids`."""
        return self._down("SEMI JOIN (SELECT unnest(?) AS of) USING (of)", [list(ids)])

    def _down(self, chosen: str, params: list[object]) -> list[int]:
        found = self._ask(
            f"""WITH standing AS ({self._standings()}) SELECT example_id FROM standing {chosen}
                WHERE standing IN ('fell', 'dropped') AND of IS NOT NULL ORDER BY 1""",
            params,
        )
        return [int(id) for (id,) in found]

    def near(self, id: int) -> dict[int, float]:
        """The rows that the step found like a row, as far as it kept the pairs, and how alike they are."""
        found = self._ask(
            """SELECT example_id, similarity FROM duplicate_pairs WHERE step_id = ? AND duplicate_of = ?
               UNION ALL SELECT duplicate_of, similarity FROM duplicate_pairs WHERE step_id = ? AND example_id = ?""",
            [self._step_id, id, self._step_id, id],
        )
        return {int(other): float(similarity) for other, similarity in found}

    def fell_for(self, ids: Sequence[int]) -> dict[int, int]:
        """Those of `ids` that the base has no more since they fell, and for which row."""
        found = self._ask(
            """SELECT example_id, survivor FROM fell ANTI JOIN inside USING (example_id)
               WHERE example_id IN (SELECT unnest(?))""",
            [list(ids)],
        )
        return {int(id): int(survivor) for id, survivor in found}

    def names(self, ids: Sequence[int]) -> dict[int, str]:
        """Rows by what they are called: `chats row 12`."""
        found = self._ask(
            """SELECT e.id, s.name, e."row" FROM examples e JOIN sources s ON s.id = e.source_id
               WHERE e.id IN (SELECT unnest(?))""",
            [list(ids)],
        )
        return {int(id): f"{source} row {row}" for id, source, row in found}

    def _ask(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._reading() as cursor:
            return [] if cursor is None else fetch(cursor, sql, params)

    def _draft(self) -> str:
        """SQL for what the draft of the base says of its rows, one row each."""
        which = f"base_kind = '{self._base.kind}' AND base_id = {self._base.id}" if self._base else "false"
        value = "max(value) FILTER (field = '{}')"
        pointed = value.format("duplicate_of")
        return f"""SELECT example_id, {value.format("dropped")} AS dropped, {value.format("restored")} AS restored,
                          CAST({value.format("replaced")} AS BIGINT) AS replaced,
                          CAST({pointed} ->> '$.of' AS BIGINT) AS of,
                          CAST({pointed} ->> '$.similarity' AS DOUBLE) AS similarity,
                          CAST({pointed} ->> '$.step' AS BIGINT) AS step
                   FROM draft_rows WHERE {which} GROUP BY example_id"""

    def _standings(self) -> str:
        """SQL for where every row stands that the step found like another, what it is down for, and by which step."""
        return f"""SELECT m.example_id, {_STANDING} AS standing, coalesce(d.of, f.survivor) AS of,
                          if(d.of IS NULL, {self._step_id}, d.step) AS step
                   FROM (SELECT example_id FROM inside UNION SELECT example_id FROM fell UNION
                         SELECT survivor FROM fell UNION SELECT example_id FROM listed) m
                   LEFT JOIN ({self._draft()}) d USING (example_id) LEFT JOIN inside i USING (example_id)
                   LEFT JOIN fell f USING (example_id)"""

    def close(self) -> None:
        """Let go of the list; a window being read is waited for."""
        with self._lock:
            self._closed = True
            self._cursor.close()


_MORE = ("source", "row", "cluster", "survivor", "similarity", "members", "of", "standing", "alone")
_STANDING = """CASE WHEN d.dropped IS NOT NULL THEN if(d.of IS NOT NULL, 'dropped', 'gone')
    WHEN i.example_id IS NOT NULL THEN 'kept' WHEN d.restored IS NOT NULL THEN 'back'
    WHEN f.example_id IS NOT NULL THEN 'fell' ELSE 'gone' END"""
