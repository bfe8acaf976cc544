"""`workbench sweep`: the same versions trained by several methods and settings, in one table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from workbench.cli import common
from workbench.cli.compare import carry_out, export, question, setting_options

Value = TypeVar("Value", int, float)


@click.command("sweep")
@click.argument("versions", metavar="VERSION...", nargs=-1, required=True)
@click.option(
    "--method",
    "methods",
    metavar="M[,..]",
    help="Of lora, qlora (on a base in 4 bits), dora, qdora, full (all weights). Default: lora.",
)
@click.option("--rank", "ranks", metavar="R[,..]", help="Ranks of LoRA and DoRA. Default: 16.")
@click.option("--alpha", "alphas", metavar="A[,..]", help="Their alpha. Default: twice the rank.")
@click.option(
    "--learning-rate",
    "learning_rates",
    metavar="LR[,..]",
    help="Learning rates. Default: that of the preset, and a tenth of it for all weights.",
)
@click.option("--epochs", metavar="N[,..]", help="Passes over each version's own rows, in place of --trained-tokens.")
@click.option(
    "--peft-config",
    "configs",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A method more: a JSON file with the config of any method of PEFT, with its peft_type. May be repeated.",
)
@setting_options
@click.option("--answers", type=click.IntRange(min=0), default=0, show_default=True, help="Answers shown side by side.")
@common.json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    versions: tuple[str, ...],
    methods: str | None,
    ranks: str | None,
    alphas: str | None,
    learning_rates: str | None,
    epochs: str | None,
    configs: tuple[Path, ...],
    answers: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Train every VERSION under every combination of methods and settings.

    One table tells quality, memory, speed and size of what is saved. Of one version, each setting is compared with the
    first; of several, each version with the first one under every setting: whether what the data does is an effect of
    the setting. Runs that are there are not made again; ctrl-c stops, the same command resumes.

    \b
    workbench sweep raw --method lora,qlora,dora,full --trained-tokens 8000
    workbench sweep raw curated --learning-rate 2e-4,1e-3 --trained-tokens 8000
    """
    from dataclasses import replace

    from workbench import experiments
    from workbench.sweep import Sweep

    peft = _configs(configs)
    named = tuple(name.strip() for name in methods.split(",")) if methods else () if peft else ("lora",)
    sweep = Sweep(
        methods=(*named, *peft),
        ranks=_numbers("--rank", ranks, int),
        alphas=_numbers("--alpha", alphas, int),
        learning_rates=_numbers("--learning-rate", learning_rates, float),
        epochs=_numbers("--epochs", epochs, int),
        peft=peft,
    )
    asked = replace(question(versions[0], versions[1:], options | _NOT_ASKED), sweep=sweep)
    with common.workspace(ctx) as ws:
        experiment = experiments.plan(ws, asked)
    if options["export"]:
        export(experiment, options["export"], options["devices"], as_json=as_json)
        return
    if options["devices"]:
        from workbench.side_by_side import on_devices

        experiment = on_devices(experiment, options["devices"])
    carry_out(ctx, experiment, as_json=as_json, answers=answers)


_NOT_ASKED = {"minutes": None, "quantize": "auto"}
"""Options of `compare` that a sweep has not: minutes buy different amounts by different methods, and whether the base
is held in 4 bits is part of the method."""

command.params = [option for option in command.params if option.name not in _NOT_ASKED]


def _numbers(option: str, text: str | None, kind: Callable[[str], Value]) -> tuple[Value, ...]:
    """The values of an axis, in order. Raises UsageProblem for one that is no number above 0."""
    from workbench.errors import UsageProblem

    found: list[Value] = []
    for word in text.split(",") if text else ():
        try:
            number = kind(word.strip())
        except ValueError:
            number = kind("0")
        if not 0 < number < 1e6:
            raise UsageProblem(f"{option} takes numbers above 0 with commas between, not {word.strip()!r}")
        found.append(number)
    return tuple(dict.fromkeys(found))


def _configs(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """PEFT configs by what their methods are called, the names of their files. Raises BadInput, UsageProblem."""
    from workbench.errors import UsageProblem
    from workbench.sweep import METHODS

    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        if path.stem in found or path.stem in METHODS:
            other = "another file" if path.stem in found else "a method that is there without a file"
            raise UsageProblem(
                f"the method of a config is called by its file, and {other} is called {path.stem!r}, too",
                where=str(path),
                do="Give the file another name.",
            )
        found[path.stem] = _config(path)
    return found


def _config(path: Path) -> dict[str, Any]:
    """A PEFT config. Raises BadInput."""
    from workbench.errors import BadInput

    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"it cannot be read as JSON ({error})", where=str(path)) from error
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise BadInput("it has no peft_type", where=str(path), do='For instance {"peft_type": "IA3"}.')
    return config
