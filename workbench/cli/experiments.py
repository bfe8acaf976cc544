"""`workbench experiments`: what was compared in this workspace, and how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from workbench.cli import common, culprits, diagnose, lm_eval
from workbench.cli import compare as comparison
from workbench.cli.answer_judge import Leave, leave_options
from workbench.cli.compare import carry_out, print_result, stored_result


@click.group("experiments", cls=common.Group)
def command() -> None:
    """List, show, diagnose, report, repeat, resume, export and delete experiments."""


command.add_command(diagnose.command)
command.add_command(culprits.command)
command.add_command(lm_eval.command)


@command.command("ls")
@common.json_option
@click.pass_context
def ls(ctx: click.Context, as_json: bool) -> None:
    """List experiments, oldest first."""
    with common.workspace(ctx) as ws:
        from workbench.comparing import listing

        rows = listing(ws)
    found: list[dict[str, Any]] = [
        {
            "id": row.id,
            "name": row.name,
            "state": row.state,
            "verdict": row.verdict,
            "verdicts": dict(row.verdicts),
            "created_at": row.created_at.isoformat(timespec="seconds"),
        }
        for row in rows
    ]
    if as_json:
        common.print_json({"experiments": found})
        return
    if not found:
        common.note("no experiments yet; `workbench compare BASELINE CANDIDATE` makes one")
        return
    from rich.table import Table

    from workbench.text import safe_text

    table = Table("id", "versions", "state", "verdict", "made (UTC)", box=None, pad_edge=False)
    for row in rows:
        made = row.created_at.isoformat(timespec="seconds")
        table.add_row(row.id, safe_text(row.name), row.state, row.verdict_told or "-", made)
    common.out().print(table)


@command.command("show")
@click.argument("experiment")
@click.option("--answers", type=click.IntRange(min=0), default=3, show_default=True, help="Answers shown side by side.")
@common.json_option
@click.pass_context
def show(ctx: click.Context, experiment: str, answers: int, as_json: bool) -> None:
    """Show the result of EXPERIMENT: its id, the start of one, or `A vs B`."""
    with common.workspace(ctx) as ws:
        from workbench import outcomes

        row = outcomes.finished(ws, experiment)
        sides = outcomes.answers_side_by_side(ws, row.id) if answers and not as_json else []
    result = stored_result(row.result or "null")
    if as_json:
        common.print_json(result)
    else:
        print_result(result, sides, answers)


@command.command("resume")
@click.argument("experiment")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Take the results from a folder that `experiments export` wrote, run on another machine and copied back.",
)
@click.option("--answers", type=click.IntRange(min=0), default=3, show_default=True, help="Answers shown side by side.")
@leave_options
@common.json_option
@click.pass_context
def resume(
    ctx: click.Context,
    experiment: str,
    source: Path | None,
    answers: int,
    judge_key_variable: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Go on with EXPERIMENT where it was, or attach to it where it still runs.

    Runs that failed are made again; a judge that stopped goes on, and is asked again about pairs that it failed on. Of
    one that is done the result is made again, with the metrics that packages bring by now.
    """
    with common.workspace(ctx) as ws:
        from workbench import experiments, outcomes

        found = experiments.find(ws, experiment)
        if source:
            from workbench.elsewhere import fetch

            fetch(found.folder, source)
        else:
            found = experiments.open_again(ws, found)
        if found.done and outcomes.is_measured(ws, found.id):
            outcomes.conclude(ws, found.id)
    leave = Leave(yes, judge_key_variable, may_ask=not as_json)
    carry_out(ctx, found, as_json=as_json, answers=answers, leave=leave, judge_again=True)


@command.command("export")
@click.argument("experiment")
@click.argument("out", metavar="DIR", type=click.Path(path_type=Path))
@common.json_option
@click.pass_context
def export(ctx: click.Context, experiment: str, out: Path, as_json: bool) -> None:
    """Write the job of EXPERIMENT to the new folder DIR, to be run on another machine.

    That machine needs Python and what DIR/requirements.txt lists, and no workbench. `experiments resume --from` takes
    the results in when the folder is copied back.
    """
    with common.workspace(ctx) as ws:
        from workbench import experiments

        found = experiments.find(ws, experiment)
    comparison.export(found, out, as_json=as_json)


@command.command("rerun")
@click.argument("experiment")
@click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Seeds of each arm. Default: as before.")
@click.option("--answers", type=click.IntRange(min=0), default=3, show_default=True, help="Answers shown side by side.")
@leave_options
@common.json_option
@click.pass_context
def rerun(
    ctx: click.Context,
    experiment: str,
    seeds: int | None,
    answers: int,
    judge_key_variable: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Ask the question of EXPERIMENT again: same versions, model and settings, with N seeds.

    The same question shows the result that is there; runs that are there already are not run again.
    """
    with common.workspace(ctx) as ws:
        from dataclasses import replace

        from workbench import experiments
        from workbench.store.experiments import find_experiment

        question = experiments.asked(find_experiment(ws.store, experiment))
        planned = experiments.plan(ws, replace(question, seeds=seeds or question.seeds))
    leave = Leave(yes, judge_key_variable, may_ask=not as_json)
    carry_out(ctx, planned, as_json=as_json, answers=answers, leave=leave)


@command.command("history")
@click.argument("evalset")
@click.option("--model", metavar="M", help="Only comparisons of this model.")
@common.json_option
@click.pass_context
def history(ctx: click.Context, evalset: str, model: str | None, as_json: bool) -> None:
    """List what was compared on EVALSET, oldest first, and say what asking it so often means.

    `corrected p` is that of the primary metric by Holm's correction over the comparisons listed.
    """
    with common.workspace(ctx) as ws:
        from workbench.verdict_history import history as look_back

        found = look_back(ws, evalset, model)
    if as_json:
        common.print_json(
            {
                "evalset": found.evalset,
                "comparisons": [
                    {
                        "experiment": one.id,
                        "baseline": one.baseline,
                        "candidate": one.candidate,
                        "model": one.model,
                        "seeds": one.seeds,
                        "verdict": one.verdict,
                        "delta": one.delta,
                        "p": one.p,
                        "p_adjusted": one.p_adjusted,
                        "created_at": one.created_at.isoformat(timespec="seconds"),
                    }
                    for one in found.compared
                ],
                "chance_of_a_false_difference": found.chance,
                "sentences": found.sentences(),
            }
        )
        return
    if not found.compared:
        common.note("nothing was compared on it yet; `workbench compare BASELINE CANDIDATE` does")
        return
    from workbench.report.terminal import table
    from workbench.text import clip, safe_text

    listed = table(
        "made", "baseline", "candidate", "model", "seeds", "change", "p", "corrected p", "verdict", "id",
        right=("seeds", "change", "p", "corrected p"),
    )  # fmt: skip
    for one in found.compared:
        listed.add_row(
            f"{one.created_at:%Y-%m-%d}",
            clip(one.baseline, 24),
            clip(one.candidate, 24),
            clip(one.model.rpartition("/")[2], 24),
            str(one.seeds),
            f"{one.delta:+.3f}",
            f"{one.p:.2g}",
            f"{one.p_adjusted:.2g}",
            one.verdict,
            one.id,
        )
    common.out().print(listed)
    for sentence in found.sentences():
        common.note(safe_text(sentence))


@command.command("report")
@click.argument("experiment")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="A .html or a .md file."
)
@click.option("--force", is_flag=True, help="Replace the file where it is there.")
@click.option(
    "--items", type=click.IntRange(min=0), default=10, show_default=True, help="Items shown of the best and the worst."
)
@common.json_option
@click.pass_context
def report(ctx: click.Context, experiment: str, out: Path, force: bool, items: int, as_json: bool) -> None:
    """Write what EXPERIMENT asked, found, and was made of into one file that needs no network.

    HTML, or Markdown for a pull request. The same experiment gives the same file.
    """
    with common.workspace(ctx) as ws, common.progress_bar("tokenising") as progress:
        from workbench.experiment_report import write_report

        id = write_report(ws, experiment, out, force=force, items=items, progress=progress)
    size = out.stat().st_size
    if as_json:
        common.print_json({"experiment": id, "report": str(out), "bytes": size})
        return
    from rich.filesize import decimal as size_text

    from workbench.text import safe_text

    common.out().print(f"{safe_text(str(out))}: the report of experiment {id}, {size_text(size)}")


@command.command("rm")
@click.argument("experiment")
@common.json_option
@click.pass_context
def rm(ctx: click.Context, experiment: str, as_json: bool) -> None:
    """Delete EXPERIMENT: its runs, numbers and answers, and its run folder with the adapters.

    Versions and eval sets stay. One whose job runs cannot be deleted: stop it first.
    """
    with common.workspace(ctx) as ws:
        from workbench.experiment_removal import remove_experiment

        gone = remove_experiment(ws, experiment)
    if as_json:
        common.print_json({"removed": gone.id, "bytes": gone.size})
        return
    from rich.filesize import decimal as size_text

    from workbench.text import safe_text

    common.out().print(f"{gone.id} ({safe_text(gone.name)}) is deleted; {size_text(gone.size)} on disk are free.")
    if gone.freed:
        common.note(f"No experiment uses {safe_text(' and '.join(gone.freed))} any more.")
