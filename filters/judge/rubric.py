"""Rubrics: files that say what a judge is to look at, on which scale, and what each number means.

name: helpfulness
about: one line for people
shows: both                       # prompt, response, or both
lowest: 1
highest: 5
explain: true                     # a sentence of reason before the rating
instructions: |
  What to look at.
levels: {1: what one means, 5: what five means}
"""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from trainer.conversation import Side, canonical_json
from trainer.errors import BadInput, UsageProblem

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class Rubric(BaseModel):
    """What to judge a row by. `name` makes the score's name; `about` is for people and changes no score."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    about: str = ""
    shows: Side = "both"
    lowest: int = Field(default=1, ge=0)
    highest: int = Field(default=5, le=100)
    explain: bool = False
    instructions: str = Field(min_length=1)
    levels: dict[int, str] = {}

    @field_validator("instructions")
    @classmethod
    def _stripped(cls, text: str) -> str:
        return text.strip()

    @model_validator(mode="after")
    def _scale(self) -> Rubric:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest ({self.lowest}) must be below highest ({self.highest})")
        if strange := [level for level in self.levels if not self.lowest <= level <= self.highest]:
            raise ValueError(f"levels has {strange[0]}, which is not between lowest and highest")
        return self

    @property
    def scale(self) -> range:
        """The ratings that there are."""
        return range(self.lowest, self.highest + 1)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that a judge is told."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json", exclude={"about"})).encode()).hexdigest()


def shipped_rubrics() -> dict[str, Path]:
    """The rubrics that ship with the product, by name."""
    root = Path(__file__).parents[2]
    installed = root / "workbench/_data/rubrics"  # where the wheel has them; see pyproject.toml
    folder = installed if installed.is_dir() else root / "datasets/rubrics"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_rubric(name: str) -> Rubric:
    """The rubric that ships under `name`, or that of the file `name`.

    Raises UsageProblem where there is none, BadInput where the file is no rubric.
    """
    shipped = shipped_rubrics()
    path = shipped.get(name) or Path(name).expanduser()
    try:
        data: Any = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        near = difflib.get_close_matches(name, shipped, n=1)
        do = f"Did you mean {near[0]!r}?" if near else f"Give a path, or one of: {', '.join(shipped)}."
        raise UsageProblem("there is no such rubric", where=name, do=do) from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        first = str(error).splitlines()[0]
        raise BadInput(f"the rubric cannot be read ({first})", where=str(path), do="Write it as plain YAML.") from None
    if not isinstance(data, dict):
        raise BadInput("a rubric is names with values", where=str(path), do="Copy a shipped one and change it.")
    try:
        return Rubric.model_validate(data)
    except ValidationError as error:
        first_error = error.errors()[0]
        spot = ".".join(str(part) for part in first_error["loc"])
        said = first_error["msg"].removeprefix("Value error, ")
        raise BadInput(f"{spot}: {said}" if spot else said, where=str(path), do="Correct the rubric.") from None
