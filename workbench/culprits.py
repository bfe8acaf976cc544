"""`workbench experiments culprits`: from an eval item that got worse to the rows that most likely did it.

Only rows that differ between the two versions can have made the difference: those that the arm alone has, and those
that the baseline alone has and the arm missed. They are ranked by how near they lie to what went wrong, in words
(embeddings) or in what they do to the model (gradients of the arm's adapter, `trainer.gradients`). Nothing in a ranking
proves that a row did it; how well either finds planted culprits: docs/culprits.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from filters.vectors import VectorCache, text_key, text_keys
from trainer.adapters import is_whole_model
from trainer.conversation import Message, canonical_json, content_hash, side_text
from trainer.gradients import PARTS, ROWS, GradientsPlan
from trainer.models import DEFAULT_EMBEDDER
from trainer.plan import ExperimentPlan
from trainer.protocol import PLAN, write_atomic
from workbench.arms import CANDIDATE
from workbench.embeddings import CachedEmbeddings
from workbench.errors import NotFound, UsageProblem
from workbench.jobs import Event, Wish, run_job, stop
from workbench.merged_arms import merged_of
from workbench.outcomes import finished
from workbench.report.pairs import all_comparisons
from workbench.results import Finished, item_answers, open_result
from workbench.store.evalsets import eval_item
from workbench.store.examples import row_numbers
from workbench.token_heat import adapter_digest
from workbench.trained import choice_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workbench.workspace import Workspace

Way = Literal["neighbours", "gradients"]
WAYS: tuple[Way, ...] = get_args(Way)
Side = Literal["only in the arm", "only in the baseline"]
Progress = Callable[[int, int | None, str], None]

_GRADIENTS = "gradients"
_MOMENTS = "moments.npy"


@dataclass(frozen=True)
class Row:
    """A row that one version has and the other has not."""

    id: int
    source: str
    content_hash: str
    messages: list[Message]
    tools: str | None
    side: Side


@dataclass(frozen=True)
class Suspect:
    """A ranked row. `score` is a cosine, or a difference of two: the higher, the likelier that it did harm."""

    rank: int
    score: float
    row: Row
    number: int
    """The row's number in its source."""


@dataclass(frozen=True)
class Item:
    """What went wrong: the question, the reference (empty without one), what the arm's first run answered."""

    item: int
    asked: list[Message]
    reference: str
    answer: str
    tools: str | None = None


@dataclass(frozen=True)
class _Asked:
    """A gradient that is wanted, under a name of its own; the rest is as in the job's rows (`trainer.gradients`)."""

    name: str
    messages: str
    tools: str | None
    last: bool = False
    against: str | None = None


@dataclass(frozen=True)
class Culprits:
    """The rows that differ, ranked, the likeliest first. `unread` rows could not be ranked."""

    experiment: str
    arm: str
    version: str
    baseline: str
    by: Way
    item: Item
    suspects: list[Suspect]
    unread: int

    @property
    def differing(self) -> int:
        """How many rows differ."""
        return len(self.suspects) + self.unread


def find_culprits(
    ws: Workspace,
    experiment: str,
    item: int,
    *,
    number: int = 0,
    by: Way = "neighbours",
    progress: Progress | None = None,
    wish: Callable[[], Wish] = lambda: "watch",
) -> Culprits:
    """Rank the rows in which the two versions of comparison `number` (from 0) differ for one item.

    Raises NotFound for experiment or item; UsageProblem where there is no result yet, one arm, or no difference; what
    the job reports, and Stopped by `wish`.
    """
    shown = open_result(ws, experiment, number)
    noted = finished(ws, shown.id)
    compared = all_comparisons(json.loads(noted.result or "{}"))
    if not compared:
        raise UsageProblem("it has one arm, and a culprit is what differs between two", where=f"experiment {shown.id}")
    arm, against = compared[number]["arm"], compared[number]["against"]
    versions = json.loads(noted.plan)["arms"]
    if merged := [versions[side] for side in (arm, against) if side in merged_of(json.loads(noted.plan))]:
        raise UsageProblem(
            f"{merged[0]} was trained on no rows, but made of other arms",
            where=f"experiment {shown.id}",
            do="Look for culprits in the comparisons of these.",
        )
    wrong = _item(ws, shown, item)
    rows = _differing(ws, versions[arm], versions[against])
    if not rows:
        raise UsageProblem(
            f"{versions[arm]} and {versions[against]} have the same rows, and a culprit is what differs between two",
            where=f"experiment {shown.id}",
            do="What differs is the setting: `workbench experiments diagnose` looks at what each arm does.",
        )
    if by == "neighbours":
        scores = _by_neighbours(ws, wrong, rows, progress, wish)
    else:
        scores = _by_gradients(ws, shown, wrong, rows, progress, wish)
    order = sorted(np.flatnonzero(~np.isnan(scores)).tolist(), key=lambda i: (-scores[i], rows[i].id))
    numbers = row_numbers(ws.store, [rows[i].id for i in order])
    suspects = [Suspect(n, float(scores[i]), rows[i], numbers[rows[i].id]) for n, i in enumerate(order, 1)]
    return Culprits(shown.id, arm, versions[arm], versions[against], by, wrong, suspects, len(rows) - len(suspects))


def comparison_of(ws: Workspace, experiment: str, arm: str) -> int:
    """The number of the first comparison of an arm, by its name or its version's. Raises NotFound, UsageProblem."""
    row = finished(ws, experiment)
    versions = json.loads(row.plan)["arms"]
    arms = [one["arm"] for one in all_comparisons(json.loads(row.result or "{}"))]
    found = next((number for number, one in enumerate(arms) if arm in (one, versions[one])), None)
    if found is None:
        known = ", ".join(dict.fromkeys(arms)) or "none"
        raise NotFound(f"no arm {arm!r} that was held against another", do=f"There is: {known}.")
    return found


def dropped_rows(ws: Workspace, found: Culprits) -> set[int]:
    """The ids of those suspects of the arm's version that its draft drops."""
    ids = [suspect.row.id for suspect in found.suspects if suspect.row.side == "only in the arm"]
    return ws.draft(found.version).dropped(ids)


def drop_culprits(ws: Workspace, found: Culprits, count: int, reason: str = "") -> int:
    """Drop the first `count` suspects that the arm's version has into its draft; returns how many were not yet."""
    ids = [suspect.row.id for suspect in found.suspects if suspect.row.side == "only in the arm"][:count]
    return ws.draft(found.version).drop(ids, reason or reason_of(found))


def reason_of(found: Culprits) -> str:
    """Why its suspects are dropped, as it stands in the version that lacks them."""
    return f"culprit of item {found.item.item} of experiment {found.experiment} by {found.by}"


def _item(ws: Workspace, shown: Finished, item: int) -> Item:
    found = item_answers(ws, shown, item)
    answer = next((given.text for given in found.answers if given.arm == CANDIDATE), "")
    return Item(item, found.asked, found.reference, answer, eval_item(ws.store, shown.evalset, item).tools)


def _differing(ws: Workspace, version: str, baseline: str) -> list[Row]:
    """Rows of one version whose content the other has not, those of `version` first."""
    hashes = {name: {h for batch in ws.rows(name) for h in batch.column("content_hash").to_pylist()}
              for name in (version, baseline)}  # fmt: skip
    sides: list[tuple[str, str, Side]] = [
        (version, baseline, "only in the arm"), (baseline, version, "only in the baseline")
    ]  # fmt: skip
    return [
        Row(row["id"], row["source"], row["content_hash"], json.loads(row["messages"]), row["tools"], side)
        for name, other, side in sides
        for batch in ws.rows(name)
        for row in batch.to_pylist()
        if row["content_hash"] not in hashes[other]
    ]


def _by_neighbours(
    ws: Workspace, item: Item, rows: Sequence[Row], progress: Progress | None, wish: Callable[[], Wish]
) -> NDArray[np.float32]:
    """Cosines: of rows that the arm has with the item as it answered, of rows that it misses with the reference."""
    embed = CachedEmbeddings(ws.cache_dir, ws.runs_dir, progress, lambda: wish() == "stop")
    question = side_text(item.asked, "prompt")
    texts = [f"{side_text(row.messages, 'prompt')}\n{side_text(row.messages, 'response')}" for row in rows]
    wrong, right = f"{question}\n{item.answer}", f"{question}\n{item.reference}"
    vectors = embed([wrong, right, *texts], DEFAULT_EMBEDDER)
    held = np.stack([vectors[0] if row.side == "only in the arm" else vectors[1] for row in rows])
    cosines: NDArray[np.float32] = (vectors[2:] * held).sum(axis=1)
    return cosines


def _by_gradients(
    ws: Workspace,
    shown: Finished,
    item: Item,
    rows: Sequence[Row],
    progress: Progress | None,
    wish: Callable[[], Wish],
) -> NDArray[np.float32]:
    """How much a row pulls the adapter to the arm's answer and from the reference; the contrary for missed rows."""
    plan, adapter = _plan(ws, shown)
    # Towards the answer and away from the reference; where it is the reference, towards what makes that less likely.
    answer, reference = (
        canonical_json([*item.asked, {"role": "assistant", "content": text}]) for text in (item.answer, item.reference)
    )
    told = item.answer != item.reference
    against = reference if told and item.reference else None
    name = "\n".join(["item", content_hash(answer, item.tools), content_hash(against, item.tools) if against else ""])
    asked = [_Asked(name, answer, item.tools, last=True, against=against)]
    asked += [_Asked(f"row\n{row.content_hash}", canonical_json(row.messages), row.tools) for row in rows]
    vectors = _gradients(ws, plan, adapter, asked, progress, wish)
    if np.isnan(vectors[0]).any():
        raise UsageProblem(
            "what went wrong there has no gradient: no token of it is trained, or it is longer than the limit of "
            f"{plan.max_length:,} tokens",
            where=f"item {item.item}",
            do="--by neighbours needs none.",
        )
    sides = np.array([1.0 if row.side == "only in the arm" else -1.0 for row in rows], dtype=np.float32)
    scores: NDArray[np.float32] = vectors[1:] @ vectors[0] * sides
    return scores if told else -scores


def _plan(ws: Workspace, shown: Finished) -> tuple[GradientsPlan, Path]:
    """What the job is told, but for where the adapter lies seen from its folder, and where that is."""
    row = finished(ws, shown.id)
    job = ExperimentPlan.model_validate(json.loads(row.plan)["job"])
    home = ws.runs_dir / row.id
    run = next(iter(shown.runs[CANDIDATE].values())).removeprefix(f"{row.id}/")
    folder = home / "results" / run / "adapter"
    if is_whole_model(folder):
        raise UsageProblem(
            f"{run} trained all weights, and gradients are taken at an adapter",
            where=str(folder),
            do="--by neighbours needs none.",
        )
    if not (folder / "adapter_config.json").exists():
        raise UsageProblem(
            f"the adapter of {run} is no longer there, and gradients are taken at it",
            where=str(folder),
            do="--by neighbours needs none.",
        )
    training = shown.result["settings"]["training"]
    plan = GradientsPlan(
        model=job.model,
        choice=choice_of(home, run),
        policy=job.policy,
        adapter=".",
        moments=_MOMENTS,
        max_length=training["max_length"],
        truncate=training["truncate"],
    )
    return plan, folder


def _gradients(
    ws: Workspace,
    plan: GradientsPlan,
    adapter: Path,
    asked: Sequence[_Asked],
    progress: Progress | None,
    wish: Callable[[], Wish],
) -> NDArray[np.float32]:
    """Unit vectors of what is asked, from the cache and, for new ones, from a job.

    A row is measured once for each adapter and setting. What a job had done when it ended is kept.
    """
    setting = json.dumps(plan.model_dump(), sort_keys=True) + adapter_digest(adapter)
    identity = hashlib.sha256(setting.encode()).hexdigest()[:16]
    cache, job = VectorCache(ws.cache_dir / _GRADIENTS / identity), ws.runs_dir / f"{_GRADIENTS}-{identity}"
    _take_over(cache, job)
    keys = text_keys([one.name for one in asked])
    absent = cache.missing(keys)
    if absent.any():
        wanted = {one.name: one for one, new in zip(asked, absent.tolist(), strict=True) if new}
        kept = ws.cache_dir / _GRADIENTS / identity / _MOMENTS
        places = {"adapter": os.path.relpath(adapter, job), "moments": os.path.relpath(kept, job)}
        _write_job(job, plan.model_copy(update=places), list(wanted.values()))

        def on_event(event: Event) -> None:
            if event["event"] == "progress" and progress:
                progress(int(event["done"]), int(event["total"]), str(event["what"]))

        try:
            run_job("trainer", job, on_event, wish=wish)
        finally:
            _take_over(cache, job)
    return cache.look_up(keys)


def _write_job(folder: Path, plan: GradientsPlan, wanted: Sequence[_Asked]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [asdict(one) | {"key": text_key(one.name)} for one in wanted]
    random.Random(plan.seed).shuffle(rows)  # the second moments are those of the first
    texts = [pa.field(name, pa.string()) for name in ("key", "messages", "tools", "against")]
    schema = pa.schema([*texts, pa.field("last", pa.bool_())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / ROWS)
    write_atomic(folder / PLAN, plan.model_dump_json(indent=1))


def _take_over(cache: VectorCache, job: Path) -> None:
    """Put what a job has done into the cache, and remove its folder."""
    if not job.exists():
        return
    stop(job)  # it may work for a bench that is gone
    if parts := sorted((job / PARTS).glob("[0-9]*.parquet")):
        cache.take(parts)
    shutil.rmtree(job)
