"""A recipe that is being written: its steps and their parameters, changed one by one, undone, and saved as YAML.

It can be run at any time: a change that would break it is refused with the sentence that a run would stop with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from filters.errors import RecipeProblem
from filters.recipe import Defaults, Recipe, load_recipe, parse_recipe
from filters.registry import STEPS
from filters.step import Step
from workbench.errors import BadInput, Problem, UsageProblem
from workbench.formats.whole import whole_file
from workbench.recipe_text import EMPTY, RecipeText, read_params, split, written

NEW = "new"
"""What a recipe is called that has no file yet."""


@dataclass(frozen=True)
class Param:
    """A parameter of a step as it is now. `choices` are the only values it can have, where these are few.

    `given` says whether the recipe names it; else `value` is its default. Values are written as in YAML.
    """

    name: str
    value: str
    default: str
    given: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class _State:
    text: RecipeText
    recipe: Recipe
    told: str


class RecipeDraft:
    """A recipe in the making, and everything it was before. Not for several threads at once."""

    def __init__(self, name: str, path: Path | None, text: str, defaults: Defaults) -> None:
        """`path` is the file that `save` writes; None where there is none yet. Raises as `parse_recipe` does."""
        self.name = name
        self.path = path
        self._defaults = defaults
        self._on_disk = text
        pieces = split(text)
        self._states = [_State(pieces, self._parsed(pieces), "")]
        self._now = 0
        self._saved = str(pieces)

    @classmethod
    def empty(cls, defaults: Defaults) -> RecipeDraft:
        """One without steps."""
        return cls(NEW, None, EMPTY, defaults)

    @classmethod
    def open(cls, path: Path, defaults: Defaults, *, shipped: bool = False) -> RecipeDraft:
        """The recipe of a file; one that ships with the product is saved elsewhere. Raises as `load_recipe` does."""
        recipe = load_recipe(path, defaults)
        return cls(path.stem, None if shipped else path, recipe.text, defaults)

    @property
    def recipe(self) -> Recipe:
        """The recipe as it is now."""
        return self._states[self._now].recipe

    @property
    def steps(self) -> tuple[Step[Any], ...]:
        """Its steps in order."""
        return self.recipe.steps

    @property
    def text(self) -> str:
        """The YAML."""
        return str(self._states[self._now].text)

    @property
    def unsaved(self) -> bool:
        """Whether it is another one than on disk."""
        return self.text != self._saved

    def params(self, position: int) -> list[Param]:
        """All parameters of a step, those with their default among them."""
        step = self.steps[position]
        given = self._pieces.given(position)
        values = step.params.model_dump(mode="json")
        found = []
        for name, field in step.params_model.model_fields.items():
            default = "needed" if field.is_required() else as_yaml(field.get_default(call_default_factory=True))
            found.append(Param(name, as_yaml(values[name]), default, name in given, _choices(field.annotation)))
        return found

    def given(self, position: int) -> str:
        """The parameters that the recipe names, as a person types them."""
        return written(self._pieces.given(position))

    # Changes. Each raises a Problem, and changes nothing, where the recipe could not be run any more.

    def add(self, name: str, position: int, params: str = "") -> None:
        """Put a step at `position`; `params` as a person types them: `max_words: 400`."""
        self._become(self._pieces.with_step(position, name, read_params(params)), f"adding {name}")

    def remove(self, position: int) -> None:
        """Take a step away, with the comments above it."""
        self._become(self._pieces.without_step(position), f"removing {self.steps[position].name}")

    def move(self, position: int, to: int) -> None:
        """Put a step elsewhere, with the comments above it."""
        self._become(self._pieces.with_move(position, to), f"moving {self.steps[position].name}")

    def set_params(self, position: int, params: str) -> None:
        """Give a step these parameters and no others, as a person types them."""
        self._give(position, read_params(params), f"changing {self.steps[position].name}")

    def set_param(self, position: int, name: str, value: str) -> None:
        """Set one parameter to a value, as a person types it."""
        given = dict(self._pieces.given(position))
        try:
            read: Mapping[str, Any] = read_params(f"value: {value}")
        except UsageProblem:
            read = {}
        given[name] = read["value"] if len(read) == 1 else value  # a text with signs of YAML in it
        self._give(position, given, f"{name} of {self.steps[position].name}")

    def reset_param(self, position: int, name: str) -> None:
        """Let a parameter have its default."""
        given = dict(self._pieces.given(position))
        given.pop(name, None)
        self._give(position, given, f"{name} of {self.steps[position].name}")

    def undo(self) -> str | None:
        """Take the last change back; says which. None where there is none."""
        if not self._now:
            return None
        self._now -= 1
        return self._states[self._now + 1].told

    def redo(self) -> str | None:
        """Do again what was undone; says what. None where nothing was."""
        if self._now + 1 == len(self._states):
            return None
        self._now += 1
        return self._states[self._now].told

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write it to `path`, which is its file from then on.

        Raises UsageProblem without steps, and without `force` where that would overwrite what is not known here.
        """
        if not self.steps:
            raise UsageProblem("a recipe without steps cannot be run", do="Add a step first.")
        if not force and path.exists() and (path != self.path or path.read_text(encoding="utf-8") != self._on_disk):
            what = "changed since it was opened" if path == self.path else "is there already"
            raise Overwrites(f"the file {what}", where=str(path), do="Save it under another name.")
        with whole_file(path) as scratch:
            scratch.write_text(self.text, encoding="utf-8")
        self.name, self.path = path.stem, path
        self._saved = self._on_disk = self.text

    @property
    def _pieces(self) -> RecipeText:
        return self._states[self._now].text

    def _give(self, position: int, params: Mapping[str, Any], told: str) -> None:
        self._become(self._pieces.with_params(position, params), told)

    def _become(self, pieces: RecipeText, told: str) -> None:
        if str(pieces) == self.text:
            return
        self._states[self._now + 1 :] = [_State(pieces, self._parsed(pieces), told)]
        self._now += 1

    def _parsed(self, pieces: RecipeText) -> Recipe:
        if not pieces.blocks:
            return Recipe(self.name, (), str(pieces))
        try:
            return parse_recipe(str(pieces), self.name, self._defaults)
        except RecipeProblem as problem:
            raise RecipeProblem(problem.what, do=problem.do) from None  # lines mean nothing here


class Overwrites(BadInput):
    """A file would be overwritten that holds something else."""


@cache
def step_table() -> tuple[tuple[str, str, str], ...]:
    """Every step there is: name, kind, and in a line what it does."""
    return tuple((name, step.kind, (step.__doc__ or "").strip().partition("\n")[0]) for name, step in STEPS.items())


def needs(name: str) -> str:
    """What must be said before a step can be used, as the sentence of its error; empty where it can stand alone."""
    try:
        parse_recipe(f"steps:\n  - {name}\n")
    except Problem as problem:
        return " ".join(part for part in (problem.what + ".", problem.do) if part)
    return ""


def required(name: str) -> str:
    """The parameters that a step cannot do without, to be filled in: `k: `."""
    fields = STEPS[name].params_model.model_fields
    return ", ".join(f"{name}: " for name, field in fields.items() if field.is_required())


def as_yaml(value: object) -> str:
    """A value as a person writes it."""
    return written({"x": value}).removeprefix("x: ")


def _choices(annotation: Any) -> tuple[str, ...]:
    if annotation is bool:
        return ("false", "true")
    parts = [part for part in get_args(annotation) if part is not type(None)] if annotation else []
    if get_origin(annotation) is Literal:
        return tuple(as_yaml(value) for value in get_args(annotation))
    if len(parts) == 1 and get_origin(parts[0]) is Literal and get_origin(annotation) is not list:
        return ("null", *(as_yaml(value) for value in get_args(parts[0])))
    return ()
