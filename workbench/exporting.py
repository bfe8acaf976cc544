"""Taking rows out of a workspace: into a file, a folder or a data set of the hub, each with its dataset card."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filters.step import Progress
from trainer.conversation import content_text
from workbench.errors import BadInput, UsageProblem
from workbench.formats.card import Card, CardFile, CardSource, CardStage, CardTokens, Size, card_text
from workbench.formats.push import Pushed, check_hub, push_folder, repo_of
from workbench.formats.rows import printable
from workbench.formats.shapes import SHAPES
from workbench.formats.whole import check_free, new_file, whole_file, whole_folder
from workbench.formats.write import WriteReport, check_format, only_pairs, write_examples
from workbench.store.database import Store
from workbench.store.detail import example_detail
from workbench.store.lineage import by_hand, languages, left_out_for
from workbench.store.members import EXPORT_COLUMNS, Members, Named, resolve
from workbench.store.sources import Origin, files, get_source, origins
from workbench.store.versions import Stage, get_version, history, manifest_hash
from workbench.store.windows import View

if TYPE_CHECKING:
    import pyarrow as pa

README = "README.md"
PARQUET = "data/train-00000-of-00001.parquet"
"""Where the rows of a hub data set lie in it."""

_NOT_WRITTEN = (".csv", ".tsv", ".arrow", ".feather", ".xlsx")
_SAVED = re.compile(r"README\.md|dataset_info\.json|state\.json|data-\d+-of-\d+\.arrow")  # an earlier `datasets` export


@dataclass(frozen=True)
class Form:
    """A form to write: its name in `workbench.formats.write`, the ending of its files, what it keeps and loses."""

    name: str
    ending: str
    about: str


FORMS = (
    Form("messages", ".jsonl", "a line of JSON a row; loses nothing"),
    Form("parquet", ".parquet", "the same in columns; loses nothing"),
    Form("datasets", "", "a folder for load_from_disk; loses nothing"),
    Form("alpaca", ".json", "leaves out rows with tools; loses other fields"),
    Form("sharegpt", ".jsonl", "loses ids of tool calls and other fields of turns"),
    Form("prompt-completion", ".jsonl", "trains the last answer alone; loses turns behind it"),
)
"""What a source or version can be written as, and in a few words what that loses; counts come with the result."""


def usual_form(out: Path) -> str:
    """The form that the name of a file asks for where nobody says: Parquet for .parquet, else messages."""
    return "parquet" if out.suffix.lower() == ".parquet" else "messages"


@dataclass(frozen=True)
class Exported:
    """What was written. `path` and `card` are None for a push, `pushed` is None for a file."""

    rows: int
    format: str
    manifest_hash: str
    lost: list[str]
    notes: list[str]
    path: Path | None = None
    card: Path | None = None
    pushed: Pushed | None = None


def card_path(out: Path, format: str) -> Path:
    """Where the card of an export goes: into the folder as README.md, beside a file as FILE.card.md."""
    return out / README if format == "datasets" else out.with_name(out.name + ".card.md")


def export(
    store: Store,
    name: str,
    out: Path,
    format: str,
    *,
    model: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write a source or version to `out` with its card, whole or not at all; what is there only with `force`.

    With `model` the card has the token counts of its tokenizer. Raises NotFound, UsageProblem for an unknown format
    or a place that is taken or cannot be written to, ModelUnavailable.
    """
    check_format(format)
    _check_ending(out, format)
    named = resolve(store, name)
    card_at = card_path(out, format)
    if format == "datasets":
        check_free(out, force=force, folder_of=_SAVED)
    else:
        check_free(out, force=force)
        check_free(card_at, force=force)
    survey = _Survey(store, named, model, progress)
    file_name = printable(out.name)
    command = f"workbench versions export {_arguments(name, '-o', file_name, '--format', format)}"
    if format == "datasets":
        with whole_folder(out) as folder:
            report = survey.write(folder, format)
            (folder / README).write_text(survey.card(report, format, None, command), encoding="utf-8")
    else:
        with whole_file(card_at) as card, whole_file(out) as file:
            report = survey.write(file, format)
            card.write_text(survey.card(report, format, file_name, command), encoding="utf-8")
    return Exported(report.rows, format, survey.manifest_hash, report.lost, report.notes, out, card_at)


def _check_ending(out: Path, format: str) -> None:
    """Raise UsageProblem where the name of a file promises another container than it would get."""
    suffix = out.suffix.lower()
    if suffix in _NOT_WRITTEN or (suffix == ".parquet" and format not in ("parquet", "datasets")):
        raise UsageProblem(
            f"rows as {format} are not written as {suffix}",
            where=str(out),
            do=f"End it in {'.parquet' if format == 'parquet' else '.jsonl or .json'}.",
        )


def export_view(view: View, out: Path) -> int:
    """Write the rows of an open list, as they stand by the draft, to a new .jsonl, .json or .parquet file; how many.

    There is no card: they are no version. Raises BadInput for another ending or a file that is there.
    """
    suffix = out.suffix.lower()
    if suffix not in (".jsonl", ".json", ".parquet"):
        raise BadInput("rows are written as .jsonl, .json or .parquet", where=str(out), do="Give one of these endings.")
    with new_file(out) as file:
        return write_examples(view.batches(), file, "parquet" if suffix == ".parquet" else "messages").rows


def as_json_lines(store: Store, name: str, ids: Sequence[int]) -> str:
    """Rows of a source or version, as they stand by its draft, as JSON lines of `messages` and `tools`."""
    base = resolve(store, name)
    lines = []
    for id in ids:
        detail = example_detail(store, base, id)
        row = {"messages": detail.messages} | ({"tools": detail.tools} if detail.tools else {})
        lines.append(json.dumps(row, ensure_ascii=False))
    return "\n".join(lines)


def push(
    store: Store,
    name: str,
    target: str,
    *,
    scratch: Path,
    public: bool = False,
    model: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Make a source or version the data set `hf:ORG/NAME` of the hub: Parquet and a card, private unless `public`.

    The folder is made ready inside `scratch` first. Raises NotFound, AlreadyOnHub for a data set that holds files
    without `force`, UsageProblem for what cannot be its name, HubUnavailable, ModelUnavailable.
    """
    repo = repo_of(target)
    named = resolve(store, name)
    check_hub(repo, force=force)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="push-") as temporary:
        ready = Path(temporary) / "data-set"
        with whole_folder(ready) as folder:
            made = hub_folder(store, named, folder, target, model=model, progress=progress)
        if progress:
            progress(made.rows, made.rows, "pushing")
        message = f"{made.rows:,} rows of {name}, manifest {made.manifest_hash[:12]}"
        pushed = push_folder(ready, repo, public=public, message=message)
    return Exported(made.rows, made.format, made.manifest_hash, made.lost, made.notes, pushed=pushed)


def hub_folder(
    store: Store, named: Named, folder: Path, target: str, *, model: str | None, progress: Progress | None
) -> Exported:
    """Fill an empty folder with what the hub gets: the rows as Parquet and README.md."""
    survey = _Survey(store, named, model, progress)
    (folder / PARQUET).parent.mkdir(parents=True)
    report = survey.write(folder / PARQUET, "parquet")
    command = f"workbench versions export {_arguments(named.name, '--to', target)}"
    (folder / README).write_text(survey.card(report, "parquet", PARQUET, command), encoding="utf-8")
    return Exported(report.rows, "parquet", survey.manifest_hash, report.lost, report.notes)


class _Survey:
    """The rows of one export, and what its card says of them: counted while they are written."""

    def __init__(self, store: Store, named: Named, model: str | None, progress: Progress | None) -> None:
        self._store = store
        self._named = named
        self._model = model
        self._progress = progress
        self._sizes: dict[str, Size] = {}
        self._untrained = 0
        self._tokens = _Tokens(model) if model else None
        self.manifest_hash = ""

    def write(self, target: Path, format: str) -> WriteReport:
        """Write the rows to `target` and count them."""
        members = Members(self._store, [self._named])
        try:
            self.manifest_hash = manifest_hash(members.content_hashes())
            as_text = format == "prompt-completion" and only_pairs(members.batches(EXPORT_COLUMNS))
            batches = self._counted(members.batches(EXPORT_COLUMNS))
            return write_examples(batches, target, format, pairs_as_text=as_text)
        finally:
            members.close()

    def _counted(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        done = 0
        for batch in batches:
            for row in zip(*(batch.column(name).to_pylist() for name in ("messages", "tools")), strict=True):
                self._count(*row)
            done += batch.num_rows
            if self._progress:
                self._progress(done, self._named.rows, "writing")
            yield batch

    def _count(self, messages: str, tools: str | None) -> None:
        turns: list[dict[str, Any]] = json.loads(messages)
        for turn in turns:
            said = content_text(turn.get("content"))
            size = self._sizes.setdefault(turn["role"], Size())
            size.turns += 1
            size.characters += len(said)
            size.words += len(said.split())
            self._untrained += turn.get("train", True) is False
        if self._tokens:
            self._tokens.add(turns, tools)

    def card(self, report: WriteReport, format: str, data: str | None, command: str) -> str:
        """The card, after the rows were written. `command` is the export itself."""
        store, named = self._store, self._named
        found = origins(store, named)
        stages = history(store, named.name) if named.kind == "version" else []
        recipes = {stage.version: get_version(store, stage.version).recipe for stage in stages}
        card = Card(
            name=named.name,
            rows=named.rows,
            written=report.rows,
            manifest_hash=self.manifest_hash,
            format=format,
            data=data,
            lost=report.lost,
            notes=report.notes,
            sources=[_card_source(store, origin) for origin in found],
            stages=[
                CardStage(
                    stage.version,
                    stage.inputs,
                    stage.rows_in,
                    stage.rows_out,
                    [step.as_dict() for step in stage.steps],
                    recipes[stage.version],
                )
                for stage in stages
            ],
            sizes=dict(sorted(self._sizes.items())),
            untrained=self._untrained,
            tokens=self._tokens.result() if self._tokens else None,
            languages=languages(store, named),
            commands=_commands(store, found, stages, recipes, command),
            by_hand=by_hand(store, named),
        )
        return card_text(card)


class _Tokens:
    """Token counts by a model's tokenizer and chat template, with the default policy."""

    def __init__(self, model: str) -> None:
        from trainer.chat import MaskPolicy, configured_stops
        from trainer.models import load_tokenizer, resolve_model

        self._model = Path(model).name if Path(model).is_dir() else model  # a card tells no paths of this machine
        self._tokenizer = load_tokenizer(model)
        self._policy = MaskPolicy(stop_ids=configured_stops(resolve_model(model, weights=False).path))
        self._tokens = self._trained = self._longest = 0
        self._issues: Counter[str] = Counter()

    def add(self, turns: list[dict[str, Any]], tools: str | None) -> None:
        from trainer.chat import tokenise

        done = tokenise(self._tokenizer, turns, json.loads(tools) if tools else None, self._policy)
        self._issues.update({issue.kind for issue in done.issues})
        for example in done.examples:
            self._tokens += len(example.input_ids)
            self._trained += sum(example.trained)
            self._longest = max(self._longest, len(example.input_ids))

    def result(self) -> CardTokens:
        return CardTokens(self._model, self._tokens, self._trained, self._longest, dict(sorted(self._issues.items())))


def _card_source(store: Store, origin: Origin) -> CardSource:
    """A source for the card. Of a path only the last part: the rest tells strangers about this machine alone."""
    source = get_source(store, origin.source)
    return CardSource(
        origin.source,
        _public(origin.path),
        (origin.license or "").strip() or None,
        origin.file_hash,
        origin.rows,
        source.rows,
        source.rejected,
        [CardFile(Path(file.path).name, file.file_hash, file.rows) for file in files(store, source)],
    )


def _public(origin: str) -> str:
    """An origin as strangers may read it: a name on the hub as it is, of a path (`hf:` or not) the last part."""
    if not origin.startswith("hf:"):
        return Path(origin).name
    return f"hf:./{Path(origin).name}" if origin[3:4] in ("/", ".", "~") else origin


def _commands(
    store: Store, sources: Sequence[Origin], stages: Sequence[Stage], recipes: dict[str, str | None], export: str
) -> list[str]:
    """What makes the same rows out of the same files in an empty folder."""
    commands = ["workbench init ."]
    for origin in sources:
        source = get_source(store, origin.source)
        options = ["--name", source.name]
        if source.mapping:
            options += ["--map", ",".join(f"{key}={column}" for key, column in source.mapping.items())]
        elif source.format in SHAPES:
            options += ["--format", source.format]
        if source.license:
            options += ["--license", source.license]
        commands.append(f"workbench import {_arguments(_public(origin.path), *options)}")
    for stage in stages:
        if recipes[stage.version] is None:
            without = [option for name in left_out_for(store, stage.version) for option in ("--without", name)]
            commands.append(f"workbench versions freeze {_arguments(*stage.inputs, '--name', stage.version, *without)}")
        else:
            recipe = f"{stage.version}.yaml"
            made = _arguments(recipe, "--from", ",".join(stage.inputs), "--name", stage.version)
            commands.append(f"workbench run {made}")
    return [*commands, export]


def _arguments(*arguments: str) -> str:
    return shlex.join(arguments)
