"""What each step of a recipe is worth: the versions to compare, made by leaving steps out or taking one alone.

What was asked, and which experiment answers each part of it, is kept in a small file of the workspace (`keep`), so
that an ablation is found again as one thing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from trainer.models import DEFAULT_MODEL
from trainer.protocol import read_events, write_atomic
from workbench.arms import digest
from workbench.asked_data import find_eval_set
from workbench.consent import Agrees, within_budget
from workbench.curation import RunReport, find_recipe
from workbench.errors import BadInput, UsageProblem
from workbench.experiments import DEFAULT_MINUTES, Question
from workbench.recipe_text import RecipeText, split
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from filters.step import Progress

Mode = Literal["leave-one-out", "add-one"]


@dataclass(frozen=True)
class Side:
    """A version of an ablation. `version` is its name, also where a dry run did not make it."""

    version: str
    rows: int
    manifest_hash: str


@dataclass(frozen=True)
class Variant:
    """The baseline but for one step. `position` counts the recipe's steps from 1; `same` rows need no training."""

    step: str
    position: int
    side: Side
    same: bool


@dataclass(frozen=True)
class Ablation:
    """What is compared: the full recipe, or the rows without any step, with a version for each step."""

    mode: Mode
    baseline: Side
    variants: tuple[Variant, ...]

    @property
    def to_compare(self) -> tuple[Variant, ...]:
        """The variants that are other data than the baseline."""
        return tuple(variant for variant in self.variants if not variant.same)


@dataclass(frozen=True)
class Came:
    """What a comparison of an ablation came to: its experiment, or that it has none (`state`) and `why`."""

    experiment: str | None = None
    state: Literal["refused", "failed"] | None = None
    why: str = ""


@dataclass(frozen=True)
class Kept:
    """An ablation as the workspace keeps it: what was asked, and by candidate version what came of it so far.

    `going` tells that its comparisons are to be made one after another; see `workbench.ablation_runs`.
    """

    id: str
    recipe: str
    inputs: tuple[str, ...]
    ablation: Ablation
    question: Question
    created_at: datetime
    """In UTC, as that of experiments is."""
    came: dict[str, Came] = field(default_factory=dict)
    going: bool = False


def keep(ws: Workspace, recipe: str, inputs: Sequence[str], ablation: Ablation, question: Question) -> Kept:
    """Keep an ablation whose versions are made; asked again, it is the one that is there.

    Raises as `find_eval_set` does.
    """
    question = replace(
        question,
        baseline=ablation.baseline.version,
        candidate=None,
        model=question.model or ws.config.model or DEFAULT_MODEL,
        evalset=find_eval_set(ws, question.evalset).name,
    )
    asked = TypeAdapter(Question).dump_python(question, mode="json")
    sides = [(v.position, v.side.version, v.side.manifest_hash) for v in ablation.variants]
    id = digest(ablation.mode, ablation.baseline.version, ablation.baseline.manifest_hash, sides, asked)[:10]
    there = _read(_file(ws, id))
    if there:
        return there
    kept = Kept(id, Path(recipe).stem, tuple(inputs), ablation, question, datetime.now(UTC).replace(tzinfo=None))
    save(ws, kept)
    return kept


def save(ws: Workspace, kept: Kept) -> None:
    """Write what is kept of an ablation."""
    file = _file(ws, kept.id)
    file.parent.mkdir(exist_ok=True)
    write_atomic(file, TypeAdapter(Kept).dump_json(kept, indent=1).decode())


def note(ws: Workspace, id: str, version: str, came: Came) -> None:
    """Note what came of the comparison with a version."""
    if kept := _read(_file(ws, id)):
        save(ws, replace(kept, came=kept.came | {version: came}))


def forget(ws: Workspace, id: str) -> None:
    """Keep an ablation no longer. Its versions and experiments stay."""
    _file(ws, id).unlink(missing_ok=True)


def all_kept(ws: Workspace) -> list[Kept]:
    """All ablations, oldest first; without files that cannot be read, which the same question writes anew."""
    found = [kept for file in ws.ablations_dir.glob("*.json") if (kept := _read(file))]
    return sorted(found, key=lambda kept: (kept.created_at, kept.id))


def _file(ws: Workspace, id: str) -> Path:
    return ws.ablations_dir / f"{id}.json"


def _read(file: Path) -> Kept | None:
    try:
        return TypeAdapter(Kept).validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def prepare(
    ws: Workspace,
    recipe: str,
    from_: Sequence[str],
    *,
    mode: Mode,
    steps: Sequence[str] = (),
    name: str | None = None,
    dry_run: bool = False,
    allow_wipeout: bool = False,
    agrees: Agrees = within_budget,
    progress: Progress | None = None,
) -> Ablation:
    """Make the versions of an ablation, or only count their rows; those that are there already are taken.

    `steps` are names or positions (from 1) of the steps that are asked about; all of them where it is empty. `name`
    begins the names of the versions. Raises as `Workspace.run_recipe`, and UsageProblem for a step that is not there.
    """
    from filters.recipe import load_recipe, parse_recipe

    path = find_recipe(recipe)
    defaults = ws.config.step_defaults()
    full = load_recipe(path, defaults)
    names = [step.name for step in full.steps]
    labels = [name if names.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(names, 1)]
    chosen = _chosen(names, steps)
    head = name or f"{'-'.join(from_)}-{full.name}"

    def made(text: RecipeText, version: str) -> Side:
        if not text.blocks:
            return _as_it_is(ws, from_, f"{head}-as-is", dry_run=dry_run)
        parsed = parse_recipe(str(text), name=str(path), defaults=defaults)
        report: RunReport = ws.run_recipe(
            parsed, from_, version, dry_run=dry_run, allow_wipeout=allow_wipeout, agrees=agrees, progress=progress
        )
        return Side(version, report.rows_out, report.manifest_hash)

    pieces = split(full.text)
    if mode == "leave-one-out":
        baseline = made(pieces, head)
        texts = {i: (pieces.without_step(i), f"{head}-without-{labels[i]}") for i in chosen}
    else:
        baseline = _as_it_is(ws, from_, f"{head}-as-is", dry_run=dry_run)
        texts = {i: (_only(pieces, i), f"{head}-only-{labels[i]}") for i in chosen}
    variants = []
    for i, (text, version) in texts.items():
        side = made(text, version)
        variants.append(Variant(labels[i], i + 1, side, side.manifest_hash == baseline.manifest_hash))
    return Ablation(mode, baseline, tuple(variants))


def questions(ablation: Ablation, question: Question) -> list[Question]:
    """A question for each variant that is to be compared, in order: its runs of the baseline are shared by all.

    A budget in minutes is for all of them together; the first measures what its share buys, for the others too.
    """
    asked = [replace(question, candidate=variant.side.version) for variant in ablation.to_compare]
    if question.trained_tokens or not asked:
        return asked
    noise = 1 if question.seeds == 1 else 0
    every = question.seeds * (1 + len(asked)) + noise
    share = (question.minutes or DEFAULT_MINUTES) * (2 * question.seeds + noise) / every
    return [replace(one, minutes=share) for one in asked]


def runs_of(ablation: Ablation, seeds: int) -> int:
    """How many runs the comparisons are, the baseline's counted once."""
    compared = len(ablation.to_compare)
    return seeds * (1 + compared) + (seeds == 1) if compared else 0


def trained_tokens(ws: Workspace, experiment: str) -> dict[str, int]:
    """Trained tokens of one pass over each arm of an experiment, as its job counted them; empty without its folder."""
    events, _ = read_events(ws.runs_dir / experiment)
    told = [event for event in events if event["event"] == "arm"]
    return {str(event["arm"]): int(str(event["trained_tokens"])) for event in told}


def worth(ablation: Ablation, compared: dict[str, dict[str, Any]], tokens: dict[str, int]) -> list[dict[str, Any]]:
    """A row for each step: its version and, by the name of that, what the comparison came to.

    `compared` has `state` (`done`, `refused`, `failed` or `not run`), and what `series.Compared` tells or `why` not;
    `tokens` are those of one pass over a version.
    """
    found = []
    for variant in ablation.variants:
        side = variant.side
        came = {"state": "same rows"} if variant.same else compared.get(side.version, {"state": "not run"})
        found.append(
            {
                "step": variant.step,
                "position": variant.position,
                "version": side.version,
                "rows": side.rows,
                "rows_more": side.rows - ablation.baseline.rows,
                "trained_tokens": tokens.get(side.version),
            }
            | came
        )
    return found


def _chosen(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Indices of the steps that are asked about, in the order of the recipe."""
    unknown = [one for one in wanted if one not in names and not (one.isdigit() and 1 <= int(one) <= len(names))]
    if unknown:
        raise UsageProblem(
            f"the recipe has no step {' or '.join(map(repr, unknown))}",
            do="It has " + ", ".join(f"{i} {name}" for i, name in enumerate(names, 1)) + ".",
        )
    return [i for i, name in enumerate(names) if not wanted or name in wanted or str(i + 1) in wanted]


def _only(pieces: RecipeText, position: int) -> RecipeText:
    for other in reversed(range(len(pieces.blocks))):
        if other != position:
            pieces = pieces.without_step(other)
    return pieces


def _as_it_is(ws: Workspace, from_: Sequence[str], name: str, *, dry_run: bool) -> Side:
    """The rows without any step: a version itself, or a source frozen."""
    if len(from_) != 1:
        do = "Make one version of them first, with `workbench run` and a recipe that drops nothing."
        raise UsageProblem("the rows without any step can be had of one source or version only", do=do)
    there = ws.store.version(from_[0])
    if there is None and not dry_run:
        there, _ = ws.freeze(from_[0], name)
    if there is not None:
        return Side(there.name, there.rows, there.manifest_hash)
    from workbench.store.versions import manifest_hash

    hashes = list(itertools.chain.from_iterable(b.column("content_hash").to_pylist() for b in ws.rows(from_[0])))
    if not hashes:
        raise BadInput("there are no rows", where=from_[0])
    return Side(name, len(hashes), manifest_hash(hashes))
