"""`python -m trainer DIR`: run the job of a run folder. See `trainer.protocol`."""

from __future__ import annotations

import sys
from pathlib import Path

from trainer.models import quiet_libraries
from trainer.protocol import Events, run_as_job


def _work(folder: Path, events: Events) -> None:
    # Imported here: whatever fails in loading the libraries is reported like any other error of the job.
    from trainer.experiment import run_experiment

    run_experiment(folder, events)


def main() -> None:
    """Entry point; exits with the job's exit code."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m trainer RUN_FOLDER\n")
        sys.exit(2)
    quiet_libraries()
    sys.exit(run_as_job(Path(sys.argv[1]), _work))


if __name__ == "__main__":
    main()
