"""`python -m filters FOLDER`: compute the embeddings that a run folder asks for."""

from __future__ import annotations

import sys
from pathlib import Path

from filters.job import embed_folder
from trainer.protocol import run_as_job


def main() -> int:
    """Run the job in the folder named on the command line and return its exit code."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m filters FOLDER\n")
        return 2
    return run_as_job(Path(sys.argv[1]), embed_folder)


if __name__ == "__main__":
    sys.exit(main())
