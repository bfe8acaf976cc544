"""The result of an experiment of many arms, looked at as one of its comparisons: the JSON of `compare` for two arms.

Whatever shows a baseline beside a candidate so shows any two arms that were compared.
"""

from __future__ import annotations

from typing import Any


def comparisons(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The comparisons of candidates with the baseline, in order; results of earlier releases have one at most."""
    return [one for one in all_comparisons(result) if one["control"] is None]


def all_comparisons(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Those and, behind them, the comparisons of candidates with controls."""
    if "comparisons" in result:
        found: list[dict[str, Any]] = result["comparisons"]
        return found
    if not result.get("verdict"):
        return []
    primary = next(metric for metric in result["metrics"] if metric["name"] == result["primary"])
    told = {"arm": "candidate", "against": "baseline", "control": None, "p_alone": primary.get("p_decisive")}
    return [result | told]


def arms(result: dict[str, Any]) -> dict[str, str]:
    """How each arm of a result is called, the baseline first."""
    if "arms" in result:
        return {arm["arm"]: arm["label"] for arm in result["arms"]}
    found = {"baseline": result["baseline"], "candidate": result["candidate"]}
    return {arm: version for arm, version in found.items() if version}


def pair(result: dict[str, Any], number: int = 0) -> dict[str, Any]:
    """The result as the comparison number `number` alone; where there is none, as it is."""
    found = all_comparisons(result)
    if not found:
        return result
    one = found[number]
    names = {"baseline": one["against"], "candidate": one["arm"]}

    def of_two(by_arm: dict[str, Any]) -> dict[str, Any]:
        return {side: by_arm[arm] for side, arm in names.items() if arm in by_arm}

    base = {"base": result["means"]["base"]} if "base" in result["means"] else {}
    return (
        result
        | {key: value for key, value in one.items() if key in result}
        | {
            "trained_tokens": of_two(result["trained_tokens"]),
            "means": base | of_two(result["means"]),
            "left_out": of_two(result.get("left_out", {})),
        }
    )
