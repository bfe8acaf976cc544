"""`python -m trainer DIR`: run the job of a run folder. See `trainer.protocol`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from trainer import processes
from trainer.devices import parse_devices, write_devices
from trainer.errors import Problem
from trainer.models import quiet_libraries
from trainer.protocol import Events, read_plan, run_as_job


class _Plan(BaseModel):
    kind: Literal["experiment", "answers", "token-loss", "merge", "gradients", "lm-eval"] = "experiment"


def _work(folder: Path, events: Events) -> None:
    # Imported here: whatever fails in loading the libraries is reported like any other error of the job.
    kind = read_plan(folder, _Plan).kind
    if kind != "experiment" and not processes.is_first():
        return  # of the jobs, only experiments are made by several processes
    match kind:
        case "experiment":
            from trainer.experiment import run_experiment

            run_experiment(folder, events)
        case "answers":
            from trainer.answers import answer_prompts

            answer_prompts(folder, events)
        case "token-loss":
            from trainer.token_loss import measure_folder

            measure_folder(folder, events)
        case "merge":
            from trainer.merging import merge_folder

            merge_folder(folder, events)
        case "gradients":
            from trainer.gradients import measure_gradients

            measure_gradients(folder, events)
        case "lm-eval":
            from trainer.lm_tasks import score_tasks

            score_tasks(folder, events)


def main() -> None:
    """Entry point; exits with the job's exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description="Run or resume the job of a run folder.")
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--devices", metavar="LIST", help="GPUs to make the runs on side by side, as in 0,1; or auto.")
    arguments = parser.parse_args()
    quiet_libraries()
    if arguments.devices and arguments.folder.is_dir():
        try:
            write_devices(arguments.folder, parse_devices(arguments.devices))
        except Problem as problem:
            sys.stderr.write(f"{problem}\n")
            sys.exit(problem.exit_code)
    sys.exit(run_as_job(arguments.folder, _work))


if __name__ == "__main__":
    main()
