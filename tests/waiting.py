"""Waiting for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], told: Callable[[], object] = str, seconds: float = 90) -> T:
    """The first thing that `look` finds; fails with what is `told` where it finds nothing in time.

    The time is long, for busy machines. `make test` knows the failure by its words, and runs the test once more.
    """
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"what was waited for never came. {told()}"
        time.sleep(0.01)
    return found
