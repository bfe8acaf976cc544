"""Consent to what costs money: told on stderr, and asked for on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from workbench.cli import common

if TYPE_CHECKING:
    from workbench.consent import Agrees, Calls

T = TypeVar("T")


def with_consent(work: Callable[[Agrees], T], *, yes: bool, may_ask: bool) -> T:
    """Do `work`, which asks before an endpoint is: agreed to by `yes`, by a budget of the step, or on the terminal.

    It is done again once somebody agreed there, so it must go on where it was. Raises ConsentNeeded where nobody does.
    """
    from workbench.consent import ConsentNeeded

    agreed: set[str] = set()

    def agrees(calls: Calls) -> bool:
        if calls.fingerprint in agreed:  # and was told
            return True
        if yes or calls.budgeted:
            common.note(_told(calls))
        return yes or calls.budgeted

    while True:
        try:
            return work(agrees)
        except ConsentNeeded as needed:
            if not (may_ask and sys.stdin.isatty()):
                raise
            common.note(_told(needed.calls))
            click.confirm("Go on?", abort=True, err=True)
            agreed.add(needed.calls.fingerprint)


def _told(calls: Calls) -> str:
    return f"{calls.scorer} by {calls.model} at {calls.base_url}: {calls}"
