"""`workbench judge`: have a model rate rows by a rubric, and see how far it agrees with people."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from workbench.cli import common
from workbench.cli.consent import with_consent
from workbench.text import counted

if TYPE_CHECKING:
    from filters.judge.agreement import Estimate
    from workbench.consent import Agrees, Tally
    from workbench.judge_pairs import Pairs, PairVerdicts
    from workbench.judging import Asking, Compared, Judged, Preflight

F = TypeVar("F", bound=Callable[..., Any])

_JUDGE_OPTIONS = [
    click.option("--rubric", default="helpfulness", show_default=True, help="A shipped rubric's name, or a file."),
    click.option("--model", help="The judge: a model's name at the endpoint, or one to load on this machine."),
    click.option("--base-url", metavar="URL", help="An OpenAI-compatible endpoint, such as http://localhost:8000/v1."),
    click.option("--reward", is_flag=True, help="--model is a reward model, loaded on this machine; no rubric."),
    click.option("--temperature", type=click.FloatRange(0, 2), help="What an endpoint is asked with. Default: 0."),
    click.option(
        "--max-reply-tokens", type=click.IntRange(min=1), metavar="N", help="The most an answer may take. Default: 400."
    ),
]
_SPENDING_OPTIONS = [
    click.option(
        "--key-variable", metavar="NAME", help="The environment variable with the key. Default: OPENAI_API_KEY."
    ),
    click.option("--concurrency", type=click.IntRange(1, 256), metavar="N", help="Calls at a time. Default: 8."),
    click.option("--timeout", type=click.FloatRange(min=0.1), metavar="SECONDS", help="For one answer. Default: 50."),
    click.option("--calls-per-minute", type=click.FloatRange(min=0.1), metavar="N", help="Call no faster than this."),
    click.option("--budget-calls", type=click.IntRange(min=1), metavar="N", help="Stop before more calls than this."),
    click.option("--budget-tokens", type=click.IntRange(min=1), metavar="N", help="Stop before more tokens than this."),
    click.option(
        "--budget-cost", type=click.FloatRange(min=0, min_open=True), metavar="X", help="Stop before this cost."
    ),
    click.option("--price-in", type=click.FloatRange(min=0), metavar="X", help="Price of a million tokens asked."),
    click.option("--price-out", type=click.FloatRange(min=0), metavar="X", help="Price of a million tokens answered."),
    click.option("--give-up/--no-give-up", default=None, help="Whether to end where no first answer can be used."),
    click.option("--dry-run", is_flag=True, help="Say what it would take; ask nothing."),
    click.option("--yes", is_flag=True, help="Do not ask before spending."),
]


def _judge_options(command: F) -> F:
    """The options that say who judges by what: scores are kept by them."""
    for option in reversed(_JUDGE_OPTIONS):
        command = option(command)
    return command


def _spending_options(command: F) -> F:
    """The options that say how fast an endpoint is asked, and how much it may cost."""
    for option in reversed(_SPENDING_OPTIONS):
        command = option(command)
    return command


@click.group("judge", cls=common.Group)
def command() -> None:
    """Have a model rate rows by a rubric, and see how far it agrees with people.

    Without --base-url the model is loaded on this machine, by default a small one that judges poorly.
    WORKBENCH_JUDGE_URL and WORKBENCH_JUDGE_MODEL, or workbench.toml, set another default.
    """


@command.command("score")
@click.argument("name", metavar="SOURCE|VERSION")
@_judge_options
@_spending_options
@common.json_option
@click.pass_context
def score(
    ctx: click.Context, /, name: str, reward: bool, dry_run: bool, yes: bool, as_json: bool, **given: Any
) -> None:
    """Rate every row of a source or version, each content once.

    Ratings are kept as the score judge-RUBRIC, for recipes (steps `judge` and `top`) and Browse. What was rated before
    is not asked again, also after ctrl-c, a kill or a spent budget. A row without a usable answer is an error, never
    a number; the next call asks it again. An endpoint is asked after --yes, a budget, or yes on the terminal.

    \b
    workbench judge score raw --rubric correctness --base-url http://localhost:8000/v1 --model NAME --dry-run
    """
    from workbench.judging import judge_rows, judge_step, preflight

    asking = _asking(given)
    with common.workspace(ctx) as workspace:
        before = preflight(workspace, name, judge_step(workspace, _given(given, reward)))
    if not as_json:
        common.note(_preflight_text(before, dry_run))

    def run(agrees: Agrees) -> Judged:
        with common.workspace(ctx) as workspace, common.progress_bar("judging") as progress:
            step = judge_step(workspace, _given(given, reward))
            return judge_rows(workspace, name, step, asking(agrees, progress))

    judged = None if dry_run else with_consent(run, yes=yes, may_ask=not as_json)
    if as_json:
        from dataclasses import asdict

        found = {} if judged is None else judged.ratings.as_dict() | {"usage": judged.usage}
        common.print_json({"name": name, **asdict(before), "dry_run": dry_run, **found})
    elif judged is not None:
        _print_judged(before, judged)


@command.command("pairs")
@click.argument("name", metavar="SOURCE|VERSION")
@click.argument("other", metavar="[OTHER]", required=False)
@_judge_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Compare only N of the pairs.")
@_spending_options
@common.json_option
@click.pass_context
def pairs(
    ctx: click.Context,
    /,
    name: str,
    other: str | None,
    limit: int | None,
    reward: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Say which of two answers to the same prompt is better, asked in both orders.

    Compared are the answers of two sources or versions, or those that one of them gives to a prompt twice. A verdict
    that changes with the order is a tie, and counted as a position flip: a judge that flips often judges nothing.
    Verdicts are kept, and none is asked for twice.

    \b
    workbench judge pairs raw revised --rubric helpfulness --base-url http://localhost:8000/v1 --model NAME
    """
    from workbench.judge_pairs import judge_pairs, pairs_of, pairs_tally
    from workbench.judging import judge_step

    asking = _asking(given)
    with common.workspace(ctx) as workspace:
        step = judge_step(workspace, _given(given, reward))
        found = pairs_of(workspace, name, other, limit)
        tally = pairs_tally(workspace, found, step.comparer())
    if not as_json:
        common.note(_pairs_text(found, tally, dry_run))

    def run(agrees: Agrees) -> tuple[PairVerdicts, dict[str, Any]]:
        with common.workspace(ctx) as workspace, common.progress_bar("judging") as progress:
            return judge_pairs(workspace, found, step, asking(agrees, progress))

    judged, usage = (None, {}) if dry_run else with_consent(run, yes=yes, may_ask=not as_json)
    if as_json:
        takes = {"calls": tally.calls, "prompt_tokens": tally.prompt_tokens, "reply_tokens": tally.reply_tokens}
        about = {"first": found.first, "second": found.second, "pairs": len(found.pairs), "dry_run": dry_run}
        came = {} if judged is None else {"verdicts": judged.as_dict(), "usage": usage or None}
        common.print_json(about | takes | {"cost": tally.cost} | came)
    elif judged is not None:
        _print_pairs(found, judged)
        _print_spent(usage, tally.cost)


@command.command("agreement")
@click.argument("name", metavar="SOURCE|VERSION")
@_judge_options
@click.option("--field", metavar="NAME", help="Take labels from this metadata field instead of those given in Browse.")
@click.option("--pairs-with", "other", metavar="NAME", help="Count position flips of the pairs with this one.")
@common.json_option
@click.pass_context
def agreement(
    ctx: click.Context, /, name: str, field: str | None, other: str | None, reward: bool, as_json: bool, **given: Any
) -> None:
    """Compare a judge's ratings with the labels that people gave: good and bad, or 1 to 5.

    Give the options that the rows were rated with. Nothing is asked. Position flips are those of the pairs that
    `workbench judge pairs` had this judge compare.
    """
    from workbench.judge_pairs import known_verdicts, pairs_of
    from workbench.judging import compare_with_people, judge_step

    with common.workspace(ctx) as workspace:
        step = judge_step(workspace, _given(given, reward))
        found = compare_with_people(workspace, name, step, field)
        verdicts = known_verdicts(workspace, pairs_of(workspace, name, other), step.comparer())
    if as_json:
        flips = verdicts.as_dict()
        common.print_json(
            {"name": name, **found.as_dict(), "pairs": flips["judged"], "position_flips": flips["position_flips"]}
        )
    else:
        _print_agreement(found, verdicts)


def _asking(given: dict[str, Any]) -> Callable[[Agrees, common.Progress], Asking]:
    """How to ask, with the key that is named; taken out of `given`, which are the step's parameters."""
    variable = given.pop("key_variable", None)

    def asking(agrees: Agrees, progress: common.Progress) -> Asking:
        from workbench.judging import Asking

        return Asking(agrees, variable, progress)

    return asking


def _given(options: dict[str, Any], reward: bool) -> dict[str, Any]:
    """The options that were given, as parameters of the step `judge`."""
    given = {key: value for key, value in options.items() if value is not None}
    return given | ({"backend": "reward"} if reward else {})


def _preflight_text(before: Preflight, dry_run: bool) -> str:
    missing = before.contents - before.known
    told = (
        f"{before.scorer} by {before.judge}: {counted(before.contents, 'content')} in {counted(before.rows, 'row')}, "
        f"{before.known:,} rated before, {missing:,} to rate."
    )
    return f"{told}\n{_takes(before)}" if before.calls and dry_run else told


def _pairs_text(found: Pairs, tally: Tally, dry_run: bool) -> str:
    told = f"{counted(len(found.pairs), 'pair')} of answers, of {found.first} and of {found.second}."
    return f"{told}\n{_takes(tally)}" if tally.calls and dry_run else told


def _takes(calls: Preflight | Tally) -> str:
    cost = "" if calls.cost is None else f", a cost of at most {calls.cost:,.2f}"
    return (
        f"{counted(calls.calls, 'call')} without retries: about {calls.prompt_tokens:,} tokens asked and at most "
        f"{calls.reply_tokens:,} answered{cost}."
    )


def _print_judged(before: Preflight, judged: Judged) -> None:
    from collections import Counter

    out, found = common.out(), judged.ratings
    if found.values:
        counts = Counter(round(value) for value in found.values)
        most = max(counts.values())
        for rating in sorted(counts, reverse=True):
            out.print(f"{rating:>6} {counts[rating]:>7,} {'█' * max(1, round(40 * counts[rating] / most))}")
        mean = sum(found.values) / len(found.values)
        out.print(f"{before.scorer}: {counted(len(found.values), 'content')} rated, mean {mean:.2f}.")
    for label, count in found.errors.most_common():
        out.print(f"  {counted(count, 'error')}: {label}")
    if found.unscored:
        out.print(f"  {found.unscored:,} not rated: nothing to judge, or too long")
    if found.injected:
        out.print(f"  {found.injected:,} with a text that speaks to the judge, which was not shown to it")
    _print_spent(judged.usage or {}, before.cost)


def _print_spent(usage: dict[str, Any], cost: float | None) -> None:
    """What a run spent; `cost` is None without prices."""
    if usage.get("calls"):
        told = "" if cost is None else f", cost {usage['cost']:.4f}"
        common.out().print(
            f"Spent: {counted(usage['calls'], 'call')}, {usage['prompt_tokens']:,} tokens asked, "
            f"{usage['reply_tokens']:,} answered{told}."
        )


def _print_pairs(found: Pairs, judged: PairVerdicts) -> None:
    out = common.out()
    one, two = ("its first answer", "its second answer") if found.first == found.second else (found.first, found.second)
    share, flips = judged.share(), judged.flip_share()
    if share and flips:
        out.print(f"{judged.judged:>7,} pairs judged in both orders")
        out.print(f"{judged.first:>7,} for {one}")
        out.print(f"{judged.second:>7,} for {two}")
        out.print(f"{judged.ties:>7,} ties, of which {judged.flips:,} because the verdict changed with the order")
        out.print(f"Share of {one}: {_percent(share)}; above 50% it is the better one.")
        out.print(f"Position flips: {_percent(flips)} of the pairs.")
    for label, count in judged.errors.most_common():
        out.print(f"  {counted(count, 'pair')} without a verdict: {label}")
    if judged.missing:
        out.print(f"  {counted(judged.missing, 'pair')} not judged yet")


def _percent(share: Estimate) -> str:
    span = "" if share.low is None or share.high is None else f" [{share.low:.0%}, {share.high:.0%}]"
    return f"{share.value:.0%}{span}"


def _print_agreement(found: Compared, verdicts: PairVerdicts) -> None:
    from filters.judge.agreement import ENOUGH

    def line(what: str, estimate: Estimate | None, meaning: str) -> None:
        if estimate is None:
            out.print(f"  {what:<28} not defined: {_constant(found)}")
            return
        span = "" if estimate.low is None else f" [{estimate.low:+.2f}, {estimate.high:+.2f}]"
        out.print(f"  {what:<28} {estimate.value:+.2f}{span}  {meaning}")

    out, agreed = common.out(), found.agreement
    out.print(f"{found.scorer} against labels {found.labels} on {counted(agreed.n, 'row')}, with 95% intervals")
    line("Spearman", agreed.spearman, "1: same order, 0: none")
    line("weighted kappa", agreed.kappa, "1: same labels, 0: chance")
    line("judge and length", agreed.length_judge, "rank correlation with the answer's length")
    line("people and length", agreed.length_people, "")
    line("length bias", agreed.length_bias, "above 0: the judge likes length more than people do")
    flips = verdicts.flip_share()
    if flips:
        told = f"{_percent(flips)} of {counted(verdicts.judged, 'pair')}: the order decided"
    else:
        told = "no pair was compared yet; see `workbench judge pairs --help`"
    out.print(f"  {'position flips':<28} {told}")
    if agreed.n < ENOUGH:
        out.print(f"{counted(agreed.n, 'row')} are too few to choose a judge by; label {ENOUGH} or more.")
    if found.unrated:
        out.print(f"{counted(found.unrated, 'labelled row')} without a rating by this judge left out.")
    if found.left_out:
        out.print(f"{counted(found.left_out, 'label')} of another kind left out.")


def _constant(found: Compared) -> str:
    """Why a number of agreement is not defined."""
    agreed = found.agreement
    if agreed.n < 3:
        return "fewer than 3 rows"
    same = []
    if agreed.same_label is not None:
        said = {0.0: "bad", 1.0: "good"} if found.labels == "good/bad" else {}
        same = [f"all labels are {said.get(agreed.same_label, format(agreed.same_label, 'g'))}"]
    same += [f"all ratings are {agreed.same_rating:g}"] if agreed.same_rating is not None else []
    return " and ".join(same) or "all answers are of one length, or all ratings fall to one label"
