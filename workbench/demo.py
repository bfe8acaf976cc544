"""The use case behind `workbench demo`: the whole loop on the starter set, and what its answer key says of the recipe.

The answer key is read here and nowhere else: no filter may see it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.curation import RunReport
from workbench.experiments import Question
from workbench.importing import ImportReport
from workbench.resources import data_dir
from workbench.workspace import Workspace

SOURCE = "starter"
RAW = "raw"
CURATED = "curated"
EVALSET = "starter-eval"
RECIPE = "safe-default"
MINUTES = 8.0
"""For the training part; with what comes before it the demo stays within ten minutes."""

DUPLICATES = {"exact-duplicate", "near-duplicate"}


@dataclass(frozen=True)
class FlawScore:
    """How much of one planted kind of flaw the recipe found. `by_step` counts the steps that found it."""

    kind: str
    planted: int
    found: int
    by_step: dict[str, int]


@dataclass(frozen=True)
class KeyScore:
    """The recipe against the answer key: per kind, and the good rows that it dropped, with step and reason."""

    kinds: list[FlawScore]
    good_dropped: list[tuple[str, str, str]]

    @property
    def precision(self) -> float:
        """Share of drops that removed a planted flaw."""
        found = sum(kind.found for kind in self.kinds)
        return found / max(found + len(self.good_dropped), 1)

    @property
    def recall(self) -> float:
        """Share of planted flaws that were dropped."""
        return sum(kind.found for kind in self.kinds) / max(sum(kind.planted for kind in self.kinds), 1)


def bring_in(ws: Workspace) -> ImportReport:
    """Import the starter set and its eval set, and freeze the raw version; what is there already stays."""
    report = ws.import_file(data_dir() / "starter" / "raw.jsonl", name=SOURCE, license="Apache-2.0")
    ws.freeze(SOURCE, RAW)
    ws.import_evalset(data_dir() / "eval" / "starter-eval.jsonl", EVALSET)
    return report


def curate(ws: Workspace, progress: Any = None) -> RunReport:
    """Run the recipe that the demo shows."""
    return ws.run_recipe(RECIPE, [SOURCE], CURATED, progress=progress)


def question(*, model: str | None, device: Any, seeds: int | None, minutes: float | None) -> Question:
    """What the demo measures: raw against curated, by NF4 QLoRA.

    On a slow machine its own time is stretched, so that it comes to a verdict; `minutes` that were asked for are not.
    """
    from workbench.experiments import DEFAULT_SEEDS

    return Question(
        baseline=RAW,
        candidate=CURATED,
        evalset=EVALSET,
        model=model,
        quantize="nf4",
        device=device,
        seeds=seeds or DEFAULT_SEEDS,
        minutes=minutes or MINUTES,
        stretch=minutes in (None, MINUTES),  # given or not, it is the same question
    )


def score_against_key(ws: Workspace) -> KeyScore:
    """Precision and recall of the recipe by planted kind.

    Of a duplicate pair either row may go: dropping the good one of the two counts as finding the flaw.
    """
    key = [json.loads(line) for line in _lines("answer_key.jsonl")]
    dropped: dict[str, tuple[str, str]] = {}
    for row in ws.examples(CURATED, which="dropped", limit=1_000_000).rows:
        dropped[str(row.meta.get("id"))] = (str(row.step), str(row.reason))
    planted = {entry["id"] for entry in key}
    excused: set[str] = set()
    kinds: dict[str, FlawScore] = {}
    for entry in key:
        gone = entry["id"]
        if entry["kind"] in DUPLICATES and gone not in dropped and entry["of"] in dropped:
            gone = entry["of"]
            excused.add(gone)
        step = dropped.get(gone)
        known = kinds.get(entry["kind"], FlawScore(entry["kind"], 0, 0, {}))
        by_step = dict(known.by_step)
        if step:
            by_step[step[0]] = by_step.get(step[0], 0) + 1
        kinds[entry["kind"]] = FlawScore(known.kind, known.planted + 1, known.found + bool(step), by_step)
    wrongly = [(id, *dropped[id]) for id in sorted(dropped) if id not in planted and id not in excused]
    return KeyScore(sorted(kinds.values(), key=lambda kind: kind.kind), wrongly)


def showcase(ws: Workspace) -> list[tuple[int, list[dict[str, Any]]]]:
    """Short conversations of the curated version, with their positions: one answer, a system turn, two answers."""
    wanted: dict[str, tuple[int, list[dict[str, Any]]]] = {}
    position = -1
    for batch in ws.rows(CURATED):
        for text, tools in zip(*(batch.column(name).to_pylist() for name in ("messages", "tools")), strict=True):
            position += 1
            if len(text) > 500 or tools:
                continue
            messages = json.loads(text)
            kind = "system" if messages[0]["role"] == "system" else f"{len(messages)} turns"
            wanted.setdefault(kind, (position, messages))
    return [wanted[kind] for kind in ("2 turns", "system", "4 turns") if kind in wanted]


def _lines(name: str) -> Iterable[str]:
    return (data_dir() / "starter" / name).read_text(encoding="utf-8").splitlines()


def next_commands(program: str, folder: str, experiment: str) -> Sequence[str]:
    """What to try after the demo."""
    there = f"{program} -w {folder}"
    return (
        f"{there} examples {CURATED} --dropped",
        f"{there} versions diff {RAW} {CURATED}",
        f"{there} experiments show {experiment} --answers 10",
        f"{there} compare {RAW} {RAW} --quantize nf4 --minutes {MINUTES:g}   # the same data twice: no difference?",
        f"{program} init my-data && {program} -w my-data import YOUR_FILE.jsonl",
    )
