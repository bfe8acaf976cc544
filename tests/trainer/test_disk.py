"""A disk that is full or closed is told as that by a job, whichever library found out."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.disk import disk_problem
from trainer.protocol import DONE, EVENTS

QUOTA = 100_000


def by_python(path: Path) -> None:
    path.write_bytes(bytes(2 * QUOTA))


def by_arrow(path: Path) -> None:
    pq.write_table(pa.table({"x": list(range(QUOTA))}), path)


def by_torch(path: Path) -> None:
    import torch

    torch.save({"x": torch.zeros(QUOTA)}, path)


def by_safetensors(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(QUOTA)}, path)


@pytest.mark.parametrize("write", [by_python, by_arrow, by_torch, by_safetensors])
def test_a_full_disk_is_told_by_whatever_library_writes(tmp_path, write):
    write(tmp_path / "free")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (QUOTA, before[1]))
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            write(tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    told = disk_problem(caught.value)
    assert told is not None
    assert "the disk is full, or a quota is reached. Free some space; the same command resumes" in str(told)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_is_told_with_the_file(number):
    told = disk_problem(OSError(number, os.strerror(number), "/there/adapter"))
    assert str(told).startswith(f"/there/adapter: {os.strerror(number).lower()}. Have its permissions changed")


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "x"), RuntimeError("shape"), ValueError("(os error)")]
)
def test_what_the_disk_did_not_cause_is_left_alone(error):
    assert disk_problem(error) is None


JOB = """
import resource, sys
from pathlib import Path
from trainer.protocol import run_as_job

def work(folder, events):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
    (folder / "result").write_bytes(bytes(100_000))

sys.exit(run_as_job(Path(sys.argv[1]), work))
"""


@pytest.mark.parametrize("room", [50_000, 10])
def test_a_job_on_a_full_disk_says_so_and_is_not_done(tmp_path, room):
    done = subprocess.run([sys.executable, "-c", JOB, str(tmp_path), str(room)], check=False)
    assert (done.returncode, (tmp_path / DONE).exists()) == (1, False)
    last = json.loads((tmp_path / EVENTS).read_text().splitlines()[-1])
    if room == 10:  # not even for the event
        assert last["event"] == "started"
    else:
        assert (last["event"], last["exit_code"]) == ("error", 1)
        assert last["what"] == "the disk is full, or a quota is reached"
        assert "the same command resumes" in last["do"]
        assert "our bug" not in last["do"]
