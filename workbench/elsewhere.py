"""An experiment's job on another machine: packed into a folder that needs no workbench there, and fetched back.

    DIR/trainer/          our package of that name, as it is here
    DIR/requirements.txt  what to install for it there, in the versions of here
    DIR/runs/ID/          the run folder: `python -m trainer runs/ID` is run in DIR

What comes back is the run folder with its results; the plan ties it to the experiment.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import trainer
from trainer.devices import DEVICES
from trainer.environment import requirements
from trainer.plan import ExperimentPlan
from trainer.protocol import DONE, EVENTS, LOCK, LOG, PLAN, STARTING, read_plan
from workbench.errors import NotFound, UsageProblem
from workbench.jobs import ending, is_running

_DECIDED = ("model.json", "budget.json")
"""What the first minute decides on the machine where it passes."""
_RESULTS = "results"
_MADE = ("summary.json", "trained.json")
"""Files of a run that is made, or trained at least."""
_OF_THIS_MACHINE = frozenset({EVENTS, LOG, LOCK, STARTING, DONE, DEVICES, "answers"})


@dataclass(frozen=True)
class Packed:
    """What was packed: `command` runs the job in `folder`; `began` says whether some of its runs are made already."""

    folder: Path
    command: str
    began: bool


def pack(run_folder: Path, out: Path) -> Packed:
    """Copy the job of `run_folder` to the new folder `out`, with all that it needs on a machine without workbench.

    Where no run was made yet, the other machine decides by itself how to hold the model and what a budget in minutes
    buys; otherwise it keeps to what was decided here, and goes on. Raises UsageProblem where `out` is in the way, or
    the job runs here or is done.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageProblem("it is there already, and not an empty folder", where=str(out), do="Give a new folder.")
    _refuse_at_work(run_folder)
    made = [path for name in _MADE for path in (run_folder / _RESULTS).glob(f"*/{name}")]
    began = any(path.parent.name != "base" for path in made)
    left = _OF_THIS_MACHINE if began else _OF_THIS_MACHINE | {_RESULTS, *_DECIDED}
    shutil.copytree(Path(trainer.__file__).parent, out / "trainer", ignore=shutil.ignore_patterns("__pycache__"))
    # The depth of a workspace: the plan names its cache of tokens relative to the run folder.
    shutil.copytree(run_folder, out / "runs" / run_folder.name, ignore=lambda _, names: left.intersection(names))
    command = f"python -m trainer runs/{run_folder.name}"
    head = f"# In this folder: pip install -r requirements.txt, then {command}\n"
    (out / "requirements.txt").write_text(head + "".join(f"{line}\n" for line in requirements()), encoding="utf-8")
    return Packed(out, command, began)


def fetch(run_folder: Path, source: Path) -> None:
    """Bring the results of a job that was run elsewhere into its run folder.

    `source` is what `pack` made, or the run folder in it. Raises NotFound where it is not there, UsageProblem where it
    is another experiment's, the job is not done there, or it runs here or is done.
    """
    inner = source / "runs" / run_folder.name
    source = inner if inner.is_dir() else source
    if not (source / PLAN).is_file():
        raise NotFound(f"no run folder {run_folder.name} here", where=str(source), do="Give the folder of the export.")
    if read_plan(source, ExperimentPlan) != read_plan(run_folder, ExperimentPlan):
        raise UsageProblem("its plan is another experiment's", where=str(source), do=f"Give that of {run_folder.name}.")
    _refuse_at_work(run_folder)
    if not (source / DONE).exists():
        reason = ending(source)
        raise UsageProblem(
            f"the job is not done there ({str(reason.what).rstrip('.').lower()})",
            where=str(source),
            do=f"Run it there to its end: python -m trainer runs/{run_folder.name}",
        )
    shutil.rmtree(run_folder / _RESULTS, ignore_errors=True)
    shutil.copytree(source / _RESULTS, run_folder / _RESULTS)
    for name in (*_DECIDED, EVENTS, LOG, DONE):  # the last one says that the rest is whole
        shutil.copyfile(source / name, run_folder / name)


def _refuse_at_work(run_folder: Path) -> None:
    where = f"experiment {run_folder.name}"
    if is_running(run_folder):
        raise UsageProblem("its job runs here", where=where, do="Stop it first.")
    if (run_folder / DONE).exists():
        do = f"`workbench experiments resume {run_folder.name}` shows the result."
        raise UsageProblem("its runs are all made, and here", where=where, do=do)
