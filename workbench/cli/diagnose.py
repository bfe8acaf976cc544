"""`workbench experiments diagnose`: the classic failures of fine-tuning, looked for in an experiment."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common

if TYPE_CHECKING:
    from workbench.report.failures import Diagnosis


@click.command("diagnose")
@click.argument("experiment")
@common.json_option
@click.pass_context
def command(ctx: click.Context, experiment: str, as_json: bool) -> None:
    """Look for the classic failures of fine-tuning in EXPERIMENT, and say what likely lies behind each.

    Measured on the base and every arm, from what is stored: answers that continue the prompt, do not stop, loop, quote
    training rows, all begin alike or are garbled, phrases that come too often, knowledge lost, prompts not listened to.
    No model is loaded.
    """
    with common.workspace(ctx) as ws, common.progress_bar("reading rows") as progress:
        from workbench.failures.diagnose import diagnose

        found = diagnose(ws, experiment, progress)
    if as_json:
        common.print_json(_data(found))
        return
    from workbench.report.failures import render_diagnosis

    common.out().print(render_diagnosis(found))
    common.note(
        f"{found.items:,} items; findings speak of {found.scope}. p is corrected for all that was looked for; "
        "docs/diagnosis.md has the rules."
    )


def _data(found: Diagnosis) -> dict[str, Any]:
    return {
        "experiment": found.experiment,
        "versions": found.versions,
        "labels": {arm: found.called(arm) for arm in found.versions},
        "items": found.items,
        "seeds": found.seeds,
        "scope": found.scope,
        "findings": [{"title": finding.title} | asdict(finding) for finding in found.findings],
        "looked_for": [{"title": look.title} | asdict(look) for look in found.looks],
    }
