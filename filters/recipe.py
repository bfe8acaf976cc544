"""A recipe: a YAML file whose `steps:` make one version out of rows. Every error in it is found before anything runs.

steps:
  - exact                                  # a step without parameters may stand alone
  - length: {on: response, max_words: 400}
  - random-k: {k: 1000, seed: 0}
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from filters.errors import RecipeProblem
from filters.registry import find_step, step_names
from filters.step import Step
from trainer.conversation import canonical_json
from trainer.errors import BadInput

TOP_LEVEL = ("steps",)
HOW_A_STEP_LOOKS = "A step is one name, or one name with its parameters: `- length: {max_words: 400}`."


@dataclass(frozen=True)
class Recipe:
    """Steps in order, ready to run. `text` is the file as it was written, comments and all."""

    name: str
    steps: tuple[Step[Any], ...]
    text: str = ""

    @property
    def recipe_hash(self) -> str:
        """SHA-256 (hex) of what the recipe does: steps, their versions and all parameters, defaults written out.

        Comments, spelling of YAML and the file's name do not count.
        """
        meaning = [{"step": step.name, "version": step.version, "params": step.settings()} for step in self.steps]
        return hashlib.sha256(canonical_json(meaning).encode()).hexdigest()


Defaults = Mapping[str, Mapping[str, object]]
"""By step, parameters for a step that gives none of them itself: who judges, for one."""


def load_recipe(path: Path | str, defaults: Defaults | None = None) -> Recipe:
    """Read and check the recipe at `path`. Raises `RecipeProblem` naming every error as `file:line`."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeProblem("there is no such recipe", where=str(path), do="Check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeProblem(f"the recipe cannot be read ({error})", where=str(path)) from None
    return parse_recipe(text, name=str(path), defaults=defaults)


def parse_recipe(text: str, name: str = "recipe", defaults: Defaults | None = None) -> Recipe:
    """Check recipe `text`; `name` stands for the file in errors. Raises `RecipeProblem` as `load_recipe` does."""
    reader = _Reader(name, defaults or {})
    steps = reader.steps(text)
    if reader.problems:
        raise _together(reader.problems, name)
    return Recipe(name=Path(name).stem, steps=tuple(steps), text=text)


class _Reader:
    """Walks the YAML nodes, which know their lines, and collects what is wrong."""

    def __init__(self, name: str, defaults: Defaults) -> None:
        self.name = name
        self.defaults = defaults
        self.problems: list[RecipeProblem] = []
        self._yaml = YAML(typ="safe", pure=True)

    def steps(self, text: str) -> list[Step[Any]]:
        try:
            root = self._yaml.compose(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark is not None else 1
            self._problem(
                line, f"this is not YAML: {error.problem or error.context}", "Check the indentation and brackets."
            )
            return []
        except YAMLError as error:
            self._problem(1, f"this is not YAML: {error}", "Save the recipe as plain UTF-8 text.")
            return []
        if root is None:
            self._problem(1, "the recipe is empty", "Write `steps:` and below it the steps, one a line with a dash.")
            return []
        entries = self._mapping(root)
        if entries is None:
            self._problem(_line(root), "a recipe starts with `steps:`", "Put the list of steps below that word.")
            return []
        for key, (key_node, _) in entries.items():
            if key not in TOP_LEVEL:
                self._problem(_line(key_node), f"unknown key {key!r} in a recipe", _near_miss(key, TOP_LEVEL))
        if "steps" not in entries:
            if not any(_near_miss(key, TOP_LEVEL, only_close=True) for key in entries):
                self._problem(_line(root), "the recipe has no `steps:`", "Put the list of steps below that word.")
            return []
        key_node, value_node = entries["steps"]
        return self._step_list(value_node, _line(key_node))

    def _step_list(self, node: Node, line: int) -> list[Step[Any]]:
        if not isinstance(node, SequenceNode):
            self._problem(line, "`steps` must be a list", "Start each step with a dash.")
            return []
        if not node.value:
            self._problem(line, "the recipe has no steps", "Add at least one, for instance `- exact`.")
        found = [self._step(entry) for entry in node.value]
        return [step for step in found if step is not None]

    def _step(self, node: Node) -> Step[Any] | None:
        if isinstance(node, ScalarNode):
            return self._build(str(node.value), node, {})
        entries = self._mapping(node)
        if entries is None or len(entries) != 1:
            names = "" if not entries else " (found " + ", ".join(map(repr, entries)) + ")"
            self._problem(_line(node), f"this is not one step{names}", HOW_A_STEP_LOOKS)
            return None
        name, (key_node, value_node) = next(iter(entries.items()))
        if isinstance(value_node, ScalarNode) and str(value_node.tag).endswith(":null"):
            return self._build(name, key_node, {})
        params = self._mapping(value_node)
        if params is None:
            self._problem(_line(value_node), f"the parameters of {name!r} must be names with values", HOW_A_STEP_LOOKS)
            return None
        return self._build(name, key_node, params)

    def _build(self, name: str, name_node: Node, params: Mapping[str, tuple[Node, Node]]) -> Step[Any] | None:
        try:
            step_class = find_step(name)
        except BadInput as problem:
            self._problem(_line(name_node), problem.what, problem.do)
            return None
        if step_class is None:
            self._problem(_line(name_node), f"unknown step {name!r}", _near_miss(name, step_names()))
            return None
        try:
            values = {
                key: self._yaml.constructor.construct_object(node, deep=True) for key, (_, node) in params.items()
            }
        except YAMLError as error:
            self._problem(
                _line(name_node), f"a parameter of {name!r} cannot be read: {error}", "Write it as plain YAML."
            )
            return None
        model = step_class.params_model
        default = self.defaults.get(name, {})
        if not values.keys() & default.keys():
            values |= default
        try:
            return step_class(model(**values))
        except ValidationError as error:
            for detail in error.errors():
                parameter = str(detail["loc"][0]) if detail["loc"] else ""
                line = _line(params[parameter][0]) if parameter in params else _line(name_node)
                what, do = _explain(name, parameter, detail, model.model_fields)
                self._problem(line, what, do)
            return None

    def _mapping(self, node: Node) -> dict[str, tuple[Node, Node]] | None:
        """Key -> (key node, value node); a key that comes twice is a problem. None if `node` is no mapping."""
        if not isinstance(node, MappingNode):
            return None
        entries: dict[str, tuple[Node, Node]] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in entries:
                first = _line(entries[key][0])
                self._problem(
                    _line(key_node), f"{key!r} stands here twice (first in line {first})", "Keep one of them."
                )
            else:
                entries[key] = (key_node, value_node)
        return entries

    def _problem(self, line: int, what: str, do: str) -> None:
        self.problems.append(RecipeProblem(what, where=f"{self.name}:{line}", do=do))


def _explain(step: str, parameter: str, detail: ErrorDetails, known: Iterable[str]) -> tuple[str, str]:
    """What is wrong with one parameter, and what to do, out of pydantic's error."""
    if detail["type"] == "extra_forbidden":
        return f"{step!r} has no parameter {parameter!r}", _near_miss(parameter, known)
    if detail["type"] == "missing":
        return f"{step!r} needs {parameter!r}", f"Add it: `- {step}: {{{parameter}: ...}}`."
    message = detail["msg"].removeprefix("Value error, ")
    if not parameter:
        return f"{step!r}: {message}", ""
    message = message.replace("Input should be", "must be")
    return f"{step}: {parameter} {message}, not {detail['input']!r}", ""


def _near_miss(name: str, known: Iterable[str], *, only_close: bool = False) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(
        name.lower().replace("_", "-"), [n.replace("_", "-") for n in names], n=1, cutoff=0.6
    )
    if close:
        meant = next(n for n in names if n.replace("_", "-") == close[0])
        return f"Did you mean {meant!r}?"
    return "" if only_close else "Known are: " + ", ".join(names) + "."


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _together(problems: list[RecipeProblem], name: str) -> RecipeProblem:
    problems = sorted(problems, key=lambda problem: int(problem.where.rpartition(":")[2]))
    if len(problems) == 1:
        return problems[0]
    lines = "".join(f"\n  {problem}" for problem in problems)
    return RecipeProblem(f"the recipe has {len(problems)} errors:{lines}", where=name)
