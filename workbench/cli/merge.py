"""`workbench merge`: trained adapters, folded into their base."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import click

from workbench.cli import common


@click.command("merge")
@click.argument("adapters", metavar="EXPERIMENT[:ARM[:SEED]][=WEIGHT]...", nargs=-1, required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The model folder.")
@click.option(
    "--how",
    type=click.Choice(["linear", "ties", "dare-linear", "dare-ties"]),
    default="linear",
    show_default=True,
    help="How several adapters are combined.",
)
@click.option(
    "--density",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=0.5,
    show_default=True,
    help="The share of each update that ties and dare keep.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what dare draws.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Of the saved weights; 16 bits are refused where they would lose what was trained.",
)
@click.option("--force", is_flag=True, help="Replace a model folder that is there.")
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    adapters: tuple[str, ...],
    out: Path,
    how: str,
    density: float,
    seed: int,
    dtype: str,
    force: bool,
    as_json: bool,
) -> None:
    """Fold adapters that experiments trained into their base: a model folder that loads without PEFT.

    ARM is `baseline`, `candidate` or what it is called in the result; it may be left out where there is one candidate.
    Without SEED the first one is taken. Several adapters are combined first, each update times its WEIGHT (1 where
    none is given), which may be negative.

    The folder is read back and its outputs compared with those of the tuned model before it gets its name.

    \b
    workbench merge 73092f -o tuned
    workbench merge 73092f:curated=0.7 5be1c0:code=0.5 --how ties -o both
    workbench tokens curated --model ./tuned
    """
    with common.workspace(ctx) as ws:
        from trainer.plan import Combination
        from workbench import merging

        merged = merging.merge(
            ws,
            adapters,
            out,
            how=cast(Combination, how),
            density=density,
            seed=seed,
            dtype=dtype,
            force=force,
            on_event=_told,
        )
    if as_json:
        common.print_json(merged.as_json())
        return
    from rich.filesize import decimal

    checks = merged.checks
    out_ = common.out()
    parts = ", ".join(f"{part.version} ({part.weight:g})" for part in merged.parts)
    out_.print(f"{merged.folder}: {merged.base} with {parts}; {decimal(merged.bytes)} in {merged.dtype}.")
    out_.print(
        f"Read back: the same token preferred at {checks.same_token:.1%} of {checks.positions:,} positions; "
        f"log-probabilities within {checks.largest:.2g} nats; divergence {checks.divergence:.2g} nats "
        f"(untuned base: {checks.untuned:.2g})."
    )
    if merged.held != "dense":
        common.note("The base was held in NF4: its rounded values, which were trained on, are what was saved.")


def _told(event: dict[str, Any]) -> None:
    if event["event"] == "stage":
        common.note(f"{event['what']} ...")
