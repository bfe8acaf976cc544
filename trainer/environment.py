"""The machine and the libraries that a run was made with: what its numbers depend on besides its plan."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
from pathlib import Path

from trainer import processes

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "bitsandbytes",
    "tokenizers",
    "numpy",
    "sft-workbench",
)
"""Distributions whose version may change a number; the last is ours."""

NEEDED = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "gguf",
    "jinja2",
    "numpy",
    "peft",
    "psutil",
    "py3langid",
    "pyarrow",
    "pydantic",
    "scipy",
    "torch",
    "transformers",
    "trl",
)
"""Distributions that this package works with; the others of the workbench are not needed to run a job."""


@functools.cache
def environment() -> dict[str, str]:
    """What this process computes with: Python, system, processor, devices, and the version of each library there is.

    No name of the machine or of a person is in it.
    """
    import torch

    found = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": f"{os.cpu_count()}, torch uses {torch.get_num_threads()} threads",
    }
    if torch.cuda.is_available():
        found["gpu"] = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        found["cuda"] = str(torch.version.cuda)
    if processes.count() > 1:
        found["processes"] = str(processes.count())
    return found | libraries()


@functools.cache
def libraries() -> dict[str, str]:
    """The version of each of `LIBRARIES` that is installed. Imports none of them."""
    found = {}
    for library in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found


def requirements() -> list[str]:
    """What to install where only this package is to run, in the versions that are installed here.

    A version's local part (`+cpu`) is left out: another machine has other devices.
    """
    return [f"{library}=={importlib.metadata.version(library).partition('+')[0]}" for library in NEEDED]


def _processor() -> str:
    """The processor's model where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or "unknown"
