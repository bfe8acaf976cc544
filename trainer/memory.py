"""Memory that a job asked for and did not get: told as that, and not as a fault of ours."""

from __future__ import annotations

import re

from trainer.errors import Problem

# PyTorch raises a plain RuntimeError on a CPU, and a kind of its own on a GPU.
_IN_TEXT = re.compile(r"(?:not enough|can't allocate) memory: you tried to allocate (\d+) bytes|not enough memory")


def memory_problem(error: BaseException) -> Problem | None:
    """The sentence for an error that a lack of memory caused; None for any other."""
    found = _IN_TEXT.search(str(error)) if isinstance(error, RuntimeError) else None
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if found is None and not kinds & {"MemoryError", "OutOfMemoryError"}:
        return None
    asked = f": {int(found[1]) / 1e9:,.1f} GB more were asked for" if found and found[1] else ""
    return Problem(
        f"there is not enough memory{asked}",
        do="Close other programs, or need less: shorter rows (--max-length), weights in 4 bits (--quantize nf4), "
        "a smaller model. The same command resumes where it was.",
    )
