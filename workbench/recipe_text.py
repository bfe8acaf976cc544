"""The text of a recipe, edited step by step: everything that an edit does not touch stays as it was written.

A step owns its own lines and the comments above them, and takes them along when it is moved. Comments that stand
deeper than the dashes belong to the step above. Within a step that is edited, ruamel.yaml keeps them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from workbench.errors import UsageProblem

EMPTY = "steps:\n"
_DASH = 2  # the column of the dashes where there is no step to go by
_NAME = re.compile(r"-(\s+)([^\s:#]+):?")


@dataclass(frozen=True)
class Block:
    """One step: the blank lines and comments above it, and its own lines."""

    lead: str
    own: str


@dataclass(frozen=True)
class RecipeText:
    """A recipe in pieces: what stands above the steps, the steps, what stands below; dashes stand in `column`."""

    head: str
    blocks: tuple[Block, ...]
    tail: str
    column: int = _DASH

    def __str__(self) -> str:
        return self.head + "".join(block.lead + block.own for block in self.blocks) + self.tail

    def with_step(self, position: int, name: str, params: Mapping[str, Any]) -> RecipeText:
        """With another step at `position`."""
        own = _write(CommentedSeq([CommentedMap({name: _flow(params)}) if params else name]), self.column)
        return self._with(*self.blocks[:position], Block("", own), *self.blocks[position:])

    def without_step(self, position: int) -> RecipeText:
        """Without the step at `position` and the comments above it."""
        return self._with(*self.blocks[:position], *self.blocks[position + 1 :])

    def with_move(self, position: int, to: int) -> RecipeText:
        """With the step at `position` at `to`, and its comments with it."""
        blocks = list(self.blocks)
        blocks.insert(to, blocks.pop(position))
        return self._with(*blocks)

    def given(self, position: int) -> CommentedMap:
        """The parameters that a step is given, by name; what is not there has its default."""
        (entry,) = self._read(position)
        if isinstance(entry, Mapping):
            (params,) = entry.values()
            return params if params is not None else CommentedMap()
        return CommentedMap()

    def with_params(self, position: int, params: Mapping[str, Any]) -> RecipeText:
        """With these parameters for the step, and no others; those that stay are not touched."""
        steps = self._read(position)
        (entry,) = steps
        own = self.blocks[position].own
        there = next(iter(entry.values())) if isinstance(entry, Mapping) else None
        if isinstance(entry, Mapping) and there is not None:
            gone = [name for name in there if name not in params]
            if gone and not there.fa.flow_style():  # ruamel would take the comments below a line away with it
                own = _without_lines(own, gone)
                return self._with(
                    *self.blocks[:position], replace(self.blocks[position], own=own), *self.blocks[position + 1 :]
                ).with_params(position, params)
            for name in gone:
                del there[name]
            for name, value in params.items():
                if name not in there or there[name] != value or type(there[name]) is not type(value):
                    there[name] = value
            own = _write(steps, self.column)
        elif params:  # the name alone: what stands behind it stays there
            inside = _line(_flow(params))
            own = _NAME.sub(lambda found: f"-{found[1]}{found[2]}: {inside}", own, count=1)
        blocks = list(self.blocks)
        blocks[position] = Block(blocks[position].lead, own)
        return self._with(*blocks)

    def _with(self, *blocks: Block) -> RecipeText:
        return replace(self, blocks=blocks)

    def _read(self, position: int) -> Any:
        own = self.blocks[position].own
        dedented = "".join(line[min(self.column, _indent(line)) :] for line in own.splitlines(keepends=True))
        try:
            return _yaml().load(dedented)
        except YAMLError:
            raise UsageProblem(
                "this step needs another part of the file, such as an anchor",
                where=f"step {position + 1}",
                do="Change it in an editor.",
            ) from None


def split(text: str) -> RecipeText:
    """The pieces of a recipe that can be read; one without any step is fine, too."""
    text = text if text.endswith("\n") or not text else text + "\n"
    root = YAML(typ="safe", pure=True).compose(text)
    if not isinstance(root, MappingNode):  # nothing but comments
        return RecipeText(text + EMPTY, (), "")
    ((key, steps),) = root.value
    lines = text.splitlines(keepends=True)
    if root.flow_style or not isinstance(steps, SequenceNode) or steps.flow_style or not steps.value:
        return _flow_steps(lines, root, key, steps)
    column = int(steps.start_mark.column)
    starts = [_dash_line(lines, entry, column) for entry in steps.value]
    head = "".join(lines[: key.start_mark.line + 1])
    lead = "".join(lines[key.start_mark.line + 1 : starts[0]])
    blocks = []
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        end = stop
        while end > start + 1 and _is_between(lines[end - 1], column):
            end -= 1
        blocks.append(Block(lead, "".join(lines[start:end])))
        lead = "".join(lines[end:stop])
    return RecipeText(head, tuple(blocks), lead, column)


def read_params(text: str) -> CommentedMap:
    """Parameters as a person types them, `max_words: 400, on: response`. Raises UsageProblem where they are not."""
    try:
        (params,) = _yaml().load(f"- {{{text}}}\n")
    except MarkedYAMLError as error:
        raise UsageProblem(f"this cannot be read: {error.problem or error.context}", do=_LIKE_THIS) from None
    except (YAMLError, ValueError):
        raise UsageProblem("this cannot be read", do=_LIKE_THIS) from None
    if not isinstance(params, CommentedMap) or (text.strip() and ":" not in text):
        raise UsageProblem("these are not names with values", do=_LIKE_THIS)
    return params


def written(params: Mapping[str, Any]) -> str:
    """Parameters as a person types them."""
    return _line(_flow(params))[1:-1]


_LIKE_THIS = "Write parameters like this: `max_words: 400, on: response`."


def _flow_steps(lines: list[str], root: MappingNode, key: Node, steps: Node) -> RecipeText:
    """Steps in brackets are written a line each; `steps:` without any is left as it stands."""
    start, stop = root.start_mark.line, key.start_mark.line
    if not isinstance(steps, ScalarNode):
        stop = min(root.end_mark.line if root.flow_style else steps.end_mark.line, len(lines) - 1)
    remark = re.search(r"\s#.*", lines[stop])
    head = "".join(lines[:start]) + "steps:" + (remark[0] if remark else "") + "\n"
    entries = _yaml().load("".join(lines))["steps"] or ()
    blocks = tuple(Block("", _write(CommentedSeq([entry]), _DASH)) for entry in entries)
    return RecipeText(head, blocks, "".join(lines[stop + 1 :]))


def _without_lines(own: str, names: Sequence[str]) -> str:
    """A step without the lines of some of its parameters, which stand below each other."""
    (((_, params),),) = [entry.value for entry in YAML(typ="safe", pure=True).compose(own).value]
    lines = own.splitlines(keepends=True)
    for key, value in params.value:
        if key.value in names:
            for number in range(key.start_mark.line, _last_line(value) + 1):
                lines[number] = ""
    if all(key.value in names for key, _ in params.value):  # the name stands alone now, without its colon
        lines[0] = _NAME.sub(r"-\1\2", lines[0], count=1)
    return "".join(lines)


def _last_line(node: Node) -> int:
    if isinstance(node, (MappingNode, SequenceNode)) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    end = node.end_mark
    return int(end.line if end.column or end.line == node.start_mark.line else end.line - 1)


def _dash_line(lines: list[str], entry: Node, column: int) -> int:
    line = int(entry.start_mark.line)
    while lines[line][column : column + 1] != "-":
        line -= 1
    return line


def _is_between(line: str, column: int) -> bool:
    """Whether a line behind a step is none of its own: blank, a comment no deeper than the dashes, or the end mark."""
    said = line.strip()
    return not said or said == "..." or (said.startswith("#") and _indent(line) <= column)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _flow(params: Mapping[str, Any]) -> CommentedMap:
    inside = CommentedMap(params)
    inside.fa.set_flow_style()
    return inside


def _line(params: CommentedMap) -> str:
    return _write(CommentedSeq([params]), 0)[2:].rstrip("\n")


def _write(steps: Any, column: int) -> str:
    out = io.StringIO()
    _yaml().dump(steps, out)
    return "".join(" " * column * bool(line.strip()) + line for line in out.getvalue().splitlines(keepends=True))


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 1_000_000  # a step that stood on one line stays there
    yaml.preserve_quotes = True
    return yaml
