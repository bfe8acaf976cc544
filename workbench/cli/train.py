"""`workbench train`: train one version and measure it against the untrained model."""

from __future__ import annotations

from typing import Any

import click

from workbench.cli import common
from workbench.cli.compare import carry_out, export, question, setting_options


@click.command("train")
@click.argument("version")
@setting_options
@click.option("--answers", type=click.IntRange(min=0), default=3, show_default=True, help="Answers shown side by side.")
@common.json_option
@click.pass_context
def command(ctx: click.Context, /, version: str, answers: int, as_json: bool, **options: Any) -> None:
    """Fine-tune a model on VERSION; the adapter is kept in PEFT form.

    Measures the model before and after. To learn whether a curation choice helped, use `compare`.
    """
    if options["seeds"] is None:
        options["seeds"] = 1
    with common.workspace(ctx) as ws:
        from workbench import experiments

        experiment = experiments.plan(ws, question(version, (), options))
    if options["export"]:
        export(experiment, options["export"], options["devices"], as_json=as_json)
        return
    if options["devices"]:
        from workbench.side_by_side import on_devices

        experiment = on_devices(experiment, options["devices"])
    result = carry_out(ctx, experiment, as_json=as_json, answers=answers)
    for run, folder in result["adapters"].items():
        common.note(f"adapter {run}: {folder}")
