"""A workspace: a folder with one database, its runs and its cache; and what can be done in it, for every face alike.

Use cases return data classes and never print. Long ones take `progress(done, total, what)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from filters.step import Progress
from workbench.config import FILE as CONFIG_FILE
from workbench.config import TEMPLATE, Config, read_config
from workbench.consent import Agrees, ConsentedJobs, Keys, within_budget
from workbench.curation import RecipeFile, RunReport, find_recipe, freeze_rows, recipe_files, run_recipe
from workbench.draft import Draft
from workbench.embeddings import CachedEmbeddings
from workbench.errors import UsageProblem, WorkspaceUnusable
from workbench.evalset_import import EvalImport, hold_out, import_evalset
from workbench.formats.read import Trees
from workbench.growing import grow_source
from workbench.importing import ImportReport, import_source
from workbench.overlap import recipe_overlap
from workbench.provenance import SourceReport, VersionReport, source_report, version_report
from workbench.rejects import ExportedRejects, FixedRejects, export_rejects, import_fixes
from workbench.scoring import ScoreJobs
from workbench.store import diff as diffs
from workbench.store import evalsets, versions
from workbench.store.catalogue import Entry, catalogue
from workbench.store.database import Store, VersionRow
from workbench.store.detail import (
    ExampleDetail,
    ExampleHistory,
    StoredScore,
    example_detail,
    example_history,
    example_scores,
)
from workbench.store.examples import Page, Which, examples
from workbench.store.facets import Facets, facets, histogram
from workbench.store.integrity import Check, check
from workbench.store.members import CURATION_COLUMNS, Members, resolve, resolve_base
from workbench.store.rejects import RejectRow, reject_reasons, rejects
from workbench.store.sources import Origin, Source, get_source, origins, remove_source, sources
from workbench.store.sources import check_removable as check_source_removable
from workbench.store.windows import View, ViewQuery, open_view

if TYPE_CHECKING:
    import pyarrow as pa

    from filters.engines import Engine
    from filters.overlap import Overlap
    from filters.recipe import Recipe
    from workbench.exporting import Exported

DATABASE = "workbench.duckdb"


class Workspace:
    """An open workspace. Only one process at a time has it open."""

    def __init__(self, root: Path, store: Store, config: Config) -> None:
        self.root = root
        self.store = store
        self.config = config

    @classmethod
    def init(cls, folder: Path | str) -> Workspace:
        """Make `folder` a workspace and open it; one that is there already stays as it is.

        Raises WorkspaceUnusable where it cannot be written, or is in use.
        """
        root = Path(folder).expanduser()
        if root.exists() and not root.is_dir():
            raise WorkspaceUnusable("this is a file", where=str(root), do="Name a folder.")
        try:
            for made in (root, root / "runs", root / "cache"):
                made.mkdir(parents=True, exist_ok=True)
            store = Store.open(root / DATABASE)
            if not (root / CONFIG_FILE).exists():
                (root / CONFIG_FILE).write_text(TEMPLATE, encoding="utf-8")
        except OSError as error:
            raise WorkspaceUnusable(
                f"cannot be made a workspace ({error.strerror or error})",
                where=str(root),
                do="Choose a folder that you can write to.",
            ) from error
        return cls(root, store, read_config(root))

    @classmethod
    def open(cls, folder: Path | str | None) -> Workspace:
        """Open the workspace at `folder`, or the nearest one at or above the current folder.

        Raises UsageProblem where there is none, WorkspaceUnusable where it is in use, newer, or not writable.
        """
        root = Path(folder).expanduser() if folder is not None else _nearest(Path.cwd())
        if not (root / DATABASE).is_file():
            raise UsageProblem("this is no workspace", where=str(root), do=f"Make one with `workbench init {root}`.")
        config = read_config(root)
        return cls(root, Store.open(root / DATABASE), config)

    def close(self) -> None:
        """Let go of the database, so that another process can open it."""
        self.store.close()

    @property
    def ablations_dir(self) -> Path:
        """Folder with a file for each ablation."""
        return self.root / "ablations"

    @property
    def runs_dir(self) -> Path:
        """The folder that holds the jobs' run folders."""
        return self._folder("runs")

    @property
    def cache_dir(self) -> Path:
        """The folder for what can be computed again."""
        return self._folder("cache")

    # Sources

    def import_file(
        self,
        target: str | Path,
        *,
        name: str | None = None,
        format: str | None = None,
        mapping: dict[str, str] | None = None,
        trees: Trees = "best",
        license: str | None = None,
        grow: bool = False,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Import a file, folder, glob or data set of the hub (`hf:org/name`) as a source.

        With `grow`, only what it has behind the rows of the source of that name. See
        `workbench.importing.import_source` and `workbench.growing.grow_source`.
        """
        bring_in = grow_source if grow else import_source
        return bring_in(
            self.store,
            str(target),
            name=name,
            format=format,
            mapping=mapping,
            trees=trees,
            license=license,
            progress=progress,
        )

    def sources(self) -> list[Source]:
        """All sources, oldest first."""
        return sources(self.store)

    # Rows to look at, and what people do to them

    def view(
        self,
        query: ViewQuery,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        on_found: Callable[[View], None] = lambda _: None,
    ) -> View:
        """A long list of rows to be read by windows; see `workbench.store.windows.open_view`."""
        return open_view(self.store, query, cancelled=cancelled, on_found=on_found)

    def detail(self, name: str, id: int) -> ExampleDetail:
        """One row of a source or version, as people left it."""
        return example_detail(self.store, resolve_base(self.store, name), id)

    def scores(self, example: ExampleDetail) -> list[StoredScore]:
        """What scorers said of a row."""
        return example_scores(self.store, example.content_hash)

    def history(
        self, name: str, example: ExampleDetail, cancelled: Callable[[], bool] = lambda: False
    ) -> ExampleHistory:
        """What happened to a row of a source or version, and where else its content stands."""
        return example_history(self.store, resolve_base(self.store, name), example, cancelled)

    def facets(self, name: str, cancelled: Callable[[], bool] = lambda: False) -> Facets:
        """What a source or version is made of, in counts."""
        return facets(self.store, resolve(self.store, name), cancelled)

    def histogram(
        self, name: str, scorer: str, bins: int = 20, cancelled: Callable[[], bool] = lambda: False
    ) -> list[tuple[float, float, int]]:
        """How a score lies over the rows of a source or version: (from, below, rows)."""
        return histogram(self.store, resolve(self.store, name), scorer, bins, cancelled)

    def draft(self, name: str) -> Draft:
        """What people do by hand to a source or version."""
        return Draft(self.store, name)

    # Where rows came from

    def origins(self, name: str) -> list[Origin]:
        """The sources of the rows of a source or version, each with licence, origin and rows contributed."""
        return origins(self.store, resolve(self.store, name))

    def rows(self, name: str) -> Iterator[pa.RecordBatch]:
        """The rows of a source or version in order, in batches.

        Columns: `id` int64; `content_hash`, `messages`, `tools`, `source`, `category` strings. Raises NotFound.
        """
        return self._batches(name, CURATION_COLUMNS)

    def examples(
        self,
        name: str,
        *,
        which: Which = "kept",
        search: str | None = None,
        where: str | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> Page:
        """Rows of a source or version to look at; see `workbench.store.examples.examples`."""
        named = resolve(self.store, name)
        return examples(self.store, named, which=which, search=search, where=where, limit=limit, offset=offset)

    def show_source(self, name: str) -> SourceReport:
        """A source with its files, its rejects by reason, and who else has its rows."""
        return source_report(self.store, name)

    def remove_source(self, name: str) -> None:
        """Delete a source that no version was made out of."""
        remove_source(self.store, name)

    def rejects(
        self, name: str, *, limit: int = 20, offset: int = 0, chars: int | None = None
    ) -> tuple[int, list[RejectRow]]:
        """How many rows of a source's file were rejected, and some of them; `chars` characters of each text or all."""
        return rejects(self.store, get_source(self.store, name), limit, offset, chars)

    def reject_reasons(self, name: str) -> list[tuple[str, int, int]]:
        """The reasons for the rejects of a source, the most frequent first: (reason, how many, first row)."""
        source = get_source(self.store, name)
        with self.store.reading() as cursor:
            return reject_reasons(cursor, source.id)

    def export_rejects(self, name: str, out: Path, *, force: bool = False) -> ExportedRejects:
        """Write the rejects of a source to be corrected; see `workbench.rejects.export_rejects`."""
        return export_rejects(self.store, name, out, force=force)

    def import_fixes(self, name: str, path: Path, progress: Progress | None = None) -> FixedRejects:
        """Take in corrected rejects; see `workbench.rejects.import_fixes`."""
        return import_fixes(self.store, name, path, progress)

    # Versions

    def run_recipe(
        self,
        recipe: Path | str | Recipe,
        from_: Sequence[str],
        version: str,
        *,
        dry_run: bool = False,
        allow_wipeout: bool = False,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        agrees: Agrees = within_budget,
        engine: Engine | None = None,
    ) -> RunReport:
        """Run a recipe and freeze the result; see `workbench.curation.run_recipe`.

        It is given by path, by the name of a shipped one, or as it was read.

        `progress` may raise Stopped to call it off between batches; `cancelled` is asked while a job computes.
        `agrees` is asked before an endpoint is; where it says no, ConsentNeeded is raised. `engine` works on
        steps elsewhere than here (`workbench.scoring.chosen_engine`).
        """
        from filters.recipe import Recipe, load_recipe

        if not isinstance(recipe, Recipe):
            recipe = load_recipe(find_recipe(recipe), self.config.step_defaults())
        return run_recipe(
            self.store,
            recipe,
            from_,
            version,
            embed=CachedEmbeddings(self.cache_dir, self.runs_dir, progress, cancelled),
            compute=ConsentedJobs(ScoreJobs(self.runs_dir, progress, cancelled), Keys.of(self.config), agrees),
            dry_run=dry_run,
            allow_wipeout=allow_wipeout,
            progress=progress,
            engine=engine,
        )

    def recipe_overlap(
        self,
        recipe: Path | str,
        from_: Sequence[str],
        progress: Progress | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Overlap:
        """What each step of a recipe would drop by itself, and what only it; see `filters.overlap`."""
        from filters.recipe import load_recipe

        embed = CachedEmbeddings(self.cache_dir, self.runs_dir, progress, cancelled)
        return recipe_overlap(
            self.store, load_recipe(find_recipe(recipe), self.config.step_defaults()), from_, embed, progress
        )

    def recipes(self) -> list[RecipeFile]:
        """The recipes of this workspace, and those that ship with the product."""
        return recipe_files(self.root)

    def freeze(self, source: str, name: str, without: Sequence[str] = ()) -> tuple[VersionRow, bool]:
        """Freeze a source or version as it is, without rows that the eval sets `without` hold.

        Returns the version and whether it is new.
        """
        eval_sets = [evalsets.get_eval_set(self.store, evalset) for evalset in without]
        return freeze_rows(self.store, source, name, eval_sets)

    def versions(self) -> list[versions.Version]:
        """All versions, oldest first."""
        return versions.versions(self.store)

    def show_version(self, name: str) -> VersionReport:
        """A version with its ledger: per stage and step, rows in, dropped, and why."""
        return version_report(self.store, name)

    def diff(self, a: str, b: str, limit: int = 10) -> diffs.Diff:
        """What lies between two sources or versions, with the reasons, and the first `limit` rows that went."""
        return diffs.diff(self.store, resolve(self.store, a), resolve(self.store, b), limit)

    def export(
        self,
        name: str,
        out: Path,
        format: str = "messages",
        *,
        model: str | None = None,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Exported:
        """Write a source or version with its card to a file or folder; see `workbench.exporting.export`."""
        from workbench.exporting import export

        return export(self.store, name, out, format, model=model, force=force, progress=progress)

    def export_view(self, view: View, out: Path) -> int:
        """Write the rows of an open list to a file; see `workbench.exporting.export_view`."""
        from workbench.exporting import export_view

        return export_view(view, out)

    def as_json_lines(self, name: str, ids: Sequence[int]) -> str:
        """Rows of a source or version as JSON lines; see `workbench.exporting.as_json_lines`."""
        from workbench.exporting import as_json_lines

        return as_json_lines(self.store, name, ids)

    def push(
        self,
        name: str,
        target: str,
        *,
        public: bool = False,
        model: str | None = None,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Exported:
        """Push a source or version with its card to the hub; see `workbench.exporting.push`."""
        from workbench.exporting import push

        scratch = self.cache_dir
        return push(
            self.store, name, target, scratch=scratch, public=public, model=model, force=force, progress=progress
        )

    def catalogue(self) -> list[tuple[str, Entry]]:
        """All sources and versions as a tree; see `workbench.store.catalogue.catalogue`."""
        return catalogue(self.store)

    def open_diff(self, a: str, b: str, cancelled: Callable[[], bool] = lambda: False) -> diffs.OpenDiff:
        """What lies between two sources or versions, to be read by windows."""
        return diffs.OpenDiff(self.store, resolve(self.store, a), resolve(self.store, b), cancelled)

    def remove_version(self, name: str) -> None:
        """Delete a version that nothing else needs."""
        versions.remove_version(self.store, name)

    def check_removable(self, name: str) -> None:
        """Raise UsageProblem where something needs a source or version, NotFound where there is none."""
        named = resolve(self.store, name)
        check = check_source_removable if named.kind == "source" else versions.check_removable
        check(self.store, name)

    def remove(self, name: str) -> None:
        """Delete a source or version that nothing else needs."""
        (self.remove_source if resolve(self.store, name).kind == "source" else self.remove_version)(name)

    # Eval sets

    def import_evalset(
        self, path: Path, name: str, progress: Progress | None = None, mapping: dict[str, str] | None = None
    ) -> EvalImport:
        """Freeze the rows of a file as an eval set; see `workbench.evalset_import.import_evalset`."""
        return import_evalset(self.store, path, name, progress, mapping)

    def hold_out(self, source: str, name: str, n: int, seed: int = 0, progress: Progress | None = None) -> EvalImport:
        """Freeze `n` rows of a source or version as an eval set; see `workbench.evalset_import.hold_out`."""
        return hold_out(self.store, resolve(self.store, source), name, n, seed, progress)

    def evalsets(self) -> list[evalsets.EvalSet]:
        """All eval sets, oldest first."""
        return evalsets.eval_sets(self.store)

    def eval_rows(self, name: str) -> pa.Table:
        """The items of an eval set in order: item int32; messages, tools, cluster, slice strings."""
        return evalsets.eval_rows(self.store, evalsets.get_eval_set(self.store, name))

    def overlaps(self, name: str, evalset: str) -> int:
        """How many rows of a source or version have the prompt of an item of the eval set (case and spaces aside)."""
        eval_set = evalsets.get_eval_set(self.store, evalset)
        return len(evalsets.overlapping(self.store, resolve(self.store, name), eval_set))

    def check(self) -> list[Check]:
        """Whether counts agree, rows exist and hashes hold; see `workbench.store.integrity`."""
        return check(self.store)

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return folder

    def _batches(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        named = resolve(self.store, name)  # now, not when the first batch is asked for

        def read() -> Iterator[pa.RecordBatch]:
            members = Members(self.store, [named])
            try:
                yield from members.batches(columns)
            finally:
                members.close()

        return read()


def _nearest(start: Path) -> Path:
    for folder in (start, *start.parents):
        if (folder / DATABASE).is_file():
            return folder
    raise UsageProblem(
        "no workspace here or in any folder above",
        where=str(start),
        do="Make one with `workbench init DIR`, then give it with -w DIR or work inside it.",
    )
