"""Where the data that ships with the product lies: starter set, eval prompts, recipes.

In a source tree it is the folder `datasets/` beside the packages; in an installed wheel the same files lie in
`workbench/_data` (see `force-include` in pyproject.toml).
"""

from __future__ import annotations

from pathlib import Path


def data_dir() -> Path:
    """The folder that holds `starter/`, `eval/` and `recipes/`."""
    installed = Path(__file__).parent / "_data"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "datasets"


def general_text() -> str:
    """The general prose on which forgetting is measured."""
    return (data_dir() / "eval" / "general.txt").read_text(encoding="utf-8")


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the product, usable in place of a path; the one to begin with first."""
    names = sorted(path.stem for path in (data_dir() / "recipes").glob("*.yaml"))
    return sorted(names, key=lambda name: name != "safe-default")
