"""Work off the UI thread: a query, a model or a file is only ever waited for here; what comes out is a message."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from textual.dom import DOMNode
from textual.message import Message
from textual.worker import Worker, get_current_worker

from workbench.errors import Stopped
from workbench.tui.messages import Failure

T = TypeVar("T")
Cancelled = Callable[[], bool]
"""Whether the result is no longer wanted. Long work polls it, and may end by raising `Stopped`."""

THREADS = 32
"""How many pieces of work may wait at the same time; watched jobs hold one each."""


def background(
    node: DOMNode,
    work: Callable[[Cancelled], T],
    done: Callable[[T], Message | None],
    *,
    group: str = "",
) -> Worker[None]:
    """Run `work(cancelled)` in a thread and post `done(result)`, unless None, to `node`; a failure posts `Failure`.

    Work of the same `group` (of one node) replaces what is still running: the older is cancelled, and its result
    thrown away. Without a group, pieces of work run beside each other.
    """

    def run() -> None:
        worker = get_current_worker()
        try:
            result = work(lambda: worker.is_cancelled)
        except Stopped:
            return
        except Exception as error:
            if not worker.is_cancelled:
                node.post_message(Failure(error))
            return
        if not worker.is_cancelled and (message := done(result)) is not None:
            node.post_message(message)

    started: Worker[Any] = node.run_worker(
        run, thread=True, exit_on_error=False, group=group or f"free-{id(run)}", exclusive=bool(group)
    )
    return started


@cache
def keep_what_stays() -> None:
    """What was imported is not looked through for garbage, which stopped the screen for a tenth of a second, often."""
    gc.freeze()
    atexit.register(gc.unfreeze)  # else some libraries complain on the way out of what was never freed
