"""`workbench.toml`: the few settings that belong to a workspace."""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from workbench.errors import BadInput

FILE = "workbench.toml"

TEMPLATE = """\
# Settings of this workspace. Options on the command line win over them.

# The model for `train` and `compare`: a hub name or a folder.
# model = "HuggingFaceTB/SmolLM2-135M-Instruct"

# Who judges where neither the command nor the recipe says it: an OpenAI-compatible endpoint and the name of a model
# there. The key stays in the environment, as OPENAI_API_KEY; never write one into a file.
# judge_base_url = "http://localhost:8000/v1"
# judge_model = "name-of-the-model"

# Where else a key may go when a recipe names the address, and the variable that holds it.
# judge_hosts = "https://api.openai.com, http://localhost:8000"
# judge_key_variable = "OPENAI_API_KEY"
"""


@dataclass(frozen=True)
class Config:
    """The settings; None where the file is silent."""

    model: str | None = None
    judge_base_url: str | None = None
    judge_model: str | None = None
    judge_hosts: str | None = None
    judge_key_variable: str | None = None

    def step_defaults(self) -> dict[str, dict[str, object]]:
        """Parameters for steps that give none of them (`filters.recipe`): who judges.

        WORKBENCH_JUDGE_URL and WORKBENCH_JUDGE_MODEL in the environment win over the file.
        """
        base_url = os.environ.get("WORKBENCH_JUDGE_URL") or self.judge_base_url
        model = os.environ.get("WORKBENCH_JUDGE_MODEL") or self.judge_model
        if base_url:
            named: dict[str, object] = {"model": model} if model else {}
            return {"judge": {"backend": "endpoint", "base_url": base_url, **named}}
        return {"judge": {"backend": "local", "model": model}} if model else {}

    def judge_addresses(self) -> list[str]:
        """The addresses that a judge's key may go to: who judges by default, and `judge_hosts`.

        WORKBENCH_JUDGE_URL and WORKBENCH_JUDGE_HOSTS in the environment come on top.
        """
        listed = f"{self.judge_hosts or ''},{os.environ.get('WORKBENCH_JUDGE_HOSTS', '')}".split(",")
        named = [self.judge_base_url, os.environ.get("WORKBENCH_JUDGE_URL"), *map(str.strip, listed)]
        return [address for address in named if address]

    def judge_key(self) -> str | None:
        """The variable that holds the judge's key; WORKBENCH_JUDGE_KEY_VARIABLE in the environment wins."""
        return os.environ.get("WORKBENCH_JUDGE_KEY_VARIABLE") or self.judge_key_variable


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
