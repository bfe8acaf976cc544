"""What can go wrong at the bench. The tree starts in `trainer.errors`; here are the workspace's own kinds.

Problem
├── SharedPrompts            3  a version holds prompts of the eval set it would be measured on
├── WorkspaceUnusable        4  locked by another process, written by a newer release, or not writable
├── NotFound                 2  no source, version, eval set or experiment of that name
├── AlreadyOnHub             2  a data set of the hub that a push would replace holds files
└── HubUnavailable           5  the hub cannot be reached, or does not let us in
"""

from __future__ import annotations

from trainer.errors import BadInput, ModelUnavailable, Problem, Stopped, UsageProblem

__all__ = [
    "AlreadyOnHub",
    "BadInput",
    "HubUnavailable",
    "ModelUnavailable",
    "NotFound",
    "Problem",
    "SharedPrompts",
    "Stopped",
    "UsageProblem",
    "WorkspaceUnusable",
]


class SharedPrompts(BadInput):
    """A version has prompts of the eval set that it would be measured on."""


class WorkspaceUnusable(Problem):
    """The workspace exists but cannot be worked in now."""

    exit_code = 4


class NotFound(UsageProblem):
    """A name that nothing in the workspace has."""


class AlreadyOnHub(UsageProblem):
    """A data set of the hub holds files, and nobody said that a push may replace them."""


class HubUnavailable(Problem):
    """The hub does not answer, or refuses to read or write a data set for us."""

    exit_code = 5
