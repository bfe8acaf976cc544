"""One job made by several processes together, as `accelerate launch` or `torchrun` start them.

Every process does the same in the same order, on the same folder: rows and eval items are dealt to them, gradients are
averaged by PyTorch, and what depends on a clock or on a signal is agreed upon. The first process alone writes. A job
that was started in the plain way is one process, and all of this does nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from trainer.errors import Stopped

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")

_PATIENCE = datetime.timedelta(days=7)
"""How long a process waits for the others: while one evaluates, the others must not give up. A launcher ends the
others where one dies."""

_groups: list[Any] = []


def count() -> int:
    """How many processes make this job together."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


@contextlib.contextmanager
def _all_there() -> Iterator[None]:
    """Raises Stopped where another process has ended before it came to this point; it has told why."""
    try:
        yield
    except RuntimeError as error:
        raise Stopped("Another process of this job ended", do="The same command resumes where it was.") from error


def sharded() -> bool:
    """Whether the launcher splits the model over the processes (FSDP), so that none of them has it whole."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def local_rank() -> int:
    """Which of the processes on this machine it is, from 0: the number of its GPU."""
    return int(os.environ["LOCAL_RANK"])


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def join(device: torch.device) -> None:
    """Meet the other processes of the job; call once, before anything else here is called for more than one."""
    if count() == 1 or _groups:
        return
    import torch.distributed
    from accelerate import PartialState

    PartialState(cpu=device.type == "cpu")
    # A group of its own for what is agreed upon: on the CPU, so that nobody waits in a kernel of a GPU.
    _groups.append(torch.distributed.new_group(backend="gloo", timeout=_PATIENCE))


def share(items: Sequence[Item]) -> list[Item]:
    """The part of `items` that falls to this process: every n-th."""
    return list(items[rank() :: count()])


def gathered(mine: list[Item]) -> list[Item]:
    """What each process has, one after the other; the same list in all of them."""
    if count() == 1:
        return mine
    import torch.distributed

    parts: list[Any] = [None] * count()
    with _all_there():
        torch.distributed.all_gather_object(parts, mine, group=_groups[0])
    return [item for part in parts for item in part]


def from_first(value: Item) -> Item:
    """The value that the first process gave."""
    if count() == 1:
        return value
    import torch.distributed

    carried: list[Any] = [value]
    with _all_there():
        torch.distributed.broadcast_object_list(carried, src=0, group=_groups[0])
    found: Item = carried[0]
    return found


def any_of(*flags: bool) -> tuple[bool, ...]:
    """For each flag whether any process has raised it."""
    if count() == 1:
        return flags
    import torch

    raised = torch.tensor(flags, dtype=torch.int32)
    with _all_there():
        torch.distributed.all_reduce(raised, op=torch.distributed.ReduceOp.MAX, group=_groups[0])
    return tuple(bool(flag) for flag in raised.tolist())


def wait() -> None:
    """Wait until every process has come here: what the first one wrote before that can be read from here on."""
    any_of(False)
