"""The most memory that a process held."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_mb() -> int:
    """The most memory that this process held, in MB.

    On Linux the kernel counts it anew for each program that is started (VmHWM). `ru_maxrss`, read elsewhere, begins
    with what the process that started this one held, and so hides all that is smaller.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 // 1_000_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1_000_000 if sys.platform == "darwin" else 1_000)
