"""What can go wrong, as one tree. The command line turns each into its exit code; there is no other table.

    Problem                      1  our bug, unless a kind below says better
    ├── UsageProblem             2  the command was called wrongly
    ├── BadInput                 3  input data or a recipe is wrong
    ├── ModelUnavailable         5  a model or judge could not be had
    └── Stopped                  6  the user stopped it; calling again resumes

`filters.errors` and `workbench.errors` add their own kinds to the same tree.
"""

from __future__ import annotations

from typing import ClassVar


class Problem(Exception):
    """An error made for a person: what is wrong, where, and what to do about it.

    `where` names the file, row, step or model; `do` is a full sentence. Both may be empty.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.do = do

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        if not head.endswith((".", "?", "!")):
            head += "."
        return f"{head} {self.do}".rstrip()


class UsageProblem(Problem):
    """The command or function was called in a way that cannot mean anything."""

    exit_code = 2


class BadInput(Problem):
    """Data or a recipe that cannot be used as it is."""

    exit_code = 3


class ModelUnavailable(Problem):
    """A model, tokenizer or judge that is not there, cannot be reached or is not what its name says."""

    exit_code = 5


class Stopped(Problem):
    """The user stopped the work; the same command resumes it."""

    exit_code = 6
