"""Data sets of the Hugging Face hub: their files, which configuration and split holds which, fetched to its cache.

The `datasets` library says which files make up a split; they are read by the containers here, not by it, because
Arrow would fill tool arguments with nulls and refuse columns of mixed types.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from workbench.errors import BadInput, HubUnavailable, UsageProblem
from workbench.formats.folders import DataFile, Found, below, is_data, name_of
from workbench.formats.rows import printable

HUB = "hf:"

_FORM = "Write hf:ORG/NAME, hf:ORG/NAME/CONFIG or hf:ORG/NAME/CONFIG:SPLIT."
_REMOTE = "hf://"
_FIRST_ANSWER = 10.0  # seconds
_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<config>[^:]+))?(?::(?P<split>[\w.-]+))?")
_LOCAL = re.compile(r"(?P<folder>(?:/|\./|\.\./|~/)[^:]*)(?::(?P<split>[\w.-]+))?")


def fetch(name: str) -> Found:
    """The files of `org/name[/config][:split]`, or of a folder of that layout (`/data/set[:split]`, `./set`).

    Files are named `split/file`; ignored are data files that belong to no split, unless a configuration was asked for.
    Raises UsageProblem for a name that cannot be one, BadInput for a configuration or split that is not there,
    HubUnavailable where the hub does not answer within 10 seconds or does not give it.
    """
    where = HUB + name
    if local := _LOCAL.fullmatch(name):
        folder = Path(local["folder"]).expanduser()
        if not folder.is_dir():
            raise BadInput("there is no such folder", where=where, do="Check the path.")
        there = [name_of(path, folder) for path in below(folder)]
        return _files(where, str(folder), None, local["split"], there)
    parsed = _NAME.fullmatch(name)
    if not parsed:
        raise UsageProblem(f"{name!r} names no data set of the hub", do=_FORM)
    there = _reached(where, parsed["repo"])
    return _files(where, f"{_REMOTE}datasets/{parsed['repo']}", parsed["config"], parsed["split"], there)


def _reached(where: str, repo: str) -> list[str]:
    """The names of the files of a data set: one question to the hub, in a thread, because looking up its address
    knows no time limit."""
    from huggingface_hub import HfApi

    answers: SimpleQueue[Exception | list[str]] = SimpleQueue()

    def ask() -> None:
        try:
            info = HfApi().dataset_info(repo, timeout=_FIRST_ANSWER)
            answers.put([file.rfilename for file in info.siblings or []])
        except Exception as error:
            answers.put(error)

    Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_FIRST_ANSWER)
    except Empty:
        answer = TimeoutError(f"no answer within {_FIRST_ANSWER:.0f} seconds")
    if isinstance(answer, Exception):
        raise _unavailable(where, answer)
    return answer


def _files(where: str, path: str, config: str | None, split: str | None, there: list[str]) -> Found:
    """Those of the files `there` that `datasets` takes for a configuration and split, and those that it does not."""
    from datasets import load_dataset_builder
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError

    try:
        builder = load_dataset_builder(path, config)
    except (DataFilesNotFoundError, EmptyDatasetError):
        raise BadInput("the data set has no files that can be read", where=where, do=_FORM) from None
    except ValueError as error:
        # The library's own words list the configurations that there are.
        raise BadInput(" ".join(str(error).split("\nExample")[0].split()), where=where, do=_FORM) from None
    except Exception as error:  # which library raises what changes with every release
        if not path.startswith(_REMOTE):
            raise BadInput(f"the folder cannot be read as a data set: {error}", where=where, do=_FORM) from None
        raise _unavailable(where, error) from None
    by_split: dict[str, list[str]] = {str(name): list(urls) for name, urls in (builder.config.data_files or {}).items()}
    if split is not None and split not in by_split:
        raise BadInput(f"there is no split {split!r}", where=where, do=f"There are {', '.join(by_split) or 'none'}.")
    files = [
        DataFile(f"{name}/{printable(inside)}", local)
        for name, urls in by_split.items()
        if split in (None, name)
        for inside, local in (_local(where, url, path) for url in urls)
    ]
    if not files:
        raise BadInput("the data set has no files that can be read", where=where, do=_FORM)
    taken = {printable(_inside(url, path)) for urls in by_split.values() for url in urls}
    left = [name for name in map(printable, there) if is_data(Path(name)) and name not in taken]
    return Found(files, [] if config else sorted(left))


def _inside(url: str, root: str) -> str:
    """A file's path inside the data set, without asking the hub: `root@revision/path`, or below the folder `root`."""
    return url.removeprefix(root).partition("/")[2] if url.startswith(_REMOTE) else os.path.relpath(url, root)


def _local(where: str, url: str, root: str) -> tuple[str, Path]:
    """A file's path inside the data set, and on this disk, fetched if it is not here yet. Broken fetches go on."""
    if not url.startswith(_REMOTE):
        return os.path.relpath(url, root), Path(url)
    from huggingface_hub import HfFileSystem, hf_hub_download

    try:
        at: Any = HfFileSystem().resolve_path(url)
        local = hf_hub_download(at.repo_id, at.path_in_repo, repo_type="dataset", revision=at.revision)
    except Exception as error:
        raise _unavailable(where, error) from None
    return at.path_in_repo, Path(local)


def _unavailable(where: str, error: Exception) -> HubUnavailable:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    reason = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
    if isinstance(error, GatedRepoError):
        what, do = "the data set is gated", "Ask for access on its page, then sign in with `hf auth login`."
    elif isinstance(error, RepositoryNotFoundError):
        what = "the hub has no such data set, or does not show it to you"
        do = "Check the name; for a private one sign in with `hf auth login`."
    elif isinstance(error, OfflineModeIsEnabled):
        what, do = "HF_HUB_OFFLINE is set", "Unset it to reach the hub, or import a folder that was fetched before."
    elif isinstance(error, HfHubHTTPError):
        what, do = f"the hub refused: {error.server_message or reason}", "Try again later."
    else:
        what = f"the hub cannot be reached ({reason})"
        do = "Check the network, or fetch the data set elsewhere and import its folder."
    return HubUnavailable(what, where=where, do=do)
