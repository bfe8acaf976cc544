"""Eval sets: frozen items that are never trained on, each with a reference answer or instructions to be checked."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from filters.step import Progress
from trainer.conversation import content_hash, side_text
from workbench.errors import NotFound, UsageProblem
from workbench.store.database import Store, fetch, insert, next_id, now
from workbench.store.members import Members, Named, choose, not_found
from workbench.store.versions import manifest_hash

ITEMS = pa.schema(
    [
        ("item", pa.int32()),
        ("messages", pa.string()),
        ("tools", pa.string()),
        ("cluster", pa.string()),
        ("slice", pa.string()),
        ("instructions", pa.string()),
    ]
)


@dataclass(frozen=True)
class EvalSet:
    """An eval set as the table `eval_sets` has it."""

    id: int
    name: str
    manifest_hash: str
    rows: int
    created_at: datetime


@dataclass(frozen=True)
class EvalItem:
    """One item: a conversation (canonical JSON) that ends with the reference; items of one cluster stand together.

    `instructions` is what `trainer.instructions.to_json` gives. An item that has some may lack the reference: then
    its conversation ends with the turn that is to be answered.
    """

    messages: str
    tools: str | None
    cluster: str | None
    slice: str | None
    instructions: str | None = None


def eval_sets(store: Store) -> list[EvalSet]:
    """All eval sets, oldest first."""
    rows = store.rows("SELECT id, name, manifest_hash, rows, created_at FROM eval_sets ORDER BY id")
    return [EvalSet(*row) for row in rows]


def get_eval_set(store: Store, name: str) -> EvalSet:
    """The eval set of that name. Raises NotFound with the names that come near."""
    known = {found.name: found for found in eval_sets(store)}
    if name in known:
        return known[name]
    raise not_found("eval set", name, list(known), "`workbench evalset import FILE --name E` brings one in.")


def add_eval_set(store: Store, name: str, items: Sequence[EvalItem]) -> tuple[EvalSet, bool]:
    """Freeze `items` as an eval set; returns it and whether it is new.

    The same name with the same items is the set that is there; with other items UsageProblem.
    """
    manifest = manifest_hash(content_hash(item.messages, item.tools) for item in items)
    there = next((found for found in eval_sets(store) if found.name == name), None)
    if there:
        if there.manifest_hash == manifest:
            _check_groups(store, there, items)
            return there, False
        raise UsageProblem(
            f"there is an eval set {name!r} with other items ({there.rows:,})",
            do="Choose another --name: an eval set never changes, or old results would mean something else.",
        )
    with store.transaction() as cursor:
        made = EvalSet(next_id(cursor, "eval_sets"), name, manifest, len(items), now())
        cursor.execute(
            "INSERT INTO eval_sets (id, name, manifest_hash, rows, created_at) VALUES (?, ?, ?, ?, ?)",
            [made.id, made.name, made.manifest_hash, made.rows, made.created_at],
        )
        rows = [(made.id, n, i.messages, i.tools, i.cluster, i.slice, i.instructions) for n, i in enumerate(items)]
        schema = pa.schema([pa.field("eval_set_id", pa.int64()), *ITEMS])
        insert(cursor, "eval_items", pa.table([list(column) for column in zip(*rows, strict=True)], schema=schema))
    return made, True


def _check_groups(store: Store, there: EvalSet, items: Sequence[EvalItem]) -> None:
    known = eval_rows(store, there).select(["cluster", "slice", "instructions"]).to_pylist()
    if known != [{"cluster": i.cluster, "slice": i.slice, "instructions": i.instructions} for i in items]:
        raise UsageProblem(
            f"there is an eval set {there.name!r} with the same items in other clusters, slices or instructions",
            do="Choose another --name: an eval set never changes, or old results would mean something else.",
        )


def eval_rows(store: Store, eval_set: EvalSet) -> pa.Table:
    """The items in order: item int32, messages, tools, cluster, slice, instructions strings."""
    return store.table(
        """SELECT item, messages, tools, cluster, slice, instructions FROM eval_items
           WHERE eval_set_id = ? ORDER BY item""",
        [eval_set.id],
    ).cast(ITEMS)


def eval_batches(store: Store, eval_set: EvalSet, size: int = 500) -> Iterator[pa.Table]:
    """The items in order as `eval_rows` has them, `size` at a time."""
    for first in range(0, eval_set.rows, size):
        yield store.table(
            """SELECT item, messages, tools, cluster, slice, instructions FROM eval_items
               WHERE eval_set_id = ? AND item >= ? AND item < ? ORDER BY item""",
            [eval_set.id, first, first + size],
        ).cast(ITEMS)


def items_as_rows(store: Store, evalset: EvalSet) -> Iterator[pa.RecordBatch]:
    """The items of an eval set in the form in which steps get rows, each with its number as id."""
    for table in eval_batches(store, evalset):
        hashes = [
            content_hash(messages, tools)
            for messages, tools in zip(table["messages"].to_pylist(), table["tools"].to_pylist(), strict=True)
        ]
        yield pa.record_batch(
            {
                "id": table["item"].cast(pa.int64()).combine_chunks(),
                "content_hash": pa.array(hashes, pa.string()),
                "messages": table["messages"].combine_chunks(),
                "tools": table["tools"].combine_chunks(),
                "source": pa.array([evalset.name] * table.num_rows, pa.string()),
                "category": table["slice"].combine_chunks(),
            }
        )


def eval_item(store: Store, eval_set: EvalSet, item: int) -> EvalItem:
    """One item by its number. Raises NotFound."""
    row = store.row(
        "SELECT messages, tools, cluster, slice, instructions FROM eval_items WHERE eval_set_id = ? AND item = ?",
        [eval_set.id, item],
    )
    if row is None:
        last = eval_set.rows - 1
        raise NotFound(f"eval set {eval_set.name!r} has no item {item}", do=f"Its items go from 0 to {last}.")
    return EvalItem(*row)


def normalised_prompt(messages: str) -> str:
    """The prompt of a conversation (canonical JSON) as overlaps compare it: NFC, case folded, runs of space as one."""
    text = unicodedata.normalize("NFC", side_text(json.loads(messages), "prompt"))
    return " ".join(text.casefold().split())


def overlapping(store: Store, named: Named, eval_set: EvalSet) -> list[tuple[int, int]]:
    """Rows of a source or version whose prompt is also that of an eval item; see `overlapping_members`."""
    members = Members(store, [named])
    try:
        return overlapping_members(store, members, eval_set)
    finally:
        members.close()


def overlapping_members(store: Store, members: Members, eval_set: EvalSet) -> list[tuple[int, int]]:
    """Rows whose prompt is also that of an eval item: pairs of example id and item, in the order of the rows."""
    prompts: dict[str, int] = {}
    items = eval_rows(store, eval_set)
    for item, messages in zip(items["item"].to_pylist(), items["messages"].to_pylist(), strict=True):
        prompts.setdefault(normalised_prompt(messages), item)
    return list(_sharing(members, prompts))


def count_sharing(store: Store, named: Named, prompts: Collection[str], progress: Progress | None = None) -> int:
    """How many rows of a source or version have one of these prompts (as `normalised_prompt` gives them)."""
    members = Members(store, [named])
    try:
        return sum(1 for _ in _sharing(members, dict.fromkeys(prompts, 0), progress))
    finally:
        members.close()


def _sharing(members: Members, items: Mapping[str, int], progress: Progress | None = None) -> Iterator[tuple[int, int]]:
    done = 0
    for batch in members.batches(("id", "messages")):
        for id, messages in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            item = items.get(normalised_prompt(messages))
            if item is not None:
                yield id, item
        done += len(batch)
        if progress:
            progress(done, members.rows, "comparing prompts")


def hold_out_order(store: Store, named: Named, seed: int) -> list[int]:
    """Ids of rows that end with an answer, one for each content, ordered by seed and content alone."""
    with store.reading() as cursor:
        choose(cursor, [named])
        rows = fetch(
            cursor,
            """SELECT min(e.id) FROM chosen c JOIN examples e ON e.id = c.example_id
               WHERE json_extract_string(e.messages, '$[#-1].role') = 'assistant'
               GROUP BY e.content_hash ORDER BY sha256(? || ':' || e.content_hash)""",
            [str(seed)],
        )
        return [int(id) for (id,) in rows]


def read_examples(store: Store, ids: Sequence[int]) -> list[tuple[str, str | None, str | None]]:
    """(messages, tools, meta) of these examples, in the order of `ids`."""
    wanted = pa.table({"pos": pa.array(range(len(ids)), pa.int64()), "id": pa.array(ids, pa.int64())})
    with store.reading() as cursor:
        cursor.register("wanted", wanted)
        return [
            (messages, tools, meta)
            for messages, tools, meta in fetch(
                cursor,
                "SELECT e.messages, e.tools, e.meta FROM wanted w JOIN examples e ON e.id = w.id ORDER BY w.pos",
            )
        ]
