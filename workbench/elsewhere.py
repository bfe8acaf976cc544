"""An experiment's job on another machine: packed into a folder that needs no workbench there, and fetched back.

    DIR/trainer/          our package of that name, as it is here
    DIR/requirements.txt  what to install for it there, in the versions of here
    DIR/runs/ID/          the run folder: `python -m trainer runs/ID` is run in DIR

What comes back is the run folder with its results; the plan ties it to the experiment.
"""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import trainer
from trainer.devices import DEVICES
from trainer.environment import requirements
from trainer.failures import failures
from trainer.plan import BASE, ExperimentPlan
from trainer.protocol import DONE, EVENTS, LOCK, LOG, PLAN, STARTING, read_plan
from workbench.errors import BadInput, NotFound, UsageProblem
from workbench.formats.whole import whole_folder
from workbench.jobs import ending, is_running

_DECIDED = ("model.json", "budget.json")
"""What the first minute decides on the machine where it passes."""
_RESULTS = "results"
_MADE = ("summary.json", "trained.json")
"""Files of a run that is made, or trained at least."""
_MEASURED = ("summary.json", "metrics.parquet", "generations.parquet")
"""Files of a run that was measured."""
_OF_THIS_MACHINE = frozenset({EVENTS, LOG, LOCK, STARTING, DONE, DEVICES, "answers"})


@dataclass(frozen=True)
class Packed:
    """What was packed: `command` runs the job in `folder`; `began` says whether some of its runs are made already."""

    folder: Path
    command: str
    began: bool


def pack(run_folder: Path, out: Path) -> Packed:
    """Copy the job of `run_folder` to the new folder `out`, with all that it needs on a machine without workbench.

    The folder appears when it is complete. Where no run was made yet, the other machine decides by itself how to hold
    the model and what a budget in minutes buys; otherwise it keeps to what was decided here, and goes on. Raises
    UsageProblem where `out` is in the way or cannot be written, or the job runs here or is done.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageProblem("it is there already, and not an empty folder", where=str(out), do="Give a new folder.")
    _refuse_at_work(run_folder)
    made = [path for name in _MADE for path in (run_folder / _RESULTS).glob(f"*/{name}")]
    began = any(path.parent.name != "base" for path in made)
    left = _OF_THIS_MACHINE if began else _OF_THIS_MACHINE | {_RESULTS, *_DECIDED}
    command = f"python -m trainer runs/{run_folder.name}"
    python = ".".join(platform.python_version_tuple()[:2])
    head = f"# In this folder, with Python {python}: pip install -r requirements.txt, then {command}\n"
    with whole_folder(out.absolute()) as scratch:
        own = Path(trainer.__file__).parent
        shutil.copytree(own, scratch / "trainer", ignore=shutil.ignore_patterns("__pycache__"))
        # The depth of a workspace: the plan names its cache of tokens relative to the run folder.
        job = scratch / "runs" / run_folder.name
        shutil.copytree(run_folder, job, ignore=lambda _, names: left.intersection(names))
        (scratch / "requirements.txt").write_text(head + "\n".join([*requirements(), ""]), encoding="utf-8")
    return Packed(out, command, began)


def fetch(run_folder: Path, source: Path) -> None:
    """Bring the results of a job that was run elsewhere into its run folder.

    `source` is what `pack` made, or the run folder in it. Raises NotFound where it is not there, UsageProblem where it
    is another experiment's, the job is not done there, or it runs here or is done, and BadInput where files were lost
    on the way. What is here stays until all of it has come.
    """
    inner = source / "runs" / run_folder.name
    source = inner if inner.is_dir() else source
    if not (source / PLAN).is_file():
        raise NotFound(f"no run folder {run_folder.name} here", where=str(source), do="Give the folder of the export.")
    plan = read_plan(run_folder, ExperimentPlan)
    if read_plan(source, ExperimentPlan) != plan:
        raise UsageProblem("its plan is another experiment's", where=str(source), do=f"Give that of {run_folder.name}.")
    _refuse_at_work(run_folder)
    if not (source / DONE).exists():
        reason = ending(source)
        raise UsageProblem(
            f"the job is not done there ({str(reason.what).rstrip('.').lower()})",
            where=str(source),
            do=f"Run it there to its end: python -m trainer runs/{run_folder.name}",
        )
    failed = failures(source / _RESULTS, plan)
    runs = [*(run.id for run in plan.runs if run.id not in failed), *([BASE] if plan.base else [])]
    files = [source / _RESULTS / run / name for run in runs for name in _MEASURED]
    files += [source / name for name in (*_DECIDED, EVENTS, LOG)]
    if lost := [path for path in files if not path.is_file()]:
        what = f"the job is done there, but {lost[0].relative_to(source)} is not in this copy"
        raise BadInput(what, where=str(source), do="Copy the whole folder again.")
    with whole_folder(run_folder / _RESULTS) as scratch:
        shutil.copytree(source / _RESULTS, scratch, dirs_exist_ok=True)
    for name in (*_DECIDED, EVENTS, LOG, DONE):  # the last one says that the rest is whole
        shutil.copyfile(source / name, run_folder / name)


def _refuse_at_work(run_folder: Path) -> None:
    where = f"experiment {run_folder.name}"
    if is_running(run_folder):
        raise UsageProblem("its job runs here", where=where, do="Stop it first.")
    if (run_folder / DONE).exists():
        do = f"`workbench experiments resume {run_folder.name}` shows the result."
        raise UsageProblem("its runs are all made, and here", where=where, do=do)
