"""`workbench demo`: the whole loop in ten minutes, on data and a model that come with the product."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common
from workbench.cli.compare import carry_out

if TYPE_CHECKING:
    from workbench.demo import KeyScore


@click.command("demo")
@click.option("--dir", "folder", default="demo-workspace", show_default=True, help="The workspace to make or reuse.")
@click.option("--model", metavar="NAME|DIR", help="Another model than SmolLM2-135M-Instruct.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Seeds of each version. Default: 3.")
@click.option("--minutes", type=float, metavar="M", help="Time for training and measuring. Default: 8.")
@click.option("--no-train", is_flag=True, help="Stop before training: import, recipe and tokens only.")
@click.pass_context
def command(
    ctx: click.Context,
    folder: str,
    model: str | None,
    device: str,
    seeds: int | None,
    minutes: float | None,
    no_train: bool,
) -> None:
    """Curate a small flawed data set, train both versions and see whether curation helped.

    Everything is on this machine; a second run reuses what the first one made.
    """
    from trainer.models import DEFAULT_MODEL
    from workbench import demo, experiments
    from workbench.workspace import Workspace

    folder = ctx.obj["workspace"] or folder
    ctx.obj["workspace"] = folder
    out = common.out()
    ws = Workspace.init(folder)
    try:
        _head(out, "1  Import")
        report = demo.bring_in(ws)
        out.print(
            f"{report.imported} of {report.rows} rows of the starter set are in (format {report.format}, "
            f"{report.rejected} rejected). About a third of them is flawed on purpose."
        )
        _head(out, f"2  What the recipe {demo.RECIPE!r} drops, and why")
        with common.progress_bar("curating") as progress:
            curated = demo.curate(ws, progress)
        _ledger(out, ws, curated)
        _head(out, "3  What would be trained")
        _tokens(out, demo.showcase(ws), model or DEFAULT_MODEL)
        score = demo.score_against_key(ws)
        if no_train:
            _key(out, score)
            return
        planned = experiments.plan(ws, demo.question(model=model, device=device, seeds=seeds, minutes=minutes))
    finally:
        ws.close()
    _head(out, "4  Train raw and curated alike, and compare")
    result = carry_out(ctx, planned, as_json=False, answers=3)
    _head(out, "5  What the recipe found of the flaws that were planted")
    _key(out, score)
    _head(out, "Next")
    program = "workbench" if shutil.which("workbench") else os.path.relpath(sys.argv[0])
    for line in demo.next_commands(program, folder, result["experiment"]):
        out.print(f"  {line}")


def _head(out: Any, text: str) -> None:
    out.print()
    out.print(text, style="bold")


def _ledger(out: Any, ws: Any, curated: Any) -> None:
    from workbench import demo
    from workbench.report.terminal import first_prompt, steps_table

    out.print(steps_table([step.as_dict() for step in curated.steps]))
    out.print(f"{curated.rows_out} of {curated.rows_in} rows stay. One row of each step that dropped some:")
    shown: set[str] = set()
    for row in ws.examples(demo.CURATED, which="dropped", limit=100_000).rows:
        if row.step not in shown:
            shown.add(row.step)
            out.print(f"  {row.step:<11} {row.reason!s:<28.28} {first_prompt(row.messages, 60)}")


def _tokens(out: Any, rows: list[Any], model: str) -> None:
    from trainer.chat import tokenise
    from workbench import tokens
    from workbench.report.tokens import legend, render_heading, render_tokens

    lens = tokens.lens(model)
    brackets = not sys.stdout.isatty()
    out.print(legend(brackets=brackets))
    for position, messages in rows:
        for example in tokenise(lens.tokenizer, messages, None, lens.policy).examples:
            out.print(render_heading(example, position, 1, 1))
            out.print(render_tokens(example, out.width, brackets=brackets))


def _key(out: Any, score: KeyScore) -> None:
    from workbench.report.terminal import table

    made = table("planted flaw", "rows", "found", "recall", "found by", right=("rows", "found", "recall"))
    for kind in score.kinds:
        steps = ", ".join(f"{step} {count}" for step, count in sorted(kind.by_step.items(), key=lambda s: -s[1]))
        recall = f"{kind.found / kind.planted:.0%}"
        made.add_row(kind.kind, str(kind.planted), str(kind.found), recall, steps or "no step of this recipe sees it")
    out.print(made)
    wrong = len(score.good_dropped)
    out.print(
        f"recall {score.recall:.0%}, precision {score.precision:.0%}: {wrong} good row{'s' * (wrong != 1)} dropped."
    )
    for id, step, reason in score.good_dropped:
        out.print(f"  {id} by {step}: {reason}")
