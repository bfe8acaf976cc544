"""A folder as a data set of the Hugging Face hub: what can go wrong is asked before anything is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, TypeVar, cast

from trainer.models import quiet_libraries
from workbench.errors import AlreadyOnHub, HubUnavailable, UsageProblem

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")

_TIMEOUT = 10.0  # seconds until a hub that does not answer counts as out of reach
_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_TOKEN = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write."


@dataclass(frozen=True)
class Pushed:
    """Where the data set is now, and who may see it."""

    url: str
    commit: str
    private: bool


def repo_of(target: str) -> str:
    """`org/name` of `hf:org/name`. Raises UsageProblem for anything else."""
    name = target.removeprefix("hf:")
    if target.startswith("hf:") and _NAME.fullmatch(name):
        return name
    raise UsageProblem(f"cannot push to {target!r}", do="Write the hub's data set as hf:ORG/NAME.")


def check_hub(repo: str, *, force: bool) -> None:
    """Ask the hub whether `repo` can be pushed to. Raises HubUnavailable within about 15 seconds where it cannot.

    Raises AlreadyOnHub for a data set that holds files, unless `force`.
    """
    api = _api()
    from huggingface_hub.errors import RepositoryNotFoundError

    with _told(repo):
        try:
            info = _in_time(lambda: api.dataset_info(repo, timeout=_TIMEOUT))
        except RepositoryNotFoundError as error:
            if error.response.status_code == 401:
                raise
            return
    if not force and any(file.rfilename != ".gitattributes" for file in info.siblings or []):
        raise AlreadyOnHub(
            "there is a data set of this name already",
            where=f"hf:{repo}",
            do="Choose another name, or add --force to replace its files (its history keeps them).",
        )


def push_folder(folder: Path, repo: str, *, public: bool, message: str) -> Pushed:
    """Make `repo` hold exactly the files of `folder`. A new data set is private unless `public`.

    A data set that is there stays as visible as it is. Raises HubUnavailable where the hub refuses or gives out.
    """
    api = _api()
    with _told(repo):
        api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo, repo_type="dataset", folder_path=folder, commit_message=message, delete_patterns="*"
        )
        info = api.dataset_info(repo, timeout=_TIMEOUT)
    return Pushed(f"{api.endpoint}/datasets/{repo}", str(commit.oid), bool(info.private))


def _api() -> HfApi:
    quiet_libraries()
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise HubUnavailable("there is no token for the hub", do=_TOKEN)
    return HfApi()


def _in_time(ask: Callable[[], T]) -> T:
    """The answer to one question, asked in a thread: looking up an address knows no time limit of its own."""
    answers: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()

    def work() -> None:
        try:
            answers.put((ask(), None))
        except Exception as error:
            answers.put((None, error))

    Thread(target=work, daemon=True).start()
    try:
        answer, error = answers.get(timeout=_TIMEOUT + 1)
    except Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return cast("T", answer)


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """Turn what the hub's library raises into one sentence."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    where = f"hf:{repo}"
    try:
        yield
    except HFValidationError as error:
        raise UsageProblem("this cannot be the name of a data set", where=where, do="Write hf:ORG/NAME.") from error
    except OfflineModeIsEnabled as error:
        raise HubUnavailable("HF_HUB_OFFLINE is set", where=where, do="Unset it to reach the hub.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise HubUnavailable("the hub does not let this token write here", where=where, do=_TOKEN) from error
        said = error.server_message or f"status {status}"
        raise HubUnavailable(f"the hub refused: {said}", where=where, do="Try again later.") from error
    except Exception as error:  # which library raises it changes with every release of huggingface_hub
        raise HubUnavailable(
            f"the hub cannot be reached ({type(error).__name__})",
            where=where,
            do="Check the network and call again, or write a file with -o.",
        ) from error
