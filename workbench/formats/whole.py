"""Files and folders that appear whole or not at all: written under another name beside their place, then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import BadInput, UsageProblem


def check_free(out: Path, *, force: bool, folder_of: re.Pattern[str] | None = None) -> None:
    """Raise UsageProblem where `out` is there already and may not be replaced.

    With `force` a file may be; where a folder is wanted, one whose entries all have names that `folder_of` matches.
    An empty folder is free for a folder.
    """
    if not out.exists() and not out.is_symlink():
        return
    where = str(out)
    if out.is_dir():
        if folder_of is None:
            raise UsageProblem("there is a folder of this name", where=where, do="Name a file with -o.")
        entries = sorted(entry.name for entry in out.iterdir())
        foreign = [entry for entry in entries if not folder_of.fullmatch(entry)]
        if foreign:
            raise UsageProblem(
                f"the folder holds something else ({foreign[0]!r})", where=where, do="Name a new folder with -o."
            )
        if not entries or force:
            return
    elif folder_of or not out.is_file():
        raise UsageProblem("there is something else of this name", where=where, do="Choose another name with -o.")
    elif force:
        return
    raise UsageProblem("it is there already", where=where, do="Choose another name with -o, or add --force.")


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """A path beside `out`, with its suffix, that takes its place when the block succeeds and vanishes when it fails."""
    scratch = _scratch(out)
    with _told(out):
        try:
            yield scratch
            _sync(scratch)
            scratch.replace(out)
        finally:
            scratch.unlink(missing_ok=True)


@contextmanager
def new_file(out: Path) -> Iterator[Path]:
    """As `whole_file`, for what never replaces anything: raises BadInput where `out` is there."""
    if out.exists() or out.is_symlink():
        raise BadInput("the file is there already", where=str(out), do="Name another.")
    with whole_file(out) as scratch:
        yield scratch


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """An empty folder beside `out` that takes its place when the block succeeds and vanishes when it fails.

    What was at `out` goes only when the new folder is complete.
    """
    scratch = _scratch(out)
    old = scratch.with_name(scratch.name + ".old")
    with _told(out):
        try:
            scratch.mkdir()
            yield scratch
            for path in scratch.rglob("*"):
                if path.is_file():
                    _sync(path)
            if out.exists():
                out.rename(old)
            scratch.rename(out)
        except BaseException:
            if old.exists() and not out.exists():
                old.rename(out)
            raise
        finally:
            for folder in (scratch, old):
                shutil.rmtree(folder, ignore_errors=True)


def _scratch(out: Path) -> Path:
    return out.with_name(f".{os.getpid()}-{out.name}")


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def _told(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what, do = "the disk is full", "Free some space or write to another disk; nothing was left behind."
        else:
            what = f"cannot write here: {error.strerror or error}"
            do = "Choose a folder that exists and can be written to."
        raise UsageProblem(what, where=str(out), do=do) from error
