"""Damaged files for the importer: nothing but a Problem may come out, and no row may be lost, doubled or changed.

    python benchmarks/fuzz_import.py [--first 0] [--count 100000] [--minutes 60] [--state benchmarks/out/fuzz.json]
    python benchmarks/fuzz_import.py --only 4711        shows one input and what comes of it

Input `i` is made from the number `i` alone (`fuzz_inputs.py`). What is looked at, for every input:

- Nothing but a Problem is raised, within 10 s and 4 GB. A process that dies is a finding when the run is resumed.
- Rows are numbered from zero without a gap; the conversations of one row stand together.
- Records are canonical JSON with its hash, and their texts, reasons and raw texts can be stored as UTF-8.
- A file without damage is imported whole, with the text it was made of.
- Where one row was damaged, and the container is whole, all others are imported with the text they were made of; where
  the text of the container was damaged, all rows that end before the first damaged byte.
- Every 20th file that is imported: what is exported as messages and as Parquet comes back the same.

Interrupted by ctrl-c, by its time or by a crash, the same command goes on behind the last input.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
from fuzz_inputs import Input, Talk, make_input

from trainer.conversation import canonical_json, content_hash
from workbench.errors import Problem
from workbench.formats.read import Record, Reject, open_source
from workbench.formats.rows import RAW_LIMIT
from workbench.formats.write import write_examples

SECONDS = 10
MEMORY = 4 << 30
ROUND_TRIP_EVERY = 20


class Finding(Exception):
    """Something that must not happen."""


def need(holds: bool, what: str) -> None:
    if not holds:
        raise Finding(what)


def said(record: Record) -> Talk:
    return [(turn["role"], turn["content"]) for turn in json.loads(record.messages)]


def check(source: Input, path: Path, round_trip: bool) -> str:
    """Import the file and look at what comes out. Gives the outcome in a word; raises Finding or what was raised."""
    path.write_bytes(source.data)
    try:
        # Its shape is named where rows are compared: a damaged row must not sway how the others are read.
        opened = open_source(path, format=source.shape if source.talks and "nothing" not in source.damage else None)
        rows = list(opened.rows())
    except Problem as problem:
        str(problem).encode("utf-8")
        need(not source.talks, f"the file is refused: {problem}")
        return "refused"
    numbers = [row.row for row in rows if isinstance(row, Reject) or row.part == 0]
    need(numbers == list(range(len(numbers))), f"rows are numbered {numbers}")
    by_row: dict[int, list[Record]] = {}
    for row in rows:
        if isinstance(row, Reject):
            need(bool(row.reason) and len(row.raw) <= RAW_LIMIT, "a reject without a reason, or with too long a text")
            (row.reason + row.raw).encode("utf-8")
            continue
        parts = by_row.setdefault(row.row, [])
        need(row.part == len(parts) and row.row == max(by_row), "the conversations of a row are out of order")
        parts.append(row)
        need(row.messages == canonical_json(json.loads(row.messages)), "messages are not canonical")
        need(row.content_hash == content_hash(row.messages, row.tools), "the hash is not that of the content")
        canonical_json(row.meta).encode("utf-8")
    records = [row for row in rows if isinstance(row, Record)]
    found = [[said(record) for record in by_row.get(number, [])] for number in numbers]
    need(source.rows in (None, len(found)), f"{len(found)} rows where there are {source.rows}")
    wrong = [i for i, talks in source.talks.items() if i >= len(found) or found[i] != talks]
    need(not wrong, f"good rows came out otherwise: {wrong} of {[row for row in rows if row.row in wrong]}")
    if records and round_trip:
        check_round_trip(records, path.parent)
    if not records:
        return "all rejected"
    return "imported" if len(by_row) == len(numbers) else "imported in part"


def check_round_trip(records: list[Record], folder: Path) -> None:
    columns = {
        "messages": [row.messages for row in records],
        "tools": [row.tools for row in records],
        "meta": [canonical_json(row.meta) if row.meta else None for row in records],
    }
    arrays = {name: pa.array(column, pa.string()) for name, column in columns.items()}
    for form, name in (("messages", "back.jsonl"), ("parquet", "back.parquet")):
        write_examples([pa.record_batch(arrays)], folder / name, form)
        back = list(open_source(folder / name).rows())
        for went, came in zip(records, back, strict=True):
            same = isinstance(came, Record) and (went.messages, went.tools, went.meta) == (
                came.messages, came.tools, came.meta,
            )  # fmt: skip
            need(same, f"exported as {form}, {went} comes back as {came}")


def one(number: int, folder: Path) -> tuple[str, str | None]:
    """The outcome of an input, and what is wrong with it, if anything."""
    source = make_input(number)
    path = folder / source.name
    signal.alarm(SECONDS)
    try:
        return f"{source.damage}: {check(source, path, number % ROUND_TRIP_EVERY == 0)}", None
    except KeyboardInterrupt:
        raise
    except Finding as finding:
        return f"{source.damage}: finding", str(finding).replace(str(folder), "")
    except BaseException as error:  # whatever it is: to find it is the purpose
        at = traceback.extract_tb(error.__traceback__)[-1]
        return f"{source.damage}: finding", f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {error}"
    finally:
        signal.alarm(0)
        path.unlink(missing_ok=True)


def on_alarm(*_: object) -> None:
    raise TimeoutError(f"longer than {SECONDS} s")


def load(state: Path, first: int) -> dict[str, Any]:
    """The state of an earlier run. Where that run died inside an input, this is a finding and the next one follows."""
    marker = state.with_suffix(".at")
    if not state.exists():
        return {"first": first, "next": first, "seconds": 0.0, "outcomes": {}, "findings": []}
    found: dict[str, Any] = json.loads(state.read_text(encoding="utf-8"))
    if marker.exists():
        at = int(marker.read_text())
        found["findings"].append([at, "the process died"])
        found["next"] = at + 1
    return found


def run(first: int, count: int, minutes: float, state_path: Path) -> dict[str, Any]:
    """Check the inputs from `first` on that are not checked yet, until the time is up."""
    state_path.parent.mkdir(parents=True, exist_ok=True)
    marker = state_path.with_suffix(".at")
    state = load(state_path, first)
    outcomes = Counter(state["outcomes"])
    start = told = time.monotonic()
    before = state["seconds"]
    with tempfile.TemporaryDirectory() as folder, marker.open("w") as at:
        try:
            while state["next"] < first + count and time.monotonic() - start < minutes * 60:
                number = state["next"]
                os.pwrite(at.fileno(), b"%12d" % number, 0)
                outcome, finding = one(number, Path(folder))
                outcomes[outcome] += 1
                if finding:
                    state["findings"].append([number, finding[:500]])
                    print(f"{number}: {finding[:500]!r}", file=sys.stderr)
                state["next"] = number + 1
                if time.monotonic() - told > 10:
                    told = time.monotonic()
                    save(state, outcomes, before + told - start, state_path)
                    rate = (number - first) / state["seconds"]
                    print(
                        f"{number - first:,} inputs, {len(state['findings'])} findings, {rate:.0f}/s", file=sys.stderr
                    )
        except KeyboardInterrupt:
            pass
    save(state, outcomes, before + time.monotonic() - start, state_path)
    marker.unlink()
    return state


def save(state: dict[str, Any], outcomes: Counter[str], seconds: float, path: Path) -> None:
    state |= {"seconds": round(seconds, 1), "outcomes": dict(sorted(outcomes.items()))}
    path.write_text(json.dumps(state, indent=1), encoding="utf-8")


def report(state: dict[str, Any]) -> None:
    """The outcomes by kind of damage, as a table, and the findings."""
    table: dict[str, Counter[str]] = {}
    for outcome, count in state["outcomes"].items():
        _, damage, what = (part.strip() for part in outcome.replace(".gz", "").replace(".zst", "").split(":"))
        table.setdefault(damage, Counter())[what] += count
    columns = ["imported", "imported in part", "all rejected", "refused", "finding"]
    print(f"{state['next'] - state['first']:,} inputs in {state['seconds']:,.0f} s\n")
    print(f"| damage | inputs | {' | '.join(columns)} |\n|---|{'---|' * (len(columns) + 1)}")
    for damage, counts in table.items():
        print(f"| {damage} | {counts.total():,} | {' | '.join(f'{counts[column]:,}' for column in columns)} |")
    for number, finding in state["findings"]:
        print(f"\n{number}: {finding}")


def show(number: int) -> None:
    source = make_input(number)
    print(source.damage, source.name, source.shape, source.rows, list(source.talks))
    print(source.data)
    with tempfile.TemporaryDirectory() as folder:
        print(check(source, Path(folder) / source.name, round_trip=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--state", type=Path, default=Path(__file__).parent / "out" / "fuzz.json")
    parser.add_argument("--only", type=int, metavar="NUMBER")
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, on_alarm)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if options.only is not None:
        show(options.only)
        return
    state = run(options.first, options.count, options.minutes, options.state)
    report(state)
    sys.exit(1 if state["findings"] else 0)


if __name__ == "__main__":
    main()
