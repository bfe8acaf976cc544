"""Runs of recipes: which steps are done, what each dropped or rewrote and why.

A finished step is committed, so a run resumes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from filters.step import StepOutcome
from workbench.store.database import Connection, Store, insert, next_id, now
from workbench.store.rewrites import Standing, remove_rewrites, save_rewrites

_DECISIONS = pa.schema(
    [
        ("step_id", pa.int64()),
        ("example_id", pa.int64()),
        ("reason", pa.string()),
        ("score", pa.float64()),
        ("duplicate_of", pa.int64()),
        ("detail", pa.string()),
    ]
)
_PAIRS = pa.schema(
    [
        ("step_id", pa.int64()),
        ("example_id", pa.int64()),
        ("duplicate_of", pa.int64()),
        ("similarity", pa.float64()),
        ("answer_similarity", pa.float64()),
    ]
)


@dataclass(frozen=True)
class RecipeRun:
    """A run of a recipe over `inputs`, the names of sources and versions."""

    id: int
    version_name: str | None
    state: str  # "running" until a version is frozen from it, then "finished"
    rows_in: int
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class StepRow:
    """A finished step as the ledger shows it; `reasons` and `rewritten` count rows by reason.

    Of the rows without a score (`unscored`, `errors`), `unscored_dropped` and `errors_dropped` left; None of steps that
    older releases ran. `notes` tell it in words.
    """

    name: str
    rows_in: int
    dropped: int
    reasons: dict[str, int]
    seconds: float
    unscored: int = 0
    unscored_dropped: int | None = 0
    errors: int = 0
    errors_dropped: int | None = 0
    notes: tuple[str, ...] = ()
    rewritten: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, outcome: StepOutcome) -> StepRow:
        """What a step did that was not written down."""
        return cls(
            outcome.name,
            outcome.rows_in,
            len(outcome.drops),
            outcome.reasons,
            outcome.seconds,
            outcome.unscored,
            outcome.unscored_dropped,
            outcome.errors,
            outcome.errors_dropped,
            _notes(
                (outcome.unscored, outcome.unscored_dropped),
                (outcome.errors, outcome.errors_dropped),
                outcome.params,
                outcome.rewritten,
            ),
            outcome.rewritten,
        )

    def as_dict(self) -> dict[str, Any]:
        """The step in the JSON that other programs rely on."""
        return {
            "name": self.name,
            "in": self.rows_in,
            "dropped": self.dropped,
            "reasons": self.reasons,
            "seconds": round(self.seconds, 3),
            "unscored": self.unscored,
            "unscored_dropped": self.unscored_dropped,
            "errors": self.errors,
            "errors_dropped": self.errors_dropped,
            "rewritten": self.rewritten,
            "notes": list(self.notes),
        }


def _notes(
    unscored: tuple[int, int | None],
    errors: tuple[int, int | None],
    params: Mapping[str, Any],
    rewritten: Mapping[str, int],
) -> tuple[str, ...]:
    """What a step did beside dropping by its scores, for people: rows without a score and what became of them, rows
    rewritten or flagged, how much an index of embeddings saw, where else than here it was done.

    `unscored` and `errors` are (rows, how many of them were dropped, if that is known).
    """
    told = [_without_score("could not be judged", *unscored), _without_score("failed", *errors)]
    told += [_told("rewritten", rewritten), _told("flagged", params.get("flagged", {}))]
    if "index_recall" in params:
        told.append(f"index recall {params['index_recall']:.3f} of {params['index_checked_rows']:,} rows checked")
    if "engine" in params:
        told.append(f"on {params['engine'].title()}")
    return tuple(filter(None, told))


def _without_score(what: str, rows: int, dropped: int | None) -> str:
    if not rows or dropped is None:
        return f"{rows:,} {what}" if rows else ""
    became = "kept" if not dropped else "dropped" if dropped == rows else f"{dropped:,} of them dropped"
    return f"{rows:,} {what}, {became}"


def _told(what: str, counts: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    return f"{sum(counts.values()):,} {what}: {reasons}" if counts else ""


_RUN = "id, version_name, state, rows_in, inputs"


def _run(row: tuple[object, ...]) -> RecipeRun:
    id, version_name, state, rows_in, inputs = row
    return RecipeRun(id, version_name, state, rows_in, tuple(json.loads(str(inputs))))  # type: ignore[arg-type]


def recipe_run(store: Store, run_id: int) -> RecipeRun:
    """The run of that id, which must exist."""
    return _run(store.rows(f"SELECT {_RUN} FROM recipe_runs WHERE id = ?", [run_id])[0])


def find_run(store: Store, recipe_hash: str, input_hash: str, state: str) -> list[RecipeRun]:
    """Runs of the same steps over the same rows, newest first."""
    found = store.rows(
        f"SELECT {_RUN} FROM recipe_runs WHERE recipe_hash = ? AND input_hash = ? AND state = ? ORDER BY id DESC",
        [recipe_hash, input_hash, state],
    )
    return [_run(row) for row in found]


def rename_run(cursor: Connection, run_id: int, recipe_hash: str) -> None:
    """Let a stopped run go on as the run of `recipe_hash`."""
    cursor.execute("UPDATE recipe_runs SET recipe_hash = ? WHERE id = ?", [recipe_hash, run_id])


def begin_run(
    cursor: Connection, recipe: str | None, recipe_hash: str, input_hash: str, rows_in: int, inputs: Sequence[str]
) -> int:
    """Write down that a run starts. Returns its id."""
    run_id = next_id(cursor, "recipe_runs")
    cursor.execute(
        """INSERT INTO recipe_runs (id, recipe, recipe_hash, input_hash, state, rows_in, created_at, inputs)
           VALUES (?, ?, ?, ?, 'running', ?, ?, ?)""",
        [run_id, recipe, recipe_hash, input_hash, rows_in, now(), json.dumps(list(inputs), ensure_ascii=False)],
    )
    return run_id


def finish_run(cursor: Connection, run_id: int, version_name: str, rows_out: int) -> None:
    """Tie the run to the version frozen from it."""
    cursor.execute(
        "UPDATE recipe_runs SET state = 'finished', version_name = ?, rows_out = ?, finished_at = ? WHERE id = ?",
        [version_name, rows_out, now(), run_id],
    )


def discard_run(cursor: Connection, run_id: int) -> None:
    """Delete a run with its steps and decisions, and the rows that it made where no version holds them.

    On a transaction that may write rows if it made any (`workbench.store.rewrites.makes_rows`).
    """
    remove_rewrites(cursor, run_id)
    for table in ("decisions", "duplicate_pairs"):
        cursor.execute(f"DELETE FROM {table} WHERE step_id IN (SELECT id FROM steps WHERE recipe_run_id = ?)", [run_id])
    cursor.execute("DELETE FROM steps WHERE recipe_run_id = ?", [run_id])
    cursor.execute("DELETE FROM recipe_runs WHERE id = ?", [run_id])


def save_step(cursor: Connection, run_id: int, outcome: StepOutcome) -> None:
    """Write down a finished step: its numbers, every drop and rewrite with its reason, and the pairs it found.

    On a transaction that may write rows if there are rewrites.
    """
    step_id = next_id(cursor, "steps")
    cursor.execute(
        """INSERT INTO steps (id, recipe_run_id, position, name, params, rows_in, dropped, seconds, finished,
           unscored, unscored_dropped, errors, errors_dropped) VALUES (?, ?, ?, ?, ?, ?, ?, ?, true, ?, ?, ?, ?)""",
        [
            step_id,
            run_id,
            outcome.position,
            outcome.name,
            json.dumps(outcome.params, sort_keys=True, ensure_ascii=False),
            outcome.rows_in,
            len(outcome.drops),
            outcome.seconds,
            outcome.unscored,
            outcome.unscored_dropped,
            outcome.errors,
            outcome.errors_dropped,
        ],
    )
    standing = Standing.of(cursor, run_id)
    now_of = standing.now
    drops = [
        (step_id, now_of(d.id), d.reason, d.score, None if d.duplicate_of is None else now_of(d.duplicate_of), d.detail)
        for d in outcome.drops
    ]
    pairs = [(step_id, now_of(p.id), now_of(p.duplicate_of), p.similarity, p.answer_similarity) for p in outcome.pairs]
    for table, rows, schema in (("decisions", drops, _DECISIONS), ("duplicate_pairs", pairs, _PAIRS)):
        if rows:
            insert(cursor, table, pa.table([list(column) for column in zip(*rows, strict=True)], schema=schema))
    if outcome.rewrites:
        save_rewrites(cursor, step_id, outcome.rewrites, standing)


def dropped_ids(store: Store, run_id: int) -> list[list[int]]:
    """The ids that each finished step dropped, in the order of the steps, as the rows came into the run."""
    with store.reading() as cursor:
        came = Standing.of(cursor, run_id).came
    steps = store.rows("SELECT id FROM steps WHERE recipe_run_id = ? AND finished ORDER BY position", [run_id])
    drops = [store.table("SELECT example_id FROM decisions WHERE step_id = ?", [step_id]) for (step_id,) in steps]
    return [[came(id) for id in table.column(0).to_pylist()] for table in drops]


def ledger(store: Store, run_id: int) -> list[StepRow]:
    """What each finished step of a run did, in order."""
    dropped, rewritten = _by_reason(store, "decisions", run_id), _by_reason(store, "rewrites", run_id)
    steps = store.rows(
        """SELECT id, name, rows_in, dropped, seconds, coalesce(unscored, 0), unscored_dropped, coalesce(errors, 0),
                  errors_dropped, coalesce(params, '{}') FROM steps WHERE recipe_run_id = ? ORDER BY position""",
        [run_id],
    )
    return [
        StepRow(
            name,
            rows_in,
            count,
            dropped.get(step_id, {}),
            seconds,
            unscored,
            unscored_dropped,
            errors,
            errors_dropped,
            _notes(
                (unscored, unscored_dropped),
                (errors, errors_dropped),
                json.loads(params),
                rewritten.get(step_id, {}),
            ),
            rewritten.get(step_id, {}),
        )
        for step_id, name, rows_in, count, seconds, unscored, unscored_dropped, errors, errors_dropped, params in steps
    ]


def _by_reason(store: Store, table: Literal["decisions", "rewrites"], run_id: int) -> dict[int, dict[str, int]]:
    """By step, how many rows it dropped or rewrote for which reason, the most frequent first."""
    found: dict[int, dict[str, int]] = {}
    for step_id, reason, count in store.rows(
        f"""SELECT t.step_id, t.reason, count(*) FROM {table} t JOIN steps s ON s.id = t.step_id
            WHERE s.recipe_run_id = ? GROUP BY t.step_id, t.reason ORDER BY count(*) DESC, t.reason""",
        [run_id],
    ):
        found.setdefault(step_id, {})[reason] = count
    return found
