"""The files behind a path: one file, the data files of a folder or of a glob, each once and in a fixed order."""

from __future__ import annotations

import glob
import json
import os
from pathlib import Path, PurePath
from typing import NamedTuple

from workbench.errors import BadInput
from workbench.formats.rows import printable

_DATA = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".feather")
_PACKED = (".gz", ".zst", ".zstd")
_SAVED = "state.json"  # `datasets.save_to_disk` names a split's files there: others beside them are caches
_SPLITS = "dataset_dict.json"
_ABOUT = frozenset([_SAVED, _SPLITS, "dataset_info.json", "dataset_infos.json"])


class DataFile(NamedTuple):
    """A file to read, and its name below the folder or glob that it was found by."""

    name: str
    path: Path


class Found(NamedTuple):
    """The files behind a path, sorted by name, and the names of those that were passed over as no data."""

    files: list[DataFile]
    ignored: list[str]


def find_files(path: Path) -> Found:
    """The data files of a file, a folder (`datasets.save_to_disk` folders too) or a glob. `**` reaches into folders.

    Hidden files are not looked at. Raises BadInput where there is none.
    """
    where = str(path)
    if path.is_dir():
        root, paths = path, below(path)
    elif path.exists() or not glob.has_magic(where):
        return Found([DataFile(name_of(path), path)], [])
    else:
        root, paths = _fixed_part(path), _matches(where)
        if not paths:
            raise BadInput("no file matches", where=where, do="Check the pattern, and quote it against the shell.")
    chosen = [found for found in paths if is_data(found)]
    ignored = [name_of(found, root) for found in paths if not is_data(found) and found.name not in _ABOUT]
    if not chosen:
        raise BadInput("no data files here", where=where, do=f"Data files end in {', '.join(_DATA)}, also packed.")
    files = [DataFile(name_of(found, root), found) for found in chosen]
    return Found(sorted(files), sorted(ignored))


def name_of(path: Path, root: Path | None = None) -> str:
    """The path below `root`, or else the file's name, as text that can be stored."""
    return printable((path.relative_to(root) if root else PurePath(path.name)).as_posix())


def _matches(pattern: str) -> list[Path]:
    """What the pattern matches, folders with what is in them, nothing twice."""
    found: dict[Path, None] = {}
    for match in map(Path, glob.glob(pattern, recursive=True)):
        found.update(dict.fromkeys(below(match) if match.is_dir() else [match]))
    return list(found)


def _fixed_part(pattern: Path) -> Path:
    """The folders in front of the first wildcard."""
    root = Path(pattern.anchor)
    for part in pattern.parts[len(root.parts) :]:
        if glob.has_magic(part):
            break
        root /= part
    return root


def below(folder: Path) -> list[Path]:
    """The files in a folder and the folders in it, hidden ones left out; of a saved data set those that it lists."""
    found: list[Path] = []

    def stop(error: OSError) -> None:
        what = f"a folder cannot be read: {error.strerror}"
        raise BadInput(what, where=str(error.filename), do="Check its permissions.")

    for base, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = Path(base)
        if _SPLITS in names and (missing := set(_listed(here / _SPLITS)) - set(folders)):
            raise BadInput(f"the split {min(missing)!r} is missing", where=base, do="Save the data set again.")
        if _SAVED in names and (saved := _listed(here / _SAVED)):
            names = saved
        found += [here / name for name in names if not name.startswith(".")]
    return found


def _listed(path: Path) -> list[str]:
    """The splits or files that a description by `datasets` lists; none where it is something else."""
    try:
        about = json.loads(path.read_bytes())
        return list(about["splits"]) if path.name == _SPLITS else [file["filename"] for file in about["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def is_data(path: Path) -> bool:
    """Whether a file of this name is one to read."""
    if path.name in _ABOUT:
        return False
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in _DATA
