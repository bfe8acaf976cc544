"""What can go wrong at the bench. The tree starts in `trainer.errors`; here are the workspace's own kinds.

Problem
├── WorkspaceUnusable        4  locked by another process, written by a newer release, or not writable
└── NotFound                 2  no source, version, eval set or experiment of that name
"""

from __future__ import annotations

from trainer.errors import BadInput, ModelUnavailable, Problem, Stopped, UsageProblem

__all__ = ["BadInput", "ModelUnavailable", "NotFound", "Problem", "Stopped", "UsageProblem", "WorkspaceUnusable"]


class WorkspaceUnusable(Problem):
    """The workspace exists but cannot be worked in now."""

    exit_code = 4


class NotFound(UsageProblem):
    """A name that nothing in the workspace has."""
