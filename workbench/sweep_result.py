"""What a sweep over settings found: whether what the data does depends on the setting that it is trained by."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainer.statistics import holm
from trainer.variance import Clusters
from trainer.verdict import BETTER, NO_DIFFERENCE, WORSE, MetricSpec, measure
from workbench.arms import BASELINE
from workbench.contrasts import Contrast, Tables

_SIGNIFICANT = 0.05


def cost_of(summaries: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """What the runs of an arm took: the middle speed in trained tokens a second, the most memory, and bytes saved.

    None where no run told, as those of earlier releases.
    """
    costs = [summary["cost"] for summary in summaries if "cost" in summary]
    speeds = [cost["tokens_per_second"] for cost in costs if cost["tokens_per_second"]]
    found: dict[str, float | None] = {"tokens_per_second": round(statistics.median(speeds), 1) if speeds else None}
    for name in ("estimated_bytes", "peak_bytes", "saved_bytes"):
        found[name] = max((cost[name] for cost in costs if cost[name] is not None), default=None)
    return found


def data_effects(
    noted: Mapping[str, Any], tables: Mapping[str, Tables], contrasts: Sequence[Contrast], clusters: Clusters
) -> list[dict[str, Any]]:
    """What each further version does under every setting, against the first version under the same one.

    `effects` are the comparisons' own numbers on their primary metric. `changes` tell how an effect differs from that
    under the first setting: the difference of the two differences, item by item and seed by seed, with p corrected over
    the settings (Holm).
    """
    labels: dict[str, str] = noted["sweep"]["labels"]
    versions: dict[str, str] = noted["arms"]
    found = []
    for version in dict.fromkeys(versions.values()):
        own = [contrast for contrast in contrasts if versions[contrast.arm] == version != versions[contrast.against]]
        if not own:
            continue
        effects = [_effect(contrast, labels[contrast.arm]) for contrast in own]
        changes = _changes(own, labels, tables, clusters)
        told = {"candidate": version, "baseline": versions[BASELINE], "effects": effects, "changes": changes}
        found.append(told | {"sentences": _sentences(told)})
    return found


def _effect(contrast: Contrast, label: str) -> dict[str, Any]:
    primary = contrast.verdict.metrics[0].as_json()
    return {"setting": label, "metric": primary["name"]} | {key: primary[key] for key in ("delta", "ci", "verdict")}


def _changes(
    own: Sequence[Contrast], labels: Mapping[str, str], tables: Mapping[str, Tables], clusters: Clusters
) -> list[dict[str, Any]]:
    first, *others = own
    primary = first.verdict.metrics[0]
    spec = MetricSpec(primary.name, "primary", higher_is_better=primary.higher_is_better)

    def effect(contrast: Contrast) -> Any:
        return tables[contrast.arm][spec.name] - tables[contrast.against][spec.name]

    measured = [measure(replace(spec), effect(first), effect(other), clusters=clusters) for other in others]
    corrected = holm([one.difference.decisive_p for one in measured]) if measured else []
    return [
        {
            "setting": labels[other.arm],
            "against": labels[first.arm],
            "delta": one.difference.delta,
            "ci": [bound if math.isfinite(bound) else None for bound in one.difference.ci],
            "p": p,
        }
        for other, one, p in zip(others, measured, corrected, strict=True)
    ]


def _sentences(told: Mapping[str, Any]) -> list[str]:
    """Whether the sign of a data effect holds over the settings, and which settings change it."""
    candidate, baseline = told["candidate"], told["baseline"]
    by_word: dict[str, list[str]] = {}
    for effect in told["effects"]:
        by_word.setdefault(effect["verdict"], []).append(effect["setting"])
    better, worse, neither = (by_word.get(word, []) for word in (BETTER, WORSE, NO_DIFFERENCE))
    count = len(told["effects"])
    if better and worse:
        sentence = (
            f"{candidate} against {baseline} turns around: better under {', '.join(better)}; worse under "
            f"{', '.join(worse)}. What the data does is an effect of the setting, too."
        )
    elif better or worse:
        word, where = (BETTER, better) if better else (WORSE, worse)
        sentence = f"{candidate} is {word} than {baseline} under "
        sentence += f"all {count} settings." if not neither else f"{len(where)} of {count} settings; "
        if neither:
            sentence += f"under {', '.join(neither)} no difference is shown. Nowhere is the opposite."
    else:
        sentence = f"{candidate} is not shown to differ from {baseline} under any of the {count} settings."
    changed = [
        f"under {one['setting']} by {one['delta']:+.2g} (95% interval {one['ci'][0]:+.2g} to {one['ci'][1]:+.2g})"
        for one in told["changes"]
        if one["p"] < _SIGNIFICANT
    ]
    first = told["effects"][0]["setting"]
    if changed:
        size = f"How much the data does depends on the setting: against {first} it differs {'; '.join(changed)}."
    else:
        size = f"No setting is shown to change how much the data does, against {first}."
    return [sentence, size]
