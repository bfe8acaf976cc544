"""A prompt that somebody types, answered by an experiment's base model and its trained versions.

One question is one job, in a folder named by all that decides its answers: asked again, they are there at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from trainer.conversation import Message
from trainer.plan import BASE, AnswersPlan, ExperimentPlan
from trainer.protocol import DONE, PLAN, write_atomic
from workbench.errors import UsageProblem
from workbench.jobs import OnEvent, run_job
from workbench.outcomes import compared_sides, finished
from workbench.trained import one_choice, saved_folder
from workbench.workspace import Workspace

FOLDER = "answers"
"""Folder in that of the experiment which holds a folder for every question."""


@dataclass(frozen=True)
class Asked:
    """A question with the folder of its job. `arms` says what each arm was trained on, base first."""

    folder: Path
    arms: dict[str, str]

    @property
    def done(self) -> bool:
        """Whether every arm has answered."""
        return (self.folder / DONE).exists()


@dataclass(frozen=True)
class Given:
    """An answer: `finish` is `stop` where the model ended it, `length` where the limit of new tokens did."""

    text: str
    finish: str
    tokens: int


def prepare_question(ws: Workspace, experiment: str, turns: list[Message], *, seed: int = 0, number: int = 0) -> Asked:
    """Write down what is to be asked of the models of a finished experiment: a conversation that wants an answer.

    Of both arms of the comparison number `number` the run number `seed` answers; both count from 0. Raises NotFound;
    UsageProblem where there is nothing to ask, no result yet, or no adapter any more.
    """
    if not any(str(turn.get("content") or "").strip() for turn in turns):
        raise UsageProblem("there is nothing to answer", do="Type a prompt.")
    row = finished(ws, experiment)
    noted = json.loads(row.plan)
    job = ExperimentPlan.model_validate(noted["job"])
    home = ws.runs_dir / row.id
    adapters: dict[str, str] = {}
    runs_asked: list[str] = []
    sides = compared_sides(ws, row, number)
    for arm, by_seed in sides.runs.items():
        if arm == BASE:
            continue
        runs = list(by_seed.values())
        run = runs[min(seed, len(runs) - 1)].removeprefix(f"{row.id}/")
        saved_folder(home, run)
        runs_asked.append(run)
        adapters[arm] = f"../../results/{run}/adapter"
    plan = AnswersPlan(
        model=job.model,
        chosen=one_choice(home, runs_asked),
        policy=job.policy,
        adapters=adapters,
        prompts=[turns],
        max_new_tokens=job.evaluation.max_new_tokens,
    )
    text = json.dumps(plan.model_dump(), sort_keys=True, ensure_ascii=False)
    try:
        digest = hashlib.sha256(text.encode()).hexdigest()
    except UnicodeEncodeError:
        raise UsageProblem("the prompt holds half of a character, which no model can read") from None
    folder = ws.runs_dir / row.id / FOLDER / digest[:16]
    if not (folder / PLAN).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / PLAN, text)
    return Asked(folder, sides.labels)


def ask(asked: Asked, on_event: OnEvent, wish: Callable[[], Literal["watch", "stop", "leave"]]) -> None:
    """Have the question answered and wait for it; see `workbench.jobs.run_job`. Needs no database."""
    run_job("trainer", asked.folder, on_event, wish=wish)


def answers(asked: Asked) -> dict[str, Given]:
    """The answers that are there so far, by arm."""
    found = {}
    for arm in asked.arms:
        path = asked.folder / "results" / f"{arm}.parquet"
        if path.exists():
            [row] = pq.read_table(path).to_pylist()
            found[arm] = Given(row["text"], row["finish"], row["tokens"])
    return found
