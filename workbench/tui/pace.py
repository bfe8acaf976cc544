"""Progress as a person is told it: how far, how fast, how long still."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from rich.filesize import decimal

from workbench.comparing import duration

_OVER = 10.0  # seconds that the rate is measured over
_SURE = 1.0  # seconds after which a rate is worth telling


class Pace:
    """Turns `progress(done, total, what)` into a few words. Counts rows, or bytes where `in_bytes`."""

    def __init__(self, *, in_bytes: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._in_bytes = in_bytes
        self._clock = clock
        self._what = ""
        self._seen: deque[tuple[float, int]] = deque()

    def told(self, done: int, total: int | None, what: str) -> str:
        """`length · 4,000 of 10,000 · 2,000/s · 3 s left`; of bytes their share and rate."""
        now = self._clock()
        if (kind := what.partition(",")[0]) != self._what or (self._seen and done < self._seen[-1][1]):
            self._what = kind  # another step: another pace
            self._seen.clear()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] > _OVER:
            self._seen.popleft()
        parts = [what]
        if self._in_bytes:
            parts += [f"{done / total:.0%}"] if total else []
        else:
            parts.append(f"{done:,} of {total:,}" if total else f"{done:,}")
        began, first = self._seen[0]
        rate = (done - first) / (now - began) if now - began >= _SURE else 0.0
        if rate > 0:
            parts.append(f"{decimal(round(rate)) if self._in_bytes else f'{rate:,.0f}'}/s")
            if total:
                parts.append(f"{duration(max(total - done, 0) / rate)} left")
        return " · ".join(part for part in parts if part)
