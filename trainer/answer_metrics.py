"""What is read off a model's own answers: ends, loops, instructions followed, length and shape, what it recites.

All of it is text and token ids: no model is asked again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from trainer.base import Base
from trainer.conversation import side_text
from trainer.evaluate import Generation, Metric, PreparedItem

STOP_RATE = "stop_rate"
REPETITION = "repetition"
STRICT = "instructions_strict"
LOOSE = "instructions_loose"
ALL_STRICT = "all_instructions_strict"
ALL_LOOSE = "all_instructions_loose"
REGURGITATION = "regurgitation"
REGURGITATION_CONTROL = "regurgitation_control"
ANSWER_TOKENS = "answer_tokens"
PROMPT_TOKENS = "prompt_tokens"

GRAM = 8
"""Words in a run that counts as recited; shorter ones are common phrases."""

SHAPES: Final = {
    "has_list": re.compile(
        r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S.*\n(?:.*\n)*?[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S", re.M
    ),
    "has_code": re.compile(r"^[ \t]*(?:```|~~~)", re.M),
    "has_heading": re.compile(r"^#{1,6}[ \t]+\S", re.M),
}
"""Marks of Markdown in an answer: two points of a list or more, a code fence, a heading."""

Gram = tuple[str, ...]


def answer_metrics(base: Base, items: Sequence[PreparedItem], answers: Sequence[Generation]) -> list[Metric]:
    """What an answer tells by itself, for each answer; `items` are those that were answered.

    `stop_rate` (1 where the model ended its answer itself), `repetition` (rep-4), `answer_tokens`, `has_list`,
    `has_code`, `has_heading`; and where the item has instructions, the share of them that is followed
    (`instructions_strict`, `instructions_loose`, weighted by their number) and whether all are (`all_...`).
    """
    by_item = {item.item: item for item in items}
    metrics = []
    for answer in answers:
        ids = base.tokenizer(answer.text, add_special_tokens=False)["input_ids"]
        values = {
            STOP_RATE: float(answer.finish == "stop"),
            REPETITION: repeated_share(ids),
            ANSWER_TOKENS: float(answer.tokens),
            **{name: float(bool(shape.search(answer.text))) for name, shape in SHAPES.items()},
        }
        metrics += [Metric(answer.item, name, value, 1.0) for name, value in values.items()]
        metrics += _followed(by_item[answer.item], answer)
    return metrics


def prompt_lengths(items: Sequence[PreparedItem]) -> list[Metric]:
    """`prompt_tokens`: how long each item's prompt is to this model; no arm can move it."""
    return [Metric(item.item, PROMPT_TOKENS, float(len(item.prompt)), 1.0) for item in items]


def _followed(item: PreparedItem, answer: Generation) -> list[Metric]:
    if not item.instructions:
        return []
    n = len(item.instructions)
    strict = sum(instruction.strict(answer.text) for instruction in item.instructions)
    loose = sum(instruction.loose(answer.text) for instruction in item.instructions)
    return [
        Metric(item.item, STRICT, strict / n, n),
        Metric(item.item, LOOSE, loose / n, n),
        Metric(item.item, ALL_STRICT, float(strict == n), 1.0),
        Metric(item.item, ALL_LOOSE, float(loose == n), 1.0),
    ]


def regurgitation(
    rows: Sequence[Path],
    items: Sequence[PreparedItem],
    answers: Sequence[Generation],
    control: Sequence[tuple[int, str]],
) -> list[Metric]:
    """`regurgitation`: the share of an answer's runs of 8 words that stand in the training answers of `rows`.

    `regurgitation_control` is the same of what a model that was never trained answered (`control`: item, text): how
    much of this stands there anyway. Runs that stand in the item's own prompt do not count. An answer of fewer words
    has no run and recites nothing. `rows` are the Parquet files of what was trained on. Linear in the words of rows
    and answers; memory grows with the answers alone.
    """
    asked = {item.item: set(grams(item.asked)) for item in items}
    told = [(REGURGITATION, answer.item, answer.text) for answer in answers]
    told += [(REGURGITATION_CONTROL, item, text) for item, text in control if item in asked]
    runs = [(name, item, [gram for gram in grams(text) if gram not in asked[item]]) for name, item, text in told]
    wanted = {gram for _, _, found in runs for gram in found}
    trained = (text for file in rows for text in _trained_texts(file)) if wanted else ()
    there = {gram for text in trained for gram in grams(text) if gram in wanted}
    return [
        Metric(item, name, sum(gram in there for gram in found) / len(found) if found else 0.0, 1.0)
        for name, item, found in runs
    ]


def grams(text: str, n: int = GRAM) -> Iterator[Gram]:
    """Every run of `n` words in a text, in order; case and punctuation do not matter."""
    words = re.findall(r"\w+", text.casefold())
    return zip(*(words[i:] for i in range(n)), strict=False)


def _trained_texts(rows: Path) -> Iterable[str]:
    for batch in pq.ParquetFile(rows).iter_batches(columns=["messages"]):
        for messages in batch["messages"].to_pylist():
            yield side_text(json.loads(messages), "response")


def repeated_share(ids: Sequence[int], n: int = 4) -> float:
    """rep-n: the share of n-grams that occurred before in the sequence (Welleck et al., arXiv:1908.04319).

    0 for sequences too short to have two n-grams.
    """
    found = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(found)) / len(found) if len(found) > 1 else 0.0
