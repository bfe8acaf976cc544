"""`python -m filters FOLDER`: run the job of a run folder. See `trainer.protocol`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from trainer.protocol import Events, read_plan, run_as_job


class _Plan(BaseModel):
    kind: Literal["embed", "likelihood", "judge"]


def _work(folder: Path, events: Events) -> None:
    # Imported here: whatever fails in loading the libraries is reported like any other error of the job.
    match read_plan(folder, _Plan).kind:
        case "embed":
            from filters.job import embed_folder

            embed_folder(folder, events)
        case "likelihood":
            from filters.likelihood import score_likelihood

            score_likelihood(folder, events)
        case "judge":
            from filters.judge.job import judge_folder

            judge_folder(folder, events)


def main() -> int:
    """Run the job in the folder named on the command line and return its exit code."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m filters FOLDER\n")
        return 2
    return run_as_job(Path(sys.argv[1]), _work)


if __name__ == "__main__":
    sys.exit(main())
