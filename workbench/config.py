"""`workbench.toml`: the few settings that belong to a workspace."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from workbench.errors import BadInput

FILE = "workbench.toml"

TEMPLATE = """\
# Settings of this workspace. Options on the command line win over them.

# The model for `train` and `compare`: a hub name or a folder.
# model = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""


@dataclass(frozen=True)
class Config:
    """The settings; None where the file is silent."""

    model: str | None = None


def read_config(root: Path) -> Config:
    """The settings of the workspace at `root`; defaults where it has no file. Raises BadInput for what is unknown."""
    path = root / FILE
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"this is not TOML: {error}", where=str(path), do="Correct it, or delete the file.") from None
    known = [field.name for field in fields(Config)]
    for name, value in settings.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            do = f"Did you mean {near[0]!r}?" if near else f"Known is: {', '.join(known)}."
            raise BadInput(f"unknown setting {name!r}", where=str(path), do=do)
        if not isinstance(value, str):
            raise BadInput(f"{name} must be a text, not {value!r}", where=str(path), do=f'Write {name} = "..." there.')
    return Config(**settings)
