"""Reply trees, as Open Assistant publishes them: a prompt, ranked replies to it, replies to those, and so on.

A conversation is a path from the root to an assistant's turn. What the messages on it carry besides role and text
(ids, ranks, labels) becomes the metadata `path`, one entry a turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from trainer.conversation import Message
from workbench.formats.parts import Parts, Row, columns, with_columns
from workbench.formats.rows import RowProblem
from workbench.formats.turns import kind, one_turn

_ROOT = "prompt"
_TEXT = "text"
_TURN_FIELDS = frozenset(["role", _TEXT, "replies"])

_NO_ANSWER = "the tree has no turn of an assistant"


class _Node(NamedTuple):
    """A message of the tree: what stands there, and where in the row (`prompt.replies[0]`)."""

    value: dict[str, Any]
    where: str

    @property
    def turn(self) -> Message:
        return one_turn({"role": self.value.get("role"), "content": self.value.get(_TEXT)}, self.where)

    def replies(self) -> list[_Node]:
        """The replies, best rank first and unranked ones behind; without those that were deleted."""
        given = self.value.get("replies") or []
        if not isinstance(given, list):
            raise RowProblem(f"`{self.where}.replies` is {kind(given)}, not a list")
        nodes = [_node(reply, f"{self.where}.replies[{i}]") for i, reply in enumerate(given)]
        return sorted((node for node in nodes if not node.value.get("deleted")), key=_rank)


_Path = list[tuple[_Node, Message]]


def is_tree(row: Row) -> bool:
    """Whether the row has a prompt with replies to it."""
    root = row.get(_ROOT)
    return isinstance(root, dict) and "replies" in root


def best_path(row: Row) -> Iterator[Parts]:
    """One conversation: from the root the best-ranked reply, again and again, to the last one of an assistant.

    Where several people went on, which is not ranked, the first of them who got an answer is followed.
    """
    node = _root(row)
    path = [(node, node.turn)]
    while replies := node.replies():
        node = next((reply for reply in replies if _is_assistant(reply.turn) or reply.replies()), replies[0])
        path.append((node, node.turn))
    while path and not _is_assistant(path[-1][1]):
        path.pop()
    if not path:
        raise RowProblem(_NO_ANSWER)
    yield _parts(row, path)


def all_paths(row: Row) -> Iterator[Parts]:
    """A conversation for every assistant's turn that no other one follows. They share their beginnings."""
    root = _root(row)
    path = None
    for path in _paths([(root, root.turn)]):
        yield _parts(row, path)
    if path is None:
        raise RowProblem(_NO_ANSWER)


def _root(row: Row) -> _Node:
    if _ROOT not in row:
        raise RowProblem(f"no column `{_ROOT}`; this row has {columns(row)}")
    return _node(row[_ROOT], _ROOT)


def _node(value: object, where: str) -> _Node:
    if not isinstance(value, dict):
        raise RowProblem(f"`{where}` is {kind(value)}, not a message with replies")
    return _Node(value, where)


def _rank(node: _Node) -> tuple[bool, float]:
    rank = node.value.get("rank")
    if isinstance(rank, (int, float)) and not isinstance(rank, bool):
        return False, rank
    return True, 0


def _is_assistant(turn: Message) -> bool:
    return bool(turn["role"] == "assistant")


def _paths(path: _Path) -> Iterator[_Path]:
    answered = False
    for reply in path[-1][0].replies():
        for longer in _paths([*path, (reply, reply.turn)]):
            answered = True
            yield longer
    if not answered and _is_assistant(path[-1][1]):
        yield path


def _parts(row: Row, path: _Path) -> Parts:
    rest = [{name: part for name, part in node.value.items() if name not in _TURN_FIELDS} for node, _ in path]
    extra: dict[str, Any] = {"path": rest} if any(rest) else {}
    return with_columns([turn for _, turn in path], row, (_ROOT,), extra=extra)
