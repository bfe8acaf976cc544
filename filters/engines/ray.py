"""Row steps and `minhash` through Ray Data: each task is one Parquet file, read and written by a worker.

Every machine of the cluster must see the folder at the same path, and have this package installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from filters.engines.shards import ROWS, ScoreShard, write_shards
from filters.scoring import PARTS, read_part, read_parts
from filters.step import Outside, Progress, Row, Score, Scorer, Survivors
from trainer.errors import Problem, UsageProblem

if TYPE_CHECKING:
    import pyarrow as pa

    from filters.dedup.jaccard import Pairs
    from filters.dedup.known import Lineup
    from filters.dedup.near import NearParams

LOG = "ray.log"
ATTEMPTS = 3
"""At a file whose workers die. Ray Data itself tries for ever, and a row that kills its worker would hang it."""


class RayEngine:
    """A Ray that runs at `address`, or one that is started here once there is work, with a worker for each core.

    One that this process is connected to already is used as it is, and left running. A context manager.
    """

    name = "ray"

    def __init__(
        self, folder: Path, progress: Progress, address: str | None = None, *, cpus: int | None = None, size: int = ROWS
    ) -> None:
        """Files go into `folder`, which all machines see, `size` rows in each; `cpus` are those of a Ray started here.

        Raises UsageProblem where Ray is not installed, or does not answer at `address`.
        """
        if importlib.util.find_spec("ray") is None:
            raise UsageProblem(
                "Ray is not installed", where="--engine ray", do="Install it: pip install 'sft-workbench[ray]'."
            )
        self._folder, self._progress, self._size, self._cpus = folder.absolute(), progress, size, cpus
        self._own: Path | None = None  # where the sockets of a Ray of our own lie
        self._ready = self._connected = False
        self._on_sigterm: Any = None
        folder.mkdir(parents=True, exist_ok=True)
        if address:
            self._connect(address=address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start Ray, where this process has none yet. Raises UsageProblem where it does not start."""
        if not self._ready:
            self._own = Path(tempfile.mkdtemp(prefix="ray-"))  # the paths of sockets may not be long
            # Whoever reaches a Ray may run code in it; it would keep its token in the home folder for all to come.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
            self._connect(address="local", num_cpus=self._cpus, include_dashboard=False, _temp_dir=str(self._own))

    def _connect(self, address: str, **given: Any) -> None:
        ray = _quiet_ray(self._folder / LOG)
        if not ray.is_initialized():
            self._progress(0, None, "starting Ray")
            self._connected, self._on_sigterm = True, signal.getsignal(signal.SIGTERM)
            try:
                if ":" in address:  # Ray itself asks for minutes
                    host, port = address.removeprefix("ray://").rsplit(":", 1)
                    socket.create_connection((host, int(port)), timeout=10).close()
                ray.init(address=address, log_to_driver=False, **given)
            except Exception as error:
                raise UsageProblem(
                    f"Ray does not start, or does not answer ({_lines(error)[0]})",
                    where=f"--ray-address {address}",
                    do=f"{self._folder / LOG} has all that it said."
                    + ("" if self._own else " A cluster with a token wants RAY_AUTH_MODE=token before the command."),
                ) from error
        self._ready = True

    def close(self) -> None:
        """End the Ray that was started here, or let go of the one at the address."""
        if self._connected:
            import ray

            ray.shutdown()
            if signal.getsignal(signal.SIGTERM) is not self._on_sigterm:  # Ray's ends processes that are gone
                signal.signal(signal.SIGTERM, self._on_sigterm)
        if self._own:
            shutil.rmtree(self._own, ignore_errors=True)
        self._ready = self._connected = False

    def takes(self, scorer: Scorer) -> bool:
        """Whether the scorer can be sent to another process."""
        from ray import cloudpickle

        try:
            cloudpickle.dumps(scorer)
        except Exception:  # whatever its package holds
            return False
        return True

    def score(self, scorer: Scorer, rows: Iterable[list[Row]]) -> Iterator[Mapping[str, Score]]:
        """The scores of `rows`, and before them those that a stopped run left."""
        folder = self._folder / f"score-{scorer.fingerprint}"
        if folder.exists():
            yield from read_parts(folder)
            shutil.rmtree(folder)
        with _scratch(folder):
            shards, total = write_shards(
                folder / "rows", rows, self._size, self._progress, f"{scorer.name}: writing rows"
            )
            (folder / PARTS).mkdir()
            done = 0
            for table in self._each(shards, ScoreShard(scorer, folder / PARTS), scorer.name):
                done += table["rows"][0].as_py()
                self._progress(done, total, f"{scorer.name} on Ray")
                yield read_part(folder / PARTS / table["shard"][0].as_py())

    def near_pairs(
        self, rows: Survivors, outside: Outside, params: NearParams, step: str, least: float
    ) -> tuple[Lineup[Any], Pairs]:
        """As `filters.engines.Engine` says."""
        from filters.engines.near import near_pairs

        def each(files: Sequence[Path], work: Callable[[Path], pa.Table]) -> Iterator[pa.Table]:
            return self._each(files, work, step)

        with _scratch(self._folder / "near") as folder:
            return near_pairs(folder, each, rows, outside, params, step, least, self._size)

    def _each(self, files: Sequence[Path], work: Callable[[Path], pa.Table], what: str) -> Iterator[pa.Table]:
        """What `work` returns for each file, as it comes. Raises the Problem of a worker, or one that says `what`."""
        if not files:
            return
        self.start()
        import ray.data

        def task(batch: pa.Table) -> pa.Table:
            return _attempt(Path(batch["item"][0].as_py()), work, what)

        # One file a task, and not `read_parquet`: what a file becomes then has its name, also if it is done twice.
        data = ray.data.from_items([str(file) for file in files], override_num_blocks=len(files))
        data = data.map_batches(task, batch_size=1, batch_format="pyarrow")
        try:
            yield from data.iter_batches(batch_size=None, batch_format="pyarrow")
        except Exception as error:
            raise _of_worker(error, what, self._folder / LOG) from error


def _attempt(file: Path, work: Callable[[Path], pa.Table], what: str) -> pa.Table:
    """What `work` makes of the file. Raises Problem where several workers have died of it."""
    tried = file.with_suffix(".tried")
    with tried.open("a") as marks:
        marks.write(".")
    if tried.stat().st_size > ATTEMPTS:
        raise Problem(
            f"{ATTEMPTS} workers died of one file of rows",
            where=what,
            do="Memory that runs out is the usual cause: give Ray fewer cores or more memory.",
        )
    made = work(file)
    tried.unlink()
    return made


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A new folder for the time of the block; what was there goes. It stays when the process is killed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _of_worker(error: BaseException, what: str, log: Path) -> Problem:
    """The Problem that a worker raised, or one that says what else befell it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Problem):
        return cause
    return Problem(
        f"a worker of Ray failed ({_lines(error)[-1]})",
        where=what,
        do=f"{log} has all that Ray said; the same command goes on with the scores that are there.",
    )


def _lines(error: BaseException) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]


def _quiet_ray(log: Path) -> Any:
    """The package, which says what it has to say in this process to a file: the terminal is ours."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would tell its makers over the network
    import ray
    import ray.data

    handler = logging.FileHandler(log, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in ("ray", "ray.data"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True  # else a Problem arrives as text
    return ray
