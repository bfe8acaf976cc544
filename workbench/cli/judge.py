"""`workbench judge`: have a model rate rows by a rubric, and see how far it agrees with people."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from workbench.cli import common
from workbench.text import counted

if TYPE_CHECKING:
    from workbench.judging import Compared, Judged, Preflight

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


def _judge_options(command: F) -> F:
    """The options that say who judges by what: scores are kept by them."""
    for option in reversed(_JUDGE_OPTIONS):
        command = option(command)
    return command


@click.group("judge")
def command() -> None:
    """Have a model rate rows by a rubric, and see how far it agrees with people.

    Without --base-url the model is loaded on this machine, by default a small one that judges poorly.
    WORKBENCH_JUDGE_URL and WORKBENCH_JUDGE_MODEL, or workbench.toml, set another default.
    """


@command.command("score")
@click.argument("name", metavar="SOURCE|VERSION")
@_judge_options
@click.option("--key-variable", metavar="NAME", help="The environment variable with the key. Default: OPENAI_API_KEY.")
@click.option("--concurrency", type=click.IntRange(1, 256), metavar="N", help="Calls at a time. Default: 8.")
@click.option("--timeout", type=click.FloatRange(min=0.1), metavar="SECONDS", help="For one answer. Default: 50.")
@click.option("--calls-per-minute", type=click.FloatRange(min=0.1), metavar="N", help="Call no faster than this.")
@click.option("--budget-calls", type=click.IntRange(min=1), metavar="N", help="Stop before more calls than this.")
@click.option("--budget-tokens", type=click.IntRange(min=1), metavar="N", help="Stop before more tokens than this.")
@click.option("--budget-cost", type=click.FloatRange(min=0, min_open=True), metavar="X", help="Stop before this cost.")
@click.option("--price-in", type=click.FloatRange(min=0), metavar="X", help="Price of a million tokens asked.")
@click.option("--price-out", type=click.FloatRange(min=0), metavar="X", help="Price of a million tokens answered.")
@click.option("--give-up/--no-give-up", default=None, help="Whether to end where no first answer can be used.")
@click.option("--dry-run", is_flag=True, help="Say what it would take; ask nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before spending.")
@common.json_option
@click.pass_context
def score(
    ctx: click.Context, /, name: str, reward: bool, dry_run: bool, yes: bool, as_json: bool, **given: Any
) -> None:
    """Rate every row of a source or version, each content once.

    Ratings are kept as the score judge-RUBRIC, for recipes (steps `judge` and `top`) and Browse. What was rated before
    is not asked again, also after ctrl-c, a kill or a spent budget. A row without a usable answer is an error, never
    a number; the next call asks it again.

    \b
    workbench judge score raw --rubric correctness --base-url http://localhost:8000/v1 --model NAME --dry-run
    """
    from workbench.judging import judge_rows, judge_step, preflight

    with common.workspace(ctx) as workspace:
        step = judge_step(workspace, _given(given, reward))
        before = preflight(workspace, name, step)
        if not as_json:
            common.note(_preflight_text(before))
        judged = None
        if not dry_run:
            if before.calls and not yes and not as_json and sys.stdin.isatty():
                click.confirm("Go on?", abort=True, err=True)
            with common.progress_bar("judging") as progress:
                judged = judge_rows(workspace, name, step, progress=progress)
    if as_json:
        from dataclasses import asdict

        found = {} if judged is None else judged.ratings.as_dict() | {"usage": judged.usage}
        common.print_json({"name": name, **asdict(before), "dry_run": dry_run, **found})
    elif judged is not None:
        _print_judged(before, judged)


@command.command("agreement")
@click.argument("name", metavar="SOURCE|VERSION")
@_judge_options
@click.option("--field", metavar="NAME", help="Take labels from this metadata field instead of those given in Browse.")
@common.json_option
@click.pass_context
def agreement(ctx: click.Context, /, name: str, field: str | None, reward: bool, as_json: bool, **given: Any) -> None:
    """Compare a judge's ratings with the labels that people gave: good and bad, or 1 to 5.

    Give the options that the rows were rated with. Nothing is asked.
    """
    from workbench.judging import compare_with_people, judge_step

    with common.workspace(ctx) as workspace:
        found = compare_with_people(workspace, name, judge_step(workspace, _given(given, reward)), field)
    if as_json:
        common.print_json({"name": name, **found.as_dict()})
    else:
        _print_agreement(found)


def _given(options: dict[str, Any], reward: bool) -> dict[str, Any]:
    """The options that were given, as parameters of the step `judge`."""
    given = {key: value for key, value in options.items() if value is not None}
    return given | ({"backend": "reward"} if reward else {})


def _preflight_text(before: Preflight) -> str:
    lines = [
        f"{before.scorer} by {before.judge}: {counted(before.contents, 'content')} in {counted(before.rows, 'row')}"
    ]
    missing = before.contents - before.known
    lines[0] += f", {before.known:,} rated before, {missing:,} to rate."
    if before.calls:
        cost = "" if before.cost is None else f", a cost of at most {before.cost:,.2f}"
        lines.append(
            f"{counted(before.calls, 'call')} without retries: about {before.prompt_tokens:,} tokens asked and at most "
            f"{before.reply_tokens:,} answered{cost}."
        )
    return "\n".join(lines)


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
    if judged.usage and judged.usage["calls"]:
        usage = judged.usage
        cost = f", cost {usage['cost']:.4f}" if before.cost is not None else ""
        out.print(
            f"Spent: {counted(usage['calls'], 'call')}, {usage['prompt_tokens']:,} tokens asked, "
            f"{usage['reply_tokens']:,} answered{cost}."
        )


def _print_agreement(found: Compared) -> None:
    from filters.judge.agreement import ENOUGH, Estimate

    def line(what: str, estimate: Estimate | None, meaning: str) -> None:
        if estimate is None:
            out.print(f"  {what:<28} cannot be told: one side gave every row the same")
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
    if agreed.n < ENOUGH:
        out.print(f"{agreed.n} rows are too few to choose a judge by; label {ENOUGH} or more.")
    if found.unrated:
        out.print(f"{counted(found.unrated, 'labelled row')} without a rating by this judge left out.")
    if found.left_out:
        out.print(f"{counted(found.left_out, 'label')} of another kind left out.")
