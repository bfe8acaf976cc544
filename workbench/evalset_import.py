"""Making eval sets: out of a file, or by holding out rows of a source or version."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filters.step import Progress
from trainer.conversation import content_text
from trainer.errors import BadInput as InstructionProblem
from trainer.instructions import parse, to_json
from workbench.errors import BadInput, UsageProblem
from workbench.formats.read import Reject
from workbench.formats.shapes import or_instructed
from workbench.importing import BATCH, check_name, list_reasons, open_target, reading
from workbench.store.database import Store
from workbench.store.evalsets import (
    EvalItem,
    EvalSet,
    add_eval_set,
    count_sharing,
    hold_out_order,
    normalised_prompt,
    read_examples,
)
from workbench.store.members import Named


@dataclass(frozen=True)
class EvalImport:
    """What came of making an eval set: rejected (row, reason), and how many rows of its source share its prompts."""

    evalset: EvalSet
    new: bool
    rejected: list[tuple[int, str]] = field(default_factory=list)
    overlaps: int = 0


def import_evalset(
    store: Store, path: Path, name: str, progress: Progress | None, mapping: dict[str, str] | None = None
) -> EvalImport:
    """Freeze the usable rows of `path` as an eval set: those with a prompt and a last turn that answers it.

    `mapping` names the columns (`prompt`, `response`, perhaps `system`) of rows of no known shape.

    A row with instructions that a program can check (`instruction_id_list` and `kwargs`, as IFEval has them) needs
    no answer. The metadata `task` or `category` becomes the slice, `cluster` the cluster (else each item is its own).
    Raises BadInput where no row can be used.
    """
    check_name(name)
    opened = open_target(str(path), format=None, mapping=mapping, trees="best")
    opened = replace(opened, parts=tuple(replace(part, shape=or_instructed(part.shape)) for part in opened.parts))
    items: list[EvalItem] = []
    rejected: list[tuple[int, str]] = []
    for row in reading(opened, progress):
        if isinstance(row, Reject):
            rejected.append((row.row, row.reason))
            continue
        try:
            instructions = _instructions(row.meta)
        except InstructionProblem as error:
            rejected.append((row.row, error.what))
            continue
        if problem := reference_problem(row.messages, needed=instructions is None):
            rejected.append((row.row, problem))
        else:
            items.append(_eval_item(row.messages, row.tools, row.meta, len(items), instructions))
    if not items:
        counts = Counter(reason for _, reason in rejected)
        raise BadInput(
            f"no row can be an eval item: {list_reasons(counts.most_common(), counts.total())}",
            where=str(path),
            do="An item is a prompt and, as its last turn, the reference answer; or a prompt with the columns "
            "instruction_id_list and kwargs.",
        )
    made, new = add_eval_set(store, name, items)
    return EvalImport(made, new, rejected)


def hold_out(store: Store, named: Named, name: str, n: int, seed: int, progress: Progress | None = None) -> EvalImport:
    """Freeze `n` rows of a source or version as an eval set, chosen by seed and content, one for each prompt.

    The rows stay where they are; `overlaps` says how many rows a version to train on must leave out. `progress` may
    raise Stopped: then nothing is kept.
    """
    check_name(name)
    items: list[EvalItem] = []
    prompts: set[str] = set()
    ids = hold_out_order(store, named, seed)
    for start in range(0, len(ids), BATCH):
        for messages, tools, meta in read_examples(store, ids[start : start + BATCH]):
            prompt = normalised_prompt(messages)
            if len(items) < n and prompt not in prompts and reference_problem(messages) is None:
                prompts.add(prompt)
                items.append(_eval_item(messages, tools, json.loads(meta or "{}"), len(items)))
        if len(items) == n:
            break
    if len(items) < n:
        raise UsageProblem(
            f"{named.name!r} has {len(items):,} different prompts with an answer, fewer than {n:,}",
            do="Ask for fewer with --n.",
        )
    overlaps = count_sharing(store, named, prompts, progress)
    made, new = add_eval_set(store, name, items)
    return EvalImport(made, new, overlaps=overlaps)


def reference_problem(messages: str, *, needed: bool = True) -> str | None:
    """Why a conversation cannot be an eval item, or None if it can; whether a reference is `needed`."""
    turns = json.loads(messages)
    last = turns[-1]
    if last["role"] == "user" and not needed:
        return None
    if last["role"] != "assistant":
        return f"no reference: the last turn is the {last['role']}'s, not the assistant's"
    if not content_text(last.get("content")).strip() and not last.get("tool_calls"):
        return "no reference: the last turn is empty"
    if not any(turn["role"] == "user" for turn in turns[:-1]):
        return "no prompt: no user turn before the last turn"
    return None


def _instructions(meta: dict[str, Any]) -> str | None:
    """The instructions of a row as text, or None where it has none. Raises what `trainer.instructions` does."""
    ids = meta.get("instruction_id_list")
    return to_json(parse(ids, meta.get("kwargs"))) if ids else None


def _eval_item(
    messages: str, tools: str | None, meta: dict[str, Any], number: int, instructions: str | None = None
) -> EvalItem:
    sliced = meta.get("task", meta.get("category"))
    cluster = meta.get("cluster", f"item-{number}")
    return EvalItem(messages, tools, str(cluster), None if sliced is None else str(sliced), instructions)
