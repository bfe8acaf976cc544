"""What a run of an experiment saved, and how the base was held for it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from trainer.adapters import is_saved, is_whole_model
from trainer.plan import ModelChoice
from workbench.errors import UsageProblem


def saved_folder(home: Path, run: str, *, adapter: str = "") -> Path:
    """The folder with what a run of the experiment in `home` trained.

    `adapter` says, where a whole model will not do, what is done with adapters alone. Raises UsageProblem.
    """
    folder = home / "results" / run / "adapter"
    if not is_saved(folder):
        raise UsageProblem(
            f"what was trained by {run} is no longer there",
            where=str(folder),
            do="Bring the folder back from a copy, or compare again.",
        )
    if adapter and is_whole_model(folder):
        raise UsageProblem(
            f"{run} trained all weights and has no adapter, and {adapter}",
            where=str(folder),
            do="Its folder is a model of its own, to be loaded without PEFT. Take a run that trained an adapter.",
        )
    return folder


def choice_of(home: Path, run: str) -> ModelChoice:
    """How the base was held for a run: in a sweep that may differ between arms."""
    choice = ModelChoice.model_validate_json((home / "model.json").read_bytes())
    summary = json.loads((home / "results" / run / "summary.json").read_text(encoding="utf-8"))
    return ModelChoice.model_validate(
        choice.model_dump() | {key: summary[key] for key in ("dtype", "held") if key in summary}
    )


def one_choice(home: Path, runs: Iterable[str]) -> ModelChoice:
    """How the base was held for several runs, which one base is to wear. Raises UsageProblem where it differs."""
    by_held = {choice.held: choice for choice in (choice_of(home, run) for run in runs)}
    if len(by_held) > 1:
        raise UsageProblem(
            f"these runs were trained on a base that was held in different ways ({', '.join(sorted(by_held))})",
            where=str(home),
            do="Take runs of one kind: those on a base in 4 bits, or the others.",
        )
    return next(iter(by_held.values()))
