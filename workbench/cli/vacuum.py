"""`workbench vacuum`: give space back to the disk."""

from __future__ import annotations

import click

from workbench.cli import common


@click.command("vacuum")
@click.option("--cache", is_flag=True, help="Empty the workspace's cache too: embeddings are then computed again.")
@click.option("--models", is_flag=True, help="Delete the unpacked models too, which all workspaces share.")
@common.json_option
@click.pass_context
def command(ctx: click.Context, cache: bool, models: bool, as_json: bool) -> None:
    """Give the room of deleted rows back to the disk, and by choice that of the caches.

    The database is written anew beside the old one, compared with it row by row, and only then put in its place: a
    stop or a kill at any moment leaves a whole one. It needs that much free space while it runs.
    """
    from rich.filesize import decimal as size_text

    from workbench.maintenance import vacuum

    with common.progress_bar("writing the database anew"):
        done = vacuum(ctx.obj["workspace"], cache=cache, models=models)
    if as_json:
        common.print_json(
            {
                "workspace": str(done.root),
                "database": {"before": done.before, "after": done.after},
                "cache": done.cache,
                "models": done.models,
                "freed": done.freed,
            }
        )
        return
    out = common.out()
    gained = f"{size_text(done.before)} before, {size_text(done.after)} now"
    out.print(f"database: {gained if done.after < done.before else f'{size_text(done.before)}, nothing to gain'}")
    for what, freed in (("cache", done.cache), ("models", done.models)):
        if freed is not None:
            out.print(f"{what}: {size_text(freed)} deleted")
    out.print(f"{size_text(done.freed)} given back.")
