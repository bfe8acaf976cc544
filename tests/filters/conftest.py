"""Rows, batches and recipes for tests of curation steps."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from filters.pipeline import run
from filters.recipe import parse_recipe
from filters.registry import STEPS
from filters.step import Row
from trainer.conversation import canonical_json, content_hash

SHARED = Path(__file__).parents[2] / "../shared/data"


def conversation(*turns, system=None):
    """User and assistant turns in alternation."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    return [{"role": "system", "content": system}, *messages] if system else messages


@pytest.fixture(scope="session")
def talk():
    return conversation


@pytest.fixture(scope="session")
def make_row():
    def make(*turns, id=0, system=None, messages=None, tools=None):
        text = canonical_json(messages if messages is not None else conversation(*turns, system=system))
        tools_text = None if tools is None else canonical_json(tools)
        return Row(id, content_hash(text, tools_text), text, tools_text)

    return make


@pytest.fixture(scope="session")
def judge():
    """The finding of step `name` on one row, None if it is kept, or the state ("unscored", "error")."""

    def decide(name, row, **params):
        step = STEPS[name](STEPS[name].params_model(**params))
        scores = [scorer.score([row])[0] for scorer in step.scorers]
        states = {score.state for score in scores} - {"ok"}
        return states.pop() if states else step.decide(scores)

    return decide


@pytest.fixture(scope="session")
def batches():
    """A `rows` callable over conversations: [(id, messages)] or [messages]; small batches on purpose."""

    def make(conversations, *, source="s", category=None, tools=None, size=7):
        pairs = [pair if isinstance(pair, tuple) else (i, pair) for i, pair in enumerate(conversations)]
        texts = [canonical_json(messages) for _, messages in pairs]
        tools_texts = [
            None if tools is None or tools[i] is None else canonical_json(tools[i]) for i in range(len(pairs))
        ]
        sources = [source] * len(pairs) if isinstance(source, str) else source
        table = pa.table(
            {
                "id": pa.array([id for id, _ in pairs], pa.int64()),
                "content_hash": pa.array(
                    [content_hash(a, b) for a, b in zip(texts, tools_texts, strict=True)], pa.string()
                ),
                "messages": pa.array(texts, pa.string()),
                "tools": pa.array(tools_texts, pa.string()),
                "source": pa.array(sources, pa.string()),
                "category": pa.array(category or [None] * len(pairs), pa.string()),
            }
        )
        return lambda: iter(table.to_batches(max_chunksize=size))

    return make


@pytest.fixture(scope="session")
def outcomes():
    """All outcomes of the recipe text over rows."""

    def go(recipe, rows, **options):
        return list(run(parse_recipe(recipe), rows, **options))

    return go


@pytest.fixture(scope="session")
def shared_rows():
    """Rows of a file of instruction, input and output in the folder of real data."""

    def load(name):
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"no real data at {path}")
        loaded = json.loads(path.read_text()) if path.suffix == ".json" else [json.loads(x) for x in path.open()]
        made = []
        for i, row in enumerate(loaded):
            prompt = row.get("question") or "\n".join(filter(None, [row.get("instruction"), row.get("input")]))
            answer = row.get("output") or row.get("response") or row.get("answer") or ""
            text = canonical_json(conversation(prompt, answer))
            made.append(Row(i, content_hash(text), text))
        return made

    return load
