"""The shapes of rows: which columns a format is known by, and how they become conversations.

Most shapes make one conversation of a row. Those that make several give them one after the other; they stand or
fall together, so that a row is either imported or rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from workbench.errors import UsageProblem
from workbench.formats.nested import from_nested, is_nested
from workbench.formats.pairs import (
    ALPACA_ANSWERS,
    ANSWERS,
    from_alpaca,
    from_pair,
    from_questions,
    is_alpaca,
    is_pair,
    is_questions,
    pair,
)
from workbench.formats.parts import (
    PROMPTS,
    SYSTEMS,
    Parts,
    Row,
    alternatives,
    columns,
    first_of,
    has,
    has_list,
    one_of,
    side,
    with_columns,
)
from workbench.formats.preference import from_preference, is_preference
from workbench.formats.rows import RowProblem
from workbench.formats.trees import all_paths, best_path, is_tree
from workbench.formats.turns import turns

_CONVERSATIONS = ("conversations", "conversation")
TURN_COLUMNS = ("messages", *_CONVERSATIONS)
UNKNOWN = "unknown"
MAPPED = "mapped"
TREE = "tree"
TREE_ALL = "tree-all"
EXPECTED = (
    f"`messages`; `conversations`; `instruction` with {alternatives(ALPACA_ANSWERS)} or with `instances`; "
    f"{alternatives(PROMPTS)} with {alternatives(ANSWERS)}; `chosen` with `rejected`; or `prompt` with `replies`"
)


@dataclass(frozen=True)
class Shape:
    """A way to write conversations in columns. `convert` raises RowProblem for rows that do not fit."""

    name: str
    fits: Callable[[Row], bool]
    convert: Callable[[Row], Iterable[Parts]]


def detect(rows: Iterable[Row]) -> Shape | None:
    """The shape that most of the rows fit, the first named one among equals; None when no row fits any."""
    counts = {shape.name: 0 for shape in SHAPES.values()}
    for row in rows:
        for shape in SHAPES.values():
            counts[shape.name] += shape.fits(row)
    best = max(counts, key=lambda name: counts[name])
    return SHAPES[best] if counts[best] else None


def mapped(mapping: dict[str, str]) -> Shape:
    """The shape of rows whose columns the user named: `prompt`, `response` and, if there is one, `system`.

    Raises UsageProblem for other keys or a missing one.
    """
    unknown = sorted(mapping.keys() - {"prompt", "response", "system"})
    missing = sorted({"prompt", "response"} - mapping.keys())
    if unknown or missing:
        what = f"a mapping has no {unknown[0]!r}" if unknown else f"the mapping names no {missing[0]!r} column"
        raise UsageProblem(what, do="Write --map prompt=COL,response=COL or --map prompt=COL,response=COL,system=COL.")
    prompt, response = mapping["prompt"], mapping["response"]
    systems = (mapping["system"],) if "system" in mapping else ()

    def fits(row: Row) -> bool:
        return prompt in row and response in row

    def convert(row: Row) -> Parts:
        for column in (prompt, response):
            if column not in row:
                raise RowProblem(f"no column `{column}`; this row has {columns(row)}")
        return pair(row, prompt, response, systems)

    return _single(MAPPED, fits, convert)


def or_instructed(shape: Shape | None) -> Shape:
    """`shape`, and rows with a prompt, no answer, and IFEval's `instruction_id_list`: an answer to them can be checked.

    Only eval sets take such rows; there is nothing in them to train on.
    """

    def fits(row: Row) -> bool:
        return has(row, "instruction_id_list") and has(row, *PROMPTS) and not has(row, *ANSWERS)

    def convert(row: Row) -> Iterable[Parts]:
        if fits(row):
            prompt = one_of(row, PROMPTS)
            parts = with_columns(side(row[prompt], prompt, "user"), row, (prompt,), systems=SYSTEMS)
            return (replace(parts, asked_only=True),)
        if shape is None:
            raise unknown_shape(row)
        return shape.convert(row)

    return Shape(shape.name if shape else UNKNOWN, fits, convert)


def unknown_shape(row: Row) -> RowProblem:
    """Why a row of no known shape is not imported, and what would help."""
    prompt = first_of(row, (*PROMPTS, "instruction"))
    if prompt is not None:
        answers = ALPACA_ANSWERS if prompt == "instruction" else ANSWERS
        return RowProblem(
            f"a prompt without an answer: `{prompt}` is there, but no {alternatives(answers)}; the columns are "
            f"{columns(row)}. If one of them is the answer, name it with --map prompt={prompt[:60]},response=COL"
        )
    return RowProblem(
        f"no known shape: the columns are {columns(row)}; expected {EXPECTED}. "
        "Name the columns with --map prompt=COL,response=COL"
    )


def _from_messages(row: Row) -> Parts:
    column = one_of(row, ("messages",))
    return with_columns(turns(row[column], column), row, (column,))


def _from_sharegpt(row: Row) -> Parts:
    column = one_of(row, _CONVERSATIONS)
    return with_columns(turns(row[column], column), row, (column,))


def _single(name: str, fits: Callable[[Row], bool], convert: Callable[[Row], Parts]) -> Shape:
    """A shape whose rows are one conversation each."""
    return Shape(name, fits, lambda row: (convert(row),))


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        # A preference row's `messages` or `conversations` may end before the answer: the chosen side goes first.
        _single("preference", is_preference, from_preference),
        Shape(TREE, is_tree, best_path),
        Shape(TREE_ALL, is_tree, all_paths),
        _single("messages", lambda row: has_list(row, "messages"), _from_messages),
        _single("sharegpt", lambda row: has_list(row, *_CONVERSATIONS), _from_sharegpt),
        Shape("nested", is_nested, from_nested),
        _single("alpaca", is_alpaca, from_alpaca),
        _single("prompt-completion", is_pair, from_pair),
        _single("questions", is_questions, from_questions),
    )
}
"""By name, in the order that decides between shapes that fit equally many rows."""
