"""`workbench experiments lm-eval`: tasks of lm-eval on the adapters that an experiment saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common
from workbench.text import clip

if TYPE_CHECKING:
    from workbench.lm_tasks import LmTasks, Scored


@click.command("lm-eval")
@click.argument("experiment")
@click.option("--tasks", required=True, metavar="TASK[,TASK]", help="Tasks or groups, by lm-eval's names.")
@click.option("--arm", "arms", multiple=True, metavar="ARM", help="Only this arm beside the base; several are allowed.")
@click.option("--all-seeds", is_flag=True, help="Every run of an arm. Default: its first seed.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N items of each task.")
@click.option(
    "--tasks-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="A folder with tasks of your own (YAML); code in it is run.",
)
@click.option("--chat", is_flag=True, help="Put prompts into the chat template that was trained on.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Requests at a time."
)
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    experiment: str,
    tasks: str,
    arms: tuple[str, ...],
    all_seeds: bool,
    limit: int | None,
    tasks_dir: Path | None,
    chat: bool,
    batch_size: int,
    as_json: bool,
) -> None:
    """Run tasks of lm-eval on the base model and the adapters of EXPERIMENT, its id, the start of one, or `A vs B`.

    Scores are kept beside the experiment: what was scored is not scored again. They are no part of its verdict. Most
    tasks read their data from the hub.

    \b
    workbench experiments lm-eval 73092f --tasks hellaswag,arc_easy --limit 200
    workbench experiments lm-eval 73092f --tasks ours --tasks-dir ./tasks --arm curated --all-seeds
    """
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise click.UsageError("--tasks names no task.")
    with common.workspace(ctx) as ws:
        from workbench.lm_tasks import lm_tasks

        found = lm_tasks(
            ws, experiment, names, arms=arms, all_seeds=all_seeds, tasks_dir=tasks_dir, limit=limit, chat=chat,
            batch_size=batch_size, on_event=_told,
        )  # fmt: skip
    if as_json:
        common.print_json(found.as_json())
        return
    _print(found, limit, all_seeds=all_seeds)


def _told(event: dict[str, Any]) -> None:
    if event["event"] == "stage":
        common.note(f"{event['what']} ...")


def _print(found: LmTasks, limit: int | None, *, all_seeds: bool) -> None:
    from workbench.report.terminal import table

    names = [_name(one, all_seeds) for one in found.models]
    made = table("task", "metric", "items", *names, right=("items", *names))
    by_model = [{(s.task, s.metric, s.filter): s for s in one.found.scores} for one in found.models]
    for key, first in by_model[0].items():
        task, metric, filter_ = key
        way = {True: " ↑", False: " ↓", None: ""}[first.higher_is_better]
        called = metric if filter_ == "none" else f"{metric}, {filter_}"
        cells = [_number(scores[key].value, scores[key].stderr) if key in scores else "-" for scores in by_model]
        made.add_row(clip(task, 40), called + way, "-" if first.items is None else f"{first.items:,}", *cells)
    common.out().print(made)
    part = f" Of each task the first {limit:,} items alone were asked." if limit else ""
    common.note(
        f"lm-eval {found.lm_eval}; ± is its standard error over a task's items, which says nothing of seeds.{part} "
        "These scores are no part of the verdict."
    )


def _name(one: Scored, all_seeds: bool) -> str:
    version = clip(one.version, 24)
    return f"{version}, seed {one.seed}" if all_seeds and one.seed is not None else version


def _number(value: float | None, stderr: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if stderr is None else f"{value:.4g} ± {stderr:.2g}"
