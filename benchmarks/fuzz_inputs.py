"""Inputs for `fuzz_import.py`: small valid files of every shape and container, and ways to damage them.

A number makes an input, always the same one. Every row and text is made up here.
"""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
Talk = list[tuple[str, str]]  # (role, content) of each turn

WORDS = [
    "how", "many", "legs", "has", "a", "spider", "eight", "größer", "猫", "кот", "😀", "e\u0301", "\u2028", "\u0085",
    "\x0c", "\u202e", "<|im_end|>", "[/INST]", '"', "\\", "\\n", "{", "]", ",", ";", "\t", "\r\n", "\n", "\x1b[0m",
    "\ufeff", "'",
]  # fmt: skip
CALL = {"name": "legs", "arguments": {"animal": "spider", "n": 8, "of": [1, None]}}
SCHEMA = {"name": "legs", "description": "counts", "parameters": {"type": "object", "properties": {"animal": {}}}}
ODD: list[Any] = [
    None, True, False, 0, -1, 1e308, 2**80, float("nan"), float("inf"), "", " ", "x", "\ud800", "\x00", "{", "[]",
    "null", '{"role": "user"}', [], {}, [[]], [{}], {"": ""}, {"role": []}, [None], ["x"], "assistant", "user",
    {"type": ["text"]},
]  # fmt: skip
KEYS = [
    "messages", "conversations", "role", "from", "content", "value", "tools", "tool_calls", "function_call",
    "arguments", "prompt", "chosen", "rejected", "replies", "rank", "instances", "instruction", "output", "history",
    "system", "meta", "train", "weight", "type", "text", "reasoning_content", "id", "turns", "reference", "deleted",
    "",
]  # fmt: skip
TOKENS = [
    b"\n", b"\r", b"\0", b'"', b"'", b"\\", b",", b":", b"[", b"]", b"{", b"}", b"\xff", b"\xed\xa0\x80",
    b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"NaN", b"1e999", b"null", b"true", b'\\ud800', b"\\u0000", b"[" * 2000,
    b'{"a":' * 1500, b"]" * 50, b"9" * 5000, b'"role"', b'"content"', b'"messages":', b'{"data": [', b"PAR1",
    b"ARROW1", b"\x1f\x8b", b"\xff\xfe",
]  # fmt: skip


@dataclass
class Input:
    """A file to import, how it was damaged, and what is known about it.

    `rows` is how many rows it has, None where the damage leaves that open. `talks` has the conversations of the rows
    that must come out as they are, by the row's number: those that the damage does not touch.
    """

    name: str
    data: bytes
    shape: str
    damage: str
    rows: int | None
    talks: dict[int, list[Talk]]


def text(rng: random.Random) -> str:
    size = rng.choice([0, 1, 3, 6, 6, 6, 300]) if rng.random() < 0.2 else 4
    return " ".join(rng.choice(WORDS) for _ in range(size))


def talk(rng: random.Random) -> Talk:
    turns = [("system", text(rng))] if rng.random() < 0.3 else []
    for _ in range(rng.choice([1, 1, 2, 3])):
        turns += [("user", text(rng)), ("assistant", text(rng))]
    return turns


def messages_row(rng: random.Random) -> tuple[Row, list[Talk]]:
    said = talk(rng)
    turns: list[Row] = []
    for role, content in said:
        turn: Row = {"role": role, "content": content}
        if rng.random() < 0.2:
            turn["content"] = [{"type": "text", "text": content}]
        if role == "assistant" and rng.random() < 0.3:
            turn["tool_calls"] = [{"id": "c1", "type": "function", "function": CALL}]
        if role == "assistant" and rng.random() < 0.3:
            turn |= {"reasoning_content": text(rng), "weight": rng.choice([0, 1, 0.5])}
        turns.append(turn)
    row: Row = {"messages": turns}
    if rng.random() < 0.3:
        row |= {"tools": [{"type": "function", "function": SCHEMA}], "lang": "en", "score": 0.5}
    return row, [said]


def sharegpt_row(rng: random.Random) -> tuple[Row, list[Talk]]:
    said = talk(rng)
    names = {"system": "system", "user": "human", "assistant": rng.choice(["gpt", "bard", "chatgpt"])}
    turns = [{"from": names[role], "value": content} for role, content in said]
    row: Row = {"conversations": turns}
    if rng.random() < 0.4:
        turns += [{"from": "function_call", "value": json.dumps(CALL)}, {"from": "observation", "value": "8"}]
        said = [*said, ("assistant", ""), ("tool", "8")]
        row["tools"] = json.dumps([SCHEMA])
    return row, [said]


def alpaca_row(rng: random.Random) -> tuple[Row, list[Talk]]:
    instruction, given, output = "Do: " + text(rng), text(rng), text(rng)
    row: Row = {"instruction": instruction, "input": given, "output": output}
    said = [("user", f"{instruction}\n\n{given}" if given else instruction), ("assistant", output)]
    return row, [said]


def pair_row(rng: random.Random) -> tuple[Row, list[Talk]]:
    prompt, answer = text(rng), text(rng)
    return {"prompt": prompt, "completion": answer}, [[("user", prompt), ("assistant", answer)]]


def preference_row(rng: random.Random) -> tuple[Row, list[Talk]]:
    prompt, chosen, rejected = text(rng), text(rng), text(rng)
    return (
        {"prompt": prompt, "chosen": chosen, "rejected": rejected},
        [[("user", prompt), ("assistant", chosen)]],
    )


def nested_row(rng: random.Random) -> tuple[Row, list[Talk]]:
    instruction, outputs = "Do: " + text(rng), [text(rng) for _ in range(rng.choice([1, 2, 3]))]
    row = {"id": "t", "instruction": instruction, "instances": [{"input": "", "output": out} for out in outputs]}
    return row, [[("user", instruction), ("assistant", out)] for out in outputs]


def tree_row(rng: random.Random) -> tuple[Row, list[Talk]]:
    prompt, best, more, last = text(rng), text(rng), text(rng), text(rng)
    follow = {"role": "prompter", "text": more, "replies": [{"role": "assistant", "text": last, "replies": []}]}
    replies = [
        {"role": "assistant", "text": text(rng), "rank": 1, "replies": []},
        {"role": "assistant", "text": best, "rank": 0, "replies": [follow]},
    ]
    row = {"message_tree_id": "t", "prompt": {"role": "prompter", "text": prompt, "replies": replies}}
    return row, [[("user", prompt), ("assistant", best), ("user", more), ("assistant", last)]]


SHAPES: dict[str, Callable[[random.Random], tuple[Row, list[Talk]]]] = {
    "messages": messages_row,
    "sharegpt": sharegpt_row,
    "alpaca": alpaca_row,
    "prompt-completion": pair_row,
    "preference": preference_row,
    "nested": nested_row,
    "tree": tree_row,
}
FLAT = ("messages", "sharegpt", "alpaca", "prompt-completion", "preference")  # these fit into the cells of a table


def _json(value: object, rng: random.Random, **more: Any) -> bytes:
    return json.dumps(value, ensure_ascii=rng.random() < 0.5, **more).encode("utf-8", "surrogatepass")


def _cells(rows: list[Row]) -> list[dict[str, str]]:
    return [
        {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()} for row in rows
    ]


def _written(rows: list[Row], write: Callable[[pa.Table, io.BytesIO], None]) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.BytesIO()
    try:
        write(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), out)
    except (pa.ArrowException, OSError, TypeError, ValueError, OverflowError):  # mixed types, empty structs, surrogates
        out = io.BytesIO()
        cells = [{k: v.encode("utf-8", "replace").decode() for k, v in row.items()} for row in _cells(rows)]
        write(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in cells]), out)
    return out.getvalue()


def as_array(rows: list[Row], rng: random.Random) -> bytes:
    return _json(rows, rng, indent=rng.choice([None, 2]))


def as_wrapped(rows: list[Row], rng: random.Random) -> bytes:
    return _json({"version": "1", rng.choice(["data", "rows", "examples"]): rows}, rng)


def as_lines(rows: list[Row], rng: random.Random) -> bytes:
    return b"\n".join(_json(row, rng) for row in rows) + rng.choice([b"", b"\n"])


def as_stream(rows: list[Row], rng: random.Random) -> bytes:
    return b"\n".join(_json(row, rng, indent=1) for row in rows)


def as_csv(rows: list[Row], rng: random.Random, delimiter: str = ",") -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, names, delimiter=delimiter, lineterminator=rng.choice(["\n", "\r\n"]), restval="")
    writer.writeheader()
    writer.writerows(_cells(rows))
    return out.getvalue().encode("utf-8", "surrogatepass")


def as_tsv(rows: list[Row], rng: random.Random) -> bytes:
    return as_csv(rows, rng, "\t")


def as_parquet(rows: list[Row], rng: random.Random) -> bytes:
    compression = rng.choice(["none", "snappy", "zstd"])

    def write(table: pa.Table, out: io.BytesIO) -> None:
        pq.write_table(table, out, compression=compression)
        pq.read_schema(out)  # what is nested too deep for its reader can be written all the same

    return _written(rows, write)


def as_arrow(rows: list[Row], rng: random.Random) -> bytes:
    kind = rng.choice([pa.ipc.new_file, pa.ipc.new_stream])

    def write(table: pa.Table, out: io.BytesIO) -> None:
        with kind(out, table.schema) as writer:
            writer.write_table(table)

    return _written(rows, write)


CONTAINERS: dict[str, tuple[str, Callable[[list[Row], random.Random], bytes]]] = {
    "array": (".json", as_array),
    "wrapped": (".json", as_wrapped),
    "lines": (".jsonl", as_lines),
    "stream": (".json", as_stream),
    "csv": (".csv", as_csv),
    "tsv": (".tsv", as_tsv),
    "parquet": (".parquet", as_parquet),
    "arrow": (".arrow", as_arrow),
}
TABLES = ("csv", "tsv")


def damage_value(value: Any, rng: random.Random) -> Any:
    """The row or a part of it with one thing wrong: another type, a lost or odd key, a copy, a deep nest."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.75:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        value[key] = damage_value(value[key], rng)
        return value
    choice = rng.randrange(8)
    if choice == 0 and isinstance(value, dict) and value:
        del value[rng.choice(list(value))]
    elif choice == 1 and isinstance(value, dict) and value:
        value[rng.choice(KEYS)] = value.pop(rng.choice(list(value)))
    elif choice == 2 and isinstance(value, dict):
        value[rng.choice(KEYS)] = copy.deepcopy(rng.choice(ODD))
    elif choice == 3 and isinstance(value, list):
        value.insert(rng.randint(0, len(value)), copy.deepcopy(rng.choice([*ODD, *value])))
    elif choice == 4:
        for _ in range(rng.choice([1, 3, 60, 300])):
            value = rng.choice([[value], {"x": value}, {"replies": [value]}])
    elif choice == 5:
        return json.dumps(value) if rng.random() < 0.7 else str(value)
    elif choice == 6 and isinstance(value, str):
        return value * rng.choice([0, 2, 200])
    else:
        return copy.deepcopy(rng.choice(ODD))
    return value


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one thing wrong: a flipped bit, something put in, left out, moved, doubled or cut off."""
    if not data:
        return rng.choice(TOKENS)
    at, size = rng.randrange(len(data)), rng.choice([1, 1, 2, 8, 64])
    choice = rng.randrange(7)
    if choice == 0:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if choice == 1:
        return data[:at] + rng.choice(TOKENS) + data[at:]
    if choice == 2:
        return data[:at] + data[at + size :]
    if choice == 3:
        return data[:at]
    if choice == 4:
        return data[:at] + rng.randbytes(size) + data[at + size :]
    start = rng.randrange(len(data))
    piece = data[start : start + size * 8]
    return data[:at] + piece + data[at + (len(piece) if choice == 5 else 0) :]


def make_input(number: int) -> Input:
    """The input of that number."""
    rng = random.Random(number)
    container = rng.choice(list(CONTAINERS))
    shape = rng.choice(FLAT if container in TABLES else list(SHAPES))
    suffix, write = CONTAINERS[container]
    made = [SHAPES[shape](rng) for _ in range(rng.choice([1, 2, 3, 5]))]
    rows = [row for row, _ in made]
    damage = rng.choice(["nothing", "value", "value", "bytes", "bytes", "splice", "line"])
    known: set[int] = set(range(len(rows))) if damage == "nothing" else set()
    victim = rng.randrange(len(rows))
    others = set(range(len(rows))) - {victim}
    if damage == "value":
        damaged = damage_value(copy.deepcopy(rows[victim]), rng)
        # Tables have nothing but rows, and what a stream is shows in its first value.
        odd = container in ("array", "lines") or (container == "stream" and victim > 0)
        rows[victim] = damaged if odd or (isinstance(damaged, dict) and damaged) else {"x": damaged}
        # A tree with an odd value in it fits into no column of structs, and as text in a cell it is no tree.
        known = set() if shape == "tree" and container in ("parquet", "arrow") else others
    choices = rng.getstate()
    whole = data = write(rows, rng)
    if damage == "line" and container == "lines":
        lines = data.rstrip(b"\n").split(b"\n")
        line = damage_bytes(lines[victim], rng).replace(b"\n", b" ")
        lines[victim] = line if line.strip() else b"x"  # a blank line would be no row
        data, known = b"\n".join(lines), others
    elif damage == "splice":
        other = CONTAINERS[rng.choice(list(CONTAINERS))][1]([pair_row(rng)[0]], rng)
        data = data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]
    elif damage in ("bytes", "line"):
        for _ in range(rng.choice([1, 1, 2, 5])):
            data = damage_bytes(data, rng)
    all_rows = len(rows) if known else None
    if damage in ("bytes", "splice") and container not in ("parquet", "arrow"):
        untouched = next((i for i, (a, b) in enumerate(zip(whole, data, strict=False)) if a != b), len(data))
        known = rows_before(untouched, rows, whole, write, choices)
    source = Input(f"a{suffix}", data, shape, f"{container}: {damage}", all_rows, {i: made[i][1] for i in known})
    packing = rng.choice(["", "", "", "", ".gz", ".zst"])
    if packing:
        source.data = gzip.compress(data, 1) if packing == ".gz" else pa.compress(data, "zstd", asbytes=True)
        source.name += packing
        source.damage += packing
        if damage == "bytes" and rng.random() < 0.3:
            source.data, source.talks = damage_bytes(source.data, rng), {}
    return source


def rows_before(
    untouched: int, rows: list[Row], whole: bytes, write: Callable[[list[Row], random.Random], bytes], choices: Any
) -> set[int]:
    """The rows of text that end before its first damaged byte, found by writing fewer rows with the same choices."""
    found = set()
    for count in range(1, len(rows)):
        rng = random.Random()
        rng.setstate(choices)
        begin = write(rows[:count], rng)
        if whole.startswith(begin.rstrip(b"\r\n]} ")) and len(begin) + 4 <= untouched:  # its line end is whole, too
            found.add(count - 1)
    return found
