"""A verdict on a terminal: one word, one table, the reasons, and the answers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from workbench.report.pairs import arms, comparisons, pair
from workbench.report.sweep import ABOUT, data_sentences, render_settings, settings_table
from workbench.text import safe_text

STYLES = {"better": "bold green", "worse": "bold red", "mixed": "bold yellow", "no difference detected": "bold"}
SMALLEST = "the true effect this experiment finds four times in five"
"""What the smallest detectable effect is, in words."""

_NAMES = {
    "response_nll": "response NLL\n(nats/token)",
    "prompt_gain": "prompt gain\n(nats/token)",
    "stop_rate": "stop rate",
    "repetition": "repetition\n(rep-4)",
    "general_nll": "general NLL\n(nats/token)",
    "general_kl": "KL to the base\n(nats/token)",
    "win_rate": "win rate\n(judge)",
    "win_rate_controlled": "win rate, of\nequal length",
    "instructions_strict": "instructions\nfollowed",
    "instructions_loose": "the same,\nloose",
    "all_instructions_strict": "all of an item\nfollowed",
    "all_instructions_loose": "the same,\nloose",
    "regurgitation": "recited from\ntraining rows",
}

_ALONE = {
    "instructions_loose": "instructions, loose",
    "all_instructions_loose": "all of an item, loose",
}
"""Names that mean something in a table only, below the one that they go on from."""

_SHIFTS = {
    "answer_tokens": "tokens of an answer",
    "has_list": "answers with a list",
    "has_code": "answers with a code fence",
    "has_heading": "answers with a heading",
}

RANKED = "Ranked by the mean: whether two arms differ, only a verdict tells."

_LEGEND = f"* decides. ↑↓ better. Smallest found: {SMALLEST}. "


@dataclass(frozen=True)
class Side:
    """One item's answers: the prompt's last turn, the reference, and the answer of each arm with its finish."""

    item: int
    prompt: str
    reference: str
    answers: dict[str, tuple[str, str]]


def render_result(result: dict[str, Any]) -> RenderableType:
    """The result of an experiment (the JSON of `compare`) for a terminal of 80 columns or more."""
    parts: list[RenderableType] = []
    compared = comparisons(result)
    if compared:
        parts.append(_headline(compared))
    if settings_table(result):
        parts += [render_settings(result), Text(ABOUT, style="dim")]
        parts += [Text(safe_text(f"- {sentence}")) for sentence in data_sentences(result)]
    elif len(arms(result)) > 2:
        parts += [_ranking(result), Text(RANKED, style="dim")]
    for number in range(max(len(compared), 1)):
        one = pair(result, number)
        if len(compared) > 1:
            parts.append(Text.assemble("\n", (safe_text(f"{one['candidate']} against {one['baseline']}"), "bold")))
        parts.append(_table(one))
        parts += [Text(safe_text(f"- {sentence}")) for sentence in (*sentences(one), *shifts(one))]
    parts += [Text(safe_text(f"- {sentence}")) for sentence in recited(result)]
    legend = _LEGEND if result["verdict"] else ""
    notes = (checks(result), left_out(result), legend + setting(result))
    parts += [Text(safe_text(note), style="dim") for note in notes if note]
    return Group(*parts)


def _headline(compared: Sequence[dict[str, Any]]) -> Panel:
    lines = Text("\n").join(
        Text.assemble(
            (safe_text(str(one["candidate"])), "bold"),
            " against ",
            (safe_text(str(one["baseline"])), "bold"),
            ": ",
            (one["verdict"], STYLES[one["verdict"]]),
        )
        for one in compared
    )
    title = "verdict" if len(compared) == 1 else "verdicts"
    return Panel(lines, title=title, title_align="left", expand=False)


def _ranking(result: dict[str, Any]) -> Table:
    """All arms, the best first, by the mean of the primary metric, with what each verdict says of them."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("", justify="right")
    table.add_column("arm")
    for name in ("rows", "trained\ntokens"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(_NAMES.get(result["ranked_by"], result["ranked_by"]), justify="right", no_wrap=True)
    table.add_column("")
    for row in ranking(result):
        said = Text(row.said, style=STYLES.get(row.said, ""))
        numbers = [row.rows, row.trained_tokens, number(row.mean)]
        table.add_row(row.place, safe_text(row.label), *map(Text, numbers), said)
    return table


@dataclass(frozen=True)
class Ranked:
    """A line of the ranking, as text but for the `mean`; the base model has no place. `said` is the verdict or role."""

    place: str
    label: str
    rows: str
    trained_tokens: str
    mean: float | None
    said: str


def ranking(result: dict[str, Any]) -> list[Ranked]:
    """The arms of a result of three or more, the best first, then the untrained model."""
    verdicts = {one["arm"]: one["verdict"] for one in comparisons(result)}
    by = result["ranked_by"]
    found = [
        Ranked(
            place=str(arm["rank"]),
            label=arm["label"],
            rows=f"{arm['rows']:,}" if arm["rows"] is not None else "-",
            trained_tokens=f"{arm['trained_tokens']:,}",
            mean=result["means"][arm["arm"]].get(by),
            said=verdicts.get(arm["arm"]) or (f"control {arm['control']}" if arm["control"] else "baseline"),
        )
        for arm in sorted(result["arms"], key=lambda arm: arm["rank"])
    ]
    return [*found, Ranked("", "base", "-", "-", result["means"]["base"].get(by), "not trained")]


def _table(result: dict[str, Any]) -> Table:
    # 80 columns must do: names and intervals take two lines, words may wrap, numbers never do.
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("metric", no_wrap=True)
    for name in ("base", "baseline", "candidate"):
        if name in result["means"]:
            table.add_column(name, justify="right", no_wrap=True)
    if not result["verdict"]:
        for metric, value in result["means"]["baseline"].items():
            row = [number(result["means"]["base"].get(metric)), number(value)]
            table.add_row(_name(metric), *map(Text, row))
        return table
    table.add_column("change", justify="right", no_wrap=True)
    table.add_column("95%\ninterval", justify="right", no_wrap=True)
    table.add_column("smallest\nfound", justify="right", no_wrap=True)
    table.add_column("")
    for metric in result["metrics"]:
        low, high = metric["ci"]
        numbers = (
            number(result["means"]["base"].get(metric["name"])),
            number(metric["baseline"]),
            number(metric["candidate"]),
            number(metric["delta"], signed=True),
            f"{number(low, signed=True)} …\n{number(high, signed=True)}" if low is not None else "unknown",
            number(metric["mde"]) if metric["mde"] is not None else "unknown",
        )
        table.add_row(
            _name(metric["name"])
            + Text(" ↑" if metric["higher_is_better"] else " ↓")
            + Text(" *" if metric["role"] == "primary" else ""),
            *map(Text, numbers),
            Text(metric["verdict"], style=STYLES[metric["verdict"]]),
        )
    return table


def view_title(view: Mapping[str, Any], of: int) -> str:
    """The heading of one comparison of `of` in a report."""
    if not view["verdict"]:
        return "What was measured"
    return "The verdict" if of == 1 else f"{view['candidate']} against {view['baseline']}"


def items_title(views: Sequence[Mapping[str, Any]]) -> str:
    """The heading of the single items, which are those of the first comparison."""
    return "Single items" if len(views) == 1 else f"Single items: {view_title(views[0], len(views))}"


def metric_name(metric: str) -> str:
    """A metric as people call it, with its unit, on one line."""
    return _ALONE.get(metric) or _NAMES.get(metric, metric).replace("\n", " ")


def plain_name(metric: str) -> str:
    """A metric as people call it in a sentence."""
    return metric_name(metric).partition(" (")[0]


def sentences(result: dict[str, Any]) -> list[str]:
    """The reasons of a verdict as people read them: in the JSON, some begin with the key of a metric."""
    return [_in_words(sentence) for sentence in result["sentences"]]


def _in_words(sentence: str) -> str:
    key, colon, rest = sentence.partition(":")
    return f"{plain_name(key)}{colon}{rest}" if key in _NAMES else sentence


def _name(metric: str) -> Text:
    return Text(safe_text(_NAMES.get(metric, metric), newlines=True))


def number(value: float | None, *, signed: bool = False) -> str:
    """A measured number to three decimals; `-` where there is none."""
    if value is None:
        return "-"
    value = round(value, 3) + 0.0  # no "-0.000"
    return f"{value:+.3f}" if signed else f"{value:.3f}"


def shifts(result: dict[str, Any]) -> list[str]:
    """How length and shape of the answers moved, in sentences that judge nothing."""
    told = []
    for shift in result.get("shifts", []):
        share = shift["name"] != "answer_tokens"
        base = "" if shift["base"] is None else f", the base {_amount(shift['base'], share)}"
        low, high = shift["ci"]
        spread = "" if low is None else f" (95% interval {number(low, signed=True)} to {number(high, signed=True)})"
        if shift["baseline"] or shift["candidate"]:
            told.append(
                f"{_SHIFTS[shift['name']]}: {_amount(shift['baseline'], share)} to "
                f"{_amount(shift['candidate'], share)}{base}; change {number(shift['delta'], signed=True)}{spread}."
            )
    return told


def _amount(value: float, share: bool) -> str:
    return f"{value:.0%}" if share else f"{value:.1f}"


def recited(result: dict[str, Any]) -> list[str]:
    """How much of the base's answers stands in the arms' training rows, where any arm recites something."""
    arms = {arm: means for arm, means in result["means"].items() if means.get("regurgitation")}
    controls = [
        f"{arm} {means['regurgitation']:.1%}, of the base's {means['regurgitation_control']:.1%}"
        for arm, means in arms.items()
        if "regurgitation_control" in means
    ]
    return [f"runs of 8 words that stand in an arm's training answers: {'; '.join(controls)}."] if controls else []


def checks(result: dict[str, Any]) -> str:
    """What every run checked of itself, over all runs, in one line."""
    runs = [run for run in result.get("sanity", {}).values() if run["gradient_reach"] is not None]
    if not runs:
        return ""
    step0 = max(run["step0_difference"] for run in runs)
    reach = min(run["gradient_reach"] for run in runs)
    shares = sorted({f"{run['trainable_share']:.1%}" for run in runs}, key=lambda share: float(share[:-1]))
    what = "the adapter" if shares[-1] != "100.0%" else "what is trained"
    text = (
        f"checks of all runs: first loss off the base's by {step0:.2g} at most; gradients reach {reach:.0%} of {what}, "
        f"{' to '.join(dict.fromkeys((shares[0], shares[-1])))} of all parameters"
    )
    watched = [(run["validation_before"], run["validation_after"]) for run in runs if run["validation_after"]]
    if watched:
        before, after = (sum(values) / len(values) for values in zip(*watched, strict=True))
        text += f"; loss on rows held out of training {before:.3f} to {after:.3f}"
    return text


def left_out(result: dict[str, Any]) -> str:
    """What could not be trained on, or only in part, for each arm and reason; empty where there is nothing."""
    told = [
        f"{arm} " + ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        for arm, reasons in result.get("left_out", {}).items()
        if reasons
    ]
    return f"rows left out or cut: {'; '.join(told)}" if told else ""


def setting(result: dict[str, Any]) -> str:
    """What was compared, and how, in one line."""
    settings = result["settings"]
    seeds = f"{result['seeds']} seed{'s' if result['seeds'] > 1 else ''} an arm"
    tokens = ", ".join(f"{arm} {count:,}" for arm, count in result["trained_tokens"].items())
    if result.get("sweep"):  # each method holds it in its own way
        settings = settings | {"held": ""}
    return (
        f"experiment {result['experiment']} · {settings['model']} ({_model(settings)}) · "
        f"{seeds} · trained tokens a run: {tokens} · eval set {settings['evalset']}"
    )


def _model(settings: dict[str, Any]) -> str:
    """How the model was held, and which weights its name stood for."""
    known = (settings["held"], settings["dtype"], str(settings.get("revision", ""))[:24])
    return ", ".join(part for part in known if part)


def render_sides(sides: Sequence[Side], arms: dict[str, str], limit: int) -> RenderableType:
    """Items by their numbers, with the answers of base, baseline and candidate below each other, `limit` of them.

    Items are taken evenly from the whole eval set, not by how they came out.
    """
    step = max(1, len(sides) // max(limit, 1))
    shown = sides[::step][:limit]
    text = Text()
    for side in shown:
        text.append(f"item {side.item}\n", style="dim")
        text.append(f"prompt     {_short(side.prompt)}\n", style="bold")
        text.append(f"reference  {_short(side.reference)}\n", style="dim")
        for arm, (answer, finish) in sorted(side.answers.items(), key=lambda pair: ["base", *arms].index(pair[0])):
            cut = " ✂" if finish == "length" else ""
            text.append(f"{_short(arms.get(arm, arm), 10):<10} {_short(answer)}{cut}\n")
        text.append("\n")
    if any(finish == "length" for side in shown for _, finish in side.answers.values()):
        text.append("✂ the answer ran into the limit of new tokens\n", style="dim")
    return text


def _short(text: str, width: int = 200) -> str:
    line = safe_text(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"
