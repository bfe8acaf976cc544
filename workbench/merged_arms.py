"""Arms that are not trained but made of the adapters of others: how they are asked for, called, and told apart."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from trainer.plan import Combination, ExperimentPlan, MergedArm
from workbench.arms import digest
from workbench.errors import UsageProblem

MERGED = "merged"
"""The name of the first such arm; the others are numbered as candidates are."""

FORM = "HOW[=DENSITY]:VERSION+VERSION[:WEIGHT,WEIGHT]"
_SHAPE = re.compile(r"(?P<how>[\w-]+)(=(?P<density>[^:]*))?:(?P<parts>[^:]*[^:+])(:(?P<weights>[^:]*))?")
_USUAL_DENSITY = float(MergedArm.model_fields["density"].default)


@dataclass(frozen=True)
class Merged:
    """A merged arm that was measured: `of` has the weights of what it was made of, as this is called.

    `kept` is the share of the combined update that the adapter of the first run keeps.
    """

    how: Combination
    density: float
    of: dict[str, float]
    kept: float

    @classmethod
    def of_run(cls, merged: MergedArm, labels: Mapping[str, str], summary: Mapping[str, Any]) -> Merged:
        """What the summary of a run of such an arm tells of it."""
        of = {labels[arm]: weight for arm, weight in merged.of.items()}
        return cls(merged.how, merged.density, of, summary["kept"])

    def sentence(self, label: str) -> str:
        """That it was not trained, and of what it was made."""
        *others, last = self.of
        parts = f"{', '.join(others)} and {last}" if others else last
        told = f"{label} was not trained: for each seed it was made of what {parts} learnt by it"
        if self.kept < 0.9995:
            told += f", and keeps {self.kept:.0%} of the combined update, as much as its rank holds"
        return f"{told}."


def merged_of(noted: Mapping[str, Any]) -> dict[str, MergedArm]:
    """The merged arms of an experiment as it was noted."""
    return {arm: MergedArm.model_validate(made) for arm, made in noted["job"].get("merged", {}).items()}


def make_merged(asked: Sequence[str], labels: Mapping[str, str]) -> dict[str, MergedArm]:
    """The merged arms that are asked for (`FORM`), by name. `labels` is how the arms that are trained are called.

    A weight that is not given is 1. Raises UsageProblem for what cannot be made.
    """
    made = [_parse(text, labels) for text in asked]
    if len({repr(one) for one in made}) < len(made):
        raise UsageProblem("--merge asks for the same arm twice", do="Leave one of them out.")
    return {MERGED if number == 1 else f"{MERGED}{number}": one for number, one in enumerate(made, 1)}


def check_parts(plan: ExperimentPlan, labels: Mapping[str, str]) -> None:
    """Raise UsageProblem where PEFT cannot combine the parts of a merged arm, or they lie on unlike bases."""
    for made in plan.merged.values():
        where = f"--merge {spelled(made, labels)}"
        held = set()
        for arm in made.of:
            own = plan.settings.get(arm)
            training = own.training if own else plan.training
            if training and training.method not in ("lora", "peft"):
                what = f"{labels[arm]} is trained by {training.method}, and only LoRA adapters can be combined"
                raise UsageProblem(what, where=where)
            held.add(own.quantize if own else plan.model.quantize)
        if len(held) > 1:
            raise UsageProblem(
                "its parts are trained on a base that is held in different ways",
                where=where,
                do="Merge arms that are all trained in 4 bits, or none of them.",
            )


def said(merged: MergedArm, labels: Mapping[str, str]) -> str:
    """A merged arm before people: `linear(good - 0.5 bad)`, `ties=0.3(code + chat)`."""
    terms = ""
    for arm, weight in merged.of.items():
        times = "" if abs(weight) == 1 else f"{abs(weight):g} "
        sign = ("-" if weight < 0 else "") if not terms else (" - " if weight < 0 else " + ")
        terms += f"{sign}{times}{labels[arm]}"
    return f"{_how(merged)}({terms})"


def spelled(merged: MergedArm, labels: Mapping[str, str]) -> str:
    """A merged arm as `--merge` takes it; an arm whose version is that of another one too goes by its own name."""
    called = list(labels.values())
    names = [labels[arm] if called.count(labels[arm]) == 1 else arm for arm in merged.of]
    weights = ",".join(f"{weight!r}" for weight in merged.of.values())
    ones = all(weight == 1 for weight in merged.of.values())
    return f"{_how(merged)}:{'+'.join(names)}" + ("" if ones else f":{weights}")


def merged_hashes(merged: Mapping[str, MergedArm], hashes: Mapping[str, str]) -> dict[str, str]:
    """What tells merged arms apart; `hashes` is what tells those that are trained."""
    return {
        arm: digest("merged", made.how, made.density, [[hashes[part], weight] for part, weight in made.of.items()])
        for arm, made in merged.items()
    }


def merged_keys(plan: ExperimentPlan, keys: Mapping[str, str]) -> dict[str, str]:
    """What tells the merged runs of a plan apart, whichever experiment they belong to, by run id.

    `keys` are those of the runs that are trained: a merged run is the same where its parts and its method are.
    """
    found = {}
    for run in plan.runs:
        if made := plan.merged.get(run.arm):
            parts = zip((keys[part.id] for part in plan.parts(run)), made.of.values(), strict=True)
            found[run.id] = digest("merged", made.how, made.density, [list(part) for part in parts], run.seed)
    return found


def _how(merged: MergedArm) -> str:
    return merged.how if merged.density == _USUAL_DENSITY else f"{merged.how}={merged.density:g}"


def _parse(text: str, labels: Mapping[str, str]) -> MergedArm:
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise UsageProblem(f"--merge takes {FORM}, not {text!r}", do="For instance ties:code+chat.")
    how = next((known for known in get_args(Combination) if known == shape["how"]), None)
    if how is None:
        raise UsageProblem(f"{shape['how']!r} is no way to merge", do=f"There are {', '.join(get_args(Combination))}.")
    density = _USUAL_DENSITY
    if shape["density"] is not None:
        density = _number(shape["density"], text)
        if how == "linear" or not 0 < density <= 1:
            raise UsageProblem(
                f"{shape['density']} is no density of {how}",
                where=f"--merge {text}",
                do="It is the share of each update that ties and dare keep, above 0 and at most 1.",
            )
    arms = _arms(shape["parts"], labels, text)
    weights = [1.0] * len(arms)
    if shape["weights"] is not None:
        weights = [_number(weight, text) for weight in shape["weights"].split(",")]
    if len(weights) != len(arms) or len(set(arms)) < len(arms):
        raise UsageProblem(
            "each version takes part once, with one weight: "
            f"these are {len(set(arms))} versions and {len(weights)} weights",
            where=f"--merge {text}",
            do="For instance linear:good+bad:1,-0.5.",
        )
    return MergedArm(how=how, of=dict(zip(arms, weights, strict=True)), density=density)


def _arms(parts: str, labels: Mapping[str, str], text: str) -> list[str]:
    """The arms that `VERSION+VERSION` names. Names may hold a plus themselves: the longest that is known is taken."""
    by_label = {label: arm for arm, label in reversed(list(labels.items()))}
    found, rest = [], parts
    while rest:
        fitting = [name for name in (*by_label, *labels) if f"{rest}+".startswith(f"{name}+")]
        if not fitting:
            raise UsageProblem(
                f"{rest.partition('+')[0]!r} is no version of this comparison",
                where=f"--merge {text}",
                do=f"An arm is made of arms that are trained beside it: {', '.join(labels.values())}.",
            )
        name = max(fitting, key=len)
        found.append(by_label.get(name, name))
        rest = rest[len(name) + 1 :]
    return found


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        do = "For instance linear:good+bad:1,-0.5."
        raise UsageProblem(f"{text!r} is no number", where=f"--merge {where}", do=do)
    return number
