"""Adapters that experiments trained, combined and folded into their base: a model that loads without PEFT."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.conversation import split_reference
from trainer.merging import CHECKS, MERGED, Checks, MergedAdapter, MergePlan
from trainer.plan import BASE, Combination, ExperimentPlan, ModelChoice
from trainer.protocol import PLAN, write_atomic
from workbench.arms import candidates_of, labels_of
from workbench.earlier_runs import link
from workbench.errors import NotFound, UsageProblem
from workbench.formats.whole import check_free, whole_folder
from workbench.jobs import OnEvent, Wish, run_job
from workbench.markdown import plain, table
from workbench.outcomes import compared_runs, finished
from workbench.store.experiments import experiments
from workbench.trained import choice_of, saved_folder
from workbench.workspace import Workspace

FOLDER = "merges"
"""Folder under that of the runs, which holds a folder for every merge that is at work or failed."""

README = "README.md"

_PROMPTS = 4  # of the first adapter's eval set, on which the outputs are compared
_MODEL_FILES = re.compile(
    r"README\.md|.*\.safetensors(\.index\.json)?|(generation_)?config\.json|chat_template\.jinja|"
    r"tokenizer.*|special_tokens_map\.json|vocab\.(json|txt)|merges\.txt|added_tokens\.json"
)
_WEIGHTED = re.compile(r"(?P<name>.*)=(?P<weight>[^=()]*)")  # an arm may be called ties=0.3(code + maths)


@dataclass(frozen=True)
class Part:
    """An adapter and its weight: the run `run` of `experiment`, which trained the version `version`."""

    experiment: str
    run: str
    version: str
    folder: Path
    weight: float

    def as_json(self) -> dict[str, Any]:
        """The JSON of an entry of `adapters`."""
        return {"experiment": self.experiment, "run": self.run, "version": self.version, "weight": self.weight}


@dataclass(frozen=True)
class Merged:
    """A model folder that was made, of what, and how near its outputs are to those of the tuned model."""

    folder: Path
    base: str
    how: Combination
    dtype: str
    held: str
    parts: list[Part]
    checks: Checks
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """The JSON of `merge`."""
        return {
            "folder": str(self.folder),
            "base": self.base,
            "how": self.how,
            "dtype": self.dtype,
            "held": self.held,
            "adapters": [part.as_json() for part in self.parts],
            "checks": self.checks.model_dump(),
            "bytes": self.bytes,
        }


def merge(
    ws: Workspace,
    names: Sequence[str],
    out: Path,
    *,
    how: Combination = "linear",
    density: float = 0.5,
    seed: int = 0,
    dtype: str = "float32",
    force: bool = False,
    on_event: OnEvent = lambda event: None,
    wish: Callable[[], Wish] = lambda: "watch",
) -> Merged:
    """Fold the adapters of `names` (`EXPERIMENT[:ARM[:SEED]][=WEIGHT]`) into their base and write a model folder.

    Slow: a job loads the model. The folder appears when its outputs were found to be those of the tuned model.

    Raises NotFound; UsageProblem where `out` is taken or the adapters lie on different bases; what the job reports;
    Stopped by `wish`.
    """
    check_free(out, force=force, folder_of=_MODEL_FILES)
    plans = [_planned(ws, name) for name in names]
    parts = [part for part, _, _ in plans]
    (_, job, choice), *others = plans
    for part, other, held in others:
        if (other.model.name, held.revision, held.held) != (job.model.name, choice.revision, choice.held):
            raise UsageProblem(
                f"{part.experiment} trained on {other.model.name} ({held.held}), {parts[0].experiment} on "
                f"{job.model.name} ({choice.held})",
                where=str(out),
                do="Merge adapters of one model, held in one way.",
            )
    plan = MergePlan(
        model=job.model,
        chosen=choice,
        policy=job.policy,
        adapters=[MergedAdapter(folder=str(part.folder.absolute()), weight=part.weight) for part in parts],
        how=how,
        density=density,
        seed=seed,
        dtype=dtype,  # type: ignore[arg-type]  # click knows the choices
        prompts=_prompts(ws, parts[0].experiment),
    )
    text = plan.model_dump_json()
    folder = ws.runs_dir / FOLDER / hashlib.sha256(text.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / PLAN).exists():
        write_atomic(folder / PLAN, text)
    run_job("trainer", folder, on_event, wish=wish)
    merged = Merged(
        folder=out,
        base=job.model.name,
        how=how,
        dtype=dtype,
        held="dense" if choice.held == "dense" else "nf4-rounded",
        parts=parts,
        checks=Checks.model_validate_json((folder / CHECKS).read_bytes()),
        bytes=sum(path.stat().st_size for path in (folder / MERGED).iterdir()),
    )
    with whole_folder(out) as scratch:
        # Not moved: what is stopped here, or finds the disk full, must leave the job's own model whole.
        shutil.copytree(folder / MERGED, scratch, copy_function=link, dirs_exist_ok=True)
        (scratch / README).write_text(_card(merged), encoding="utf-8")
    shutil.rmtree(folder)
    return merged


def _planned(ws: Workspace, name: str) -> tuple[Part, ExperimentPlan, ModelChoice]:
    """The adapter that `EXPERIMENT[:ARM[:SEED]][=WEIGHT]` names, its experiment's job, and how the base was held."""
    wanted, weight = _weighted(name)
    experiment, arm, seed = _split(ws, wanted)
    row = finished(ws, experiment)
    noted = json.loads(row.plan)
    runs = compared_runs(ws, row)
    chosen = _arm(arm, noted, [each for each in runs if each != BASE], f"experiment {row.id}")
    found = runs[chosen].get(seed) if seed is not None else next(iter(runs[chosen].values()))
    if found is None:
        seeds = ", ".join(map(str, runs[chosen]))
        raise NotFound(f"no run of {chosen} with seed {seed}", where=f"experiment {row.id}", do=f"Its seeds: {seeds}.")
    run = found.removeprefix(f"{row.id}/")
    folder = ws.runs_dir / row.id
    adapter = saved_folder(folder, run, adapter="adapters are merged")
    job = ExperimentPlan.model_validate(noted["job"])
    choice = choice_of(folder, run)
    return Part(row.id, run, noted["arms"][chosen], adapter, weight), job, choice


def _arm(wanted: str | None, noted: dict[str, Any], known: list[str], where: str) -> str:
    """The arm of `known` that goes by that name, label or version; without one the only candidate."""
    labels = labels_of(noted)
    told = ", ".join(f"{arm} ({labels[arm]})" for arm in known)
    if wanted is None:
        found = [arm for arm in known if arm in candidates_of(noted)] or known
    elif wanted in known:
        found = [wanted]
    else:
        found = [arm for arm in known if wanted in (labels[arm], noted["arms"][arm])]
    if not found:
        raise NotFound(f"no arm {wanted!r}", where=where, do=f"It has {told}.")
    if len(found) > 1:
        what = f"{len(found)} arms are called {wanted!r}" if wanted else f"it has {len(found)} candidates"
        raise UsageProblem(what, where=where, do=f"Say which behind a colon: {told}.")
    return found[0]


def _weighted(name: str) -> tuple[str, float]:
    split = _WEIGHTED.fullmatch(name)
    if split is None:
        return name, 1.0
    try:
        weight = float(split["weight"])
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise UsageProblem(f"{split['weight']!r} is no weight", where=name, do="For instance candidate=0.5 or =-1.")
    return split["name"], weight


def _split(ws: Workspace, wanted: str) -> tuple[str, str | None, int | None]:
    """`EXPERIMENT[:ARM[:SEED]]` in its parts."""
    if any(wanted in (row.id, row.name) for row in experiments(ws.store)):
        return wanted, None, None
    experiment, _, rest = wanted.partition(":")
    arm, _, seed = rest.partition(":")
    if seed and not seed.isdigit():
        raise UsageProblem(f"{seed!r} is no seed", where=wanted, do="For instance candidate:0.")
    return experiment, arm or None, int(seed) if seed else None


def _prompts(ws: Workspace, experiment: str) -> list[list[dict[str, Any]]]:
    """The first prompts of the experiment's eval set."""
    noted = json.loads(finished(ws, experiment).plan)
    items = ws.eval_rows(noted["evalset"]).slice(0, _PROMPTS).to_pylist()
    return [split_reference(json.loads(item["messages"]))[0] for item in items]


def _card(merged: Merged) -> str:
    """The README of the model folder."""
    rows = [[plain(p.version), p.experiment, p.run, f"{p.weight:g}"] for p in merged.parts]
    held = " Its linear layers were rounded to NF4 before, as in training." if merged.held != "dense" else ""
    checks = merged.checks
    return f"""---
base_model: {json.dumps(merged.base)}
tags: [sft-workbench]
---

# A merged model

{plain(merged.base)} with {len(rows)} LoRA adapter{"s" if len(rows) > 1 else ""} folded in ({merged.how}), saved in \
{merged.dtype}.{held}

{table(["trained on", "experiment", "run", "weight"], rows, right=[3])}

Read back and compared with the tuned model on {checks.positions:,} positions of {checks.prompts} prompts and answers: \
the same token is preferred at {checks.same_token:.1%} of them, no log-probability differs by more than \
{checks.largest:.2g} nats, and the mean divergence is {checks.divergence:.2g} nats, where that of the untuned base is \
{checks.untuned:.2g}.
"""
