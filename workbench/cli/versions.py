"""`workbench versions`: list, show, compare, freeze, export and remove versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from workbench.cli import common
from workbench.errors import Stopped, UsageProblem
from workbench.text import counted

if TYPE_CHECKING:
    from workbench.exporting import Exported
    from workbench.provenance import VersionReport
    from workbench.store.diff import Diff, GoneRow


@click.group("versions", cls=common.Group)
def command() -> None:
    """Frozen, named sets of rows: where they came from and what lies between them."""


@command.command("ls")
@common.json_option
@click.pass_context
def ls(ctx: click.Context, as_json: bool) -> None:
    """List sources and versions."""
    with common.workspace(ctx) as workspace:
        sources, versions = workspace.sources(), workspace.versions()
    if as_json:
        common.print_json(
            {
                "sources": [
                    {
                        "name": source.name,
                        "rows": source.rows,
                        "imported": source.imported,
                        "rejected": source.rejected,
                        "format": source.format,
                        "license": source.license,
                        "path": source.path,
                    }
                    for source in sources
                ],
                "versions": [
                    {
                        "name": version.name,
                        "rows": version.rows,
                        "manifest_hash": version.manifest_hash,
                        "parent": version.parent,
                        "created_at": f"{version.created_at.isoformat()}Z",
                    }
                    for version in versions
                ],
            }
        )
        return
    if not sources:
        common.note("Nothing here yet. Bring in a file with `workbench import FILE`.")
        return
    from workbench.report.terminal import table
    from workbench.text import clip

    out = common.out()
    listed = table("source", "imported", "rejected", "format", "licence", right=("imported", "rejected"))
    for source in sources:
        licence = clip(source.license or "not stated", 40)
        listed.add_row(source.name, f"{source.imported:,}", f"{source.rejected:,}", source.format, licence)
    out.print(listed)
    if not versions:
        common.note(f"No versions yet. Make one: workbench run safe-default --from {sources[0].name} --name VERSION")
        return
    listed = table("version", "rows", "manifest", "parent", "made (UTC)", right=("rows",))
    for version in versions:
        made = f"{version.created_at:%Y-%m-%d %H:%M}"
        listed.add_row(version.name, f"{version.rows:,}", version.manifest_hash[:12], version.parent or "", made)
    out.print()
    out.print(listed)


@command.command("show")
@click.argument("name", metavar="VERSION")
@common.json_option
@click.pass_context
def show(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show where a version's rows came from, and what each step dropped and why."""
    with common.workspace(ctx) as workspace:
        report = workspace.show_version(name)
    if as_json:
        common.print_json(_version_data(report))
        return
    from workbench.report.terminal import steps_table, table
    from workbench.text import clip, clip_start

    out = common.out()
    version = report.version
    out.print(f"{version.name}: {counted(version.rows, 'row')}, manifest {version.manifest_hash}")
    listed = table("source", "rows", "licence", "from", right=("rows",))
    for origin in report.origins:
        licence = clip(origin.license or "not stated", 40)
        listed.add_row(origin.source, f"{origin.rows:,}", licence, clip_start(origin.path, 50))
    out.print(listed)
    for stage in report.stages:
        out.print()
        made = f"{stage.version} from {', '.join(stage.inputs)}"
        dropped = stage.rows_in - stage.rows_out
        out.print(f"{made}: {counted(stage.rows_in, 'row')} in, {dropped:,} dropped, {stage.rows_out:,} left")
        if stage.steps:
            out.print(steps_table([step.as_dict() for step in stage.steps]))
    if report.experiments:
        out.print()
        out.print(f"Used by experiment {', '.join(report.experiments)}.")
    common.note(f"The rows that fell: workbench examples {name} --dropped")


def _version_data(report: VersionReport) -> dict[str, Any]:
    version = report.version
    return {
        "version": version.name,
        "rows": version.rows,
        "manifest_hash": version.manifest_hash,
        "parent": version.parent,
        "recipe": version.recipe,
        "created_at": f"{version.created_at.isoformat()}Z",
        "sources": {origin.source: origin.rows for origin in report.origins},
        "origins": [
            {"source": origin.source, "rows": origin.rows, "license": origin.license, "path": origin.path}
            for origin in report.origins
        ],
        "stages": [
            {
                "version": stage.version,
                "from": list(stage.inputs),
                "rows_in": stage.rows_in,
                "rows_out": stage.rows_out,
                "steps": [step.as_dict() for step in stage.steps],
            }
            for stage in report.stages
        ],
        "experiments": report.experiments,
    }


@command.command("diff")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--limit", type=click.IntRange(min=0), default=10, show_default=True, help="How many rows to list.")
@common.json_option
@click.pass_context
def diff(ctx: click.Context, a: str, b: str, limit: int, as_json: bool) -> None:
    """Count the rows that B has and A has not, and say why rows of A are not in B."""
    with common.workspace(ctx) as workspace:
        found = workspace.diff(a, b, limit)
    if as_json:
        common.print_json(
            {
                "added": found.added,
                "removed": found.removed,
                "common": found.common,
                "by_reason": found.by_reason,
                "examples": [_gone_data(row) for row in found.gone],
            }
        )
        return
    _print_diff(found, a, b)


def _gone_data(row: GoneRow) -> dict[str, Any]:
    survivor = {"source": row.survivor[0], "row": row.survivor[1]} if row.survivor else None
    return {
        "id": row.id,
        "source": row.source,
        "row": row.row,
        "reason": row.reason,
        "detail": row.detail,
        "survivor": survivor,
        "similarity": row.similarity,
    }


def _print_diff(found: Diff, a: str, b: str) -> None:
    import json

    from workbench.report.terminal import first_prompt, table
    from workbench.text import clip

    out = common.out()
    both = counted(found.common, "row")
    out.print(f"{a} → {b}: {both} in both, {found.removed:,} only in {a}, {found.added:,} only in {b}.")
    if not found.removed:
        return
    reasons = table("rows", f"why they are not in {b}", right=("rows",))
    for reason, count in found.by_reason.items():
        reasons.add_row(f"{count:,}", clip(reason, 80))
    out.print(reasons)
    if not found.gone:
        return
    listed = table("row", "why", "prompt")
    for row in found.gone:
        why = row.reason
        if row.survivor:
            why += f", like {row.survivor[0]}:{row.survivor[1]}"
            why += "" if row.similarity is None else f" ({row.similarity:.3f})"
        elif row.detail:
            why += f" ({row.detail})"
        listed.add_row(f"{row.source}:{row.row}", clip(why, 60), first_prompt(json.loads(row.messages), 40))
    out.print()
    out.print(listed)
    if found.removed > len(found.gone):
        common.note(f"{len(found.gone):,} of {counted(found.removed, 'row')} listed; more with --limit.")


@command.command("freeze")
@click.argument("source", metavar="SOURCE|VERSION")
@click.option("--name", required=True, metavar="V", help="What to call the version.")
@click.option(
    "--without", multiple=True, metavar="EVALSET", help="Leave out rows whose prompt is in this eval set. Repeatable."
)
@common.json_option
@click.pass_context
def freeze(ctx: click.Context, source: str, name: str, without: tuple[str, ...], as_json: bool) -> None:
    """Freeze rows as they are, as a version."""
    with common.workspace(ctx) as workspace:
        version, new = workspace.freeze(source, name, without)
    if as_json:
        common.print_json(
            {"version": version.name, "rows": version.rows, "manifest_hash": version.manifest_hash, "new": new}
        )
        return
    there = "" if new else " It was there already, with this content."
    common.out().print(f"{version.name}: {counted(version.rows, 'row')}, manifest {version.manifest_hash[:12]}.{there}")


@command.command("export")
@click.argument("name", metavar="VERSION|SOURCE")
@click.option("-o", "--out", metavar="OUT", help="The file to write, or the folder for the format datasets.")
@click.option("--to", metavar="hf:ORG/NAME", help="Push to this data set of the Hugging Face hub instead.")
@click.option(
    "--format",
    "format",
    metavar="F",
    help="messages, parquet, datasets (these lose nothing), alpaca, sharegpt, prompt-completion (they say what they "
    "lose). Default: parquet for OUT.parquet and the hub, else messages.",
)
@click.option("--model", metavar="NAME|DIR", help="Also count tokens for the card, by this model's tokenizer.")
@click.option("--public", is_flag=True, help="Let everybody see a new data set of the hub. Default: private.")
@click.option("--force", is_flag=True, help="Replace what is there.")
@common.json_option
@click.pass_context
def export(
    ctx: click.Context,
    name: str,
    out: str | None,
    to: str | None,
    format: str | None,
    model: str | None,
    public: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write rows and their dataset card to a file or folder, or push them to the hub.

    The card says where the rows came from, under which licences, what was dropped and why, and how to make them
    again. It is OUT.card.md beside a file, README.md in a folder and on the hub. A file that ends in .json is one
    array, any other has one object a line.

    \b
    workbench versions export curated -o curated.jsonl
    workbench versions export curated -o alpaca.json --format alpaca
    workbench versions export curated -o curated --format datasets --model HuggingFaceTB/SmolLM2-135M-Instruct
    workbench versions export curated --to hf:my-team/curated
    """
    from pathlib import Path

    if (out is None) == (to is None):
        raise UsageProblem("an export goes to one place", do="Give either -o OUT or --to hf:ORG/NAME.")
    if to is not None and format not in (None, "parquet"):
        raise UsageProblem(f"the hub gets Parquet, not {format}", do="Leave out --format.")
    from workbench.exporting import usual_form

    try:
        with common.workspace(ctx) as workspace, common.progress_bar("writing") as progress:
            if to is not None:
                done = workspace.push(name, to, public=public, model=model, force=force, progress=progress)
            else:
                path = Path(out or "").expanduser()
                done = workspace.export(
                    name, path, format or usual_form(path), model=model, force=force, progress=progress
                )
    except KeyboardInterrupt:
        raise Stopped("Stopped; nothing was written", do="The same command starts again.") from None
    if as_json:
        common.print_json(_exported_data(done, out))
        return
    if done.pushed:
        seen = "private" if done.pushed.private else "public"
        common.out().print(
            f"{done.pushed.url}: {counted(done.rows, 'row')} as Parquet, manifest {done.manifest_hash[:12]}; {seen}."
        )
    else:
        rows = counted(done.rows, "row")
        common.out().print(f"{out}: {rows} as {done.format}, manifest {done.manifest_hash[:12]}; card {done.card}.")
    for lost in done.lost:
        common.note(f"lost: {lost}")
    for note in done.notes:
        common.note(f"note: {note}")


def _exported_data(done: Exported, out: str | None) -> dict[str, Any]:
    data: dict[str, Any] = {
        "rows": done.rows,
        "format": done.format,
        "manifest_hash": done.manifest_hash,
        "lost": done.lost,
        "notes": done.notes,
    }
    if done.pushed:
        return data | {"url": done.pushed.url, "commit": done.pushed.commit, "private": done.pushed.private}
    return data | {"path": out, "card": str(done.card)}


@command.command("rm")
@click.argument("name", metavar="VERSION")
@common.json_option
@click.pass_context
def rm(ctx: click.Context, name: str, as_json: bool) -> None:
    """Remove a version; its rows stay in their sources.

    A version that another was made out of or compared with, or that was trained on, cannot be removed.
    """
    with common.workspace(ctx) as workspace:
        workspace.remove_version(name)
    if as_json:
        common.print_json({"removed": name})
        return
    common.out().print(f"{name} is removed.")
