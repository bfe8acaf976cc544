"""Importing a file again that has grown: the rows it had must be as they were, and those behind them are added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path

from filters.step import Progress
from trainer.conversation import canonical_json
from workbench.errors import BadInput, UsageProblem
from workbench.formats.read import Record, Reject, file_hash
from workbench.importing import (
    SHOWN_REASONS,
    FileState,
    ImportReport,
    import_file,
    name_for,
    open_file,
    reading,
    unchanged,
    write_rows,
)
from workbench.store.database import Store
from workbench.store.members import find
from workbench.store.rejects import fixed_rows, mark_fixed, reject_reasons, replace_rejects
from workbench.store.sources import Source, SourceFile, SourceWriter, get_source, stored_rows

_Row = Record | Reject


def grow_file(
    store: Store,
    path: Path,
    *,
    name: str | None,
    format: str | None,
    mapping: dict[str, str] | None,
    license: str | None,
    progress: Progress | None,
) -> ImportReport:
    """Add to source `name` the rows that `path` has behind those of the source; import it where there is none.

    The file is read as the source was. Rows that were rejects and are usable in the file now come in too. Versions
    stay as they are. All in one transaction. Raises BadInput where an earlier row is not what was imported, or the
    file changes while it is read; UsageProblem for another format or mapping than the source's.
    """
    name = name or name_for(path)
    found = find(store, name)
    if found is None or found.kind == "version":  # a version's name is refused there
        return import_file(store, path, name=name, format=format, mapping=mapping, license=license, progress=progress)
    source = get_source(store, name)
    if (format or source.format, mapping or source.mapping) != (source.format, source.mapping):
        raise UsageProblem(
            f"source {name!r} was read as {source.format}, and its new rows must be read the same way",
            do="Leave out --format and --map, or give the source another --name.",
        )
    state = FileState(path)
    opened = open_file(path, None if source.mapping else source.format, source.mapping or None)
    hashed = file_hash(path)
    if hashed == source.file_hash:
        return unchanged(store, source, license)
    came = _NewRows(source, path)
    with store.transaction() as cursor:
        writer = SourceWriter(cursor, source)
        write_rows(writer, came.among(store, reading(opened, progress)))
        state.check()
        mark_fixed(cursor, source.id, came.fixed)
        replace_rejects(cursor, source.id, [(row.row, row.reason, row.raw) for row in came.still])
        imported, rejected = writer.counts()
        added = imported + rejected - source.rows
        writer.update(path=str(path.resolve()), file_hash=hashed, license=license)
        if added:
            writer.add_files([SourceFile(str(path.resolve()), hashed, source.rows, source.rows, added)])
        duplicates = writer.known_elsewhere()
        reasons = reject_reasons(cursor, source.id, SHOWN_REASONS)
    return ImportReport(
        name, source.format, imported + rejected, imported, rejected, duplicates, reasons, added, len(came.fixed)
    )


@dataclass
class _NewRows:
    """What a file has that its source has not, known when all of its rows were read.

    `fixed` are rows that were rejects and are usable now, `still` rejects whose text is another now.
    """

    source: Source
    path: Path
    fixed: list[int] = field(default_factory=list)
    still: list[Reject] = field(default_factory=list)

    def among(self, store: Store, rows: Iterable[_Row]) -> Iterator[_Row]:
        """Those of `rows`, a file from its top, that are to be written. Raises BadInput if an earlier one changed."""
        # Corrected in the workspace: what the file says of them was wrong once and does not matter any more.
        corrected = fixed_rows(store, self.source)
        stored = groupby(stored_rows(store, self.source), key=itemgetter(0))
        number = -1
        for number, group in groupby(rows, key=attrgetter("row")):
            known = [known for _, *known in next(stored, (number, ()))[1]]
            now = list(group)
            if not known:
                yield from now
            elif number in corrected or known == [_as_stored(row) for row in now]:
                continue
            elif known[0][0] is not None:
                raise self._changed(f"row {number} is not what was imported")
            elif isinstance(now[0], Reject):
                self.still.append(now[0])
            else:
                self.fixed.append(number)
                yield from now
        left = [row for row, group in stored for _, content_hash, *_ in group if content_hash is not None]
        if left:
            raise self._changed(f"the file ends behind row {number}, and row {left[0]} was imported")

    def _changed(self, what: str) -> BadInput:
        name = self.source.name
        return BadInput(
            what,
            where=str(self.path),
            do=f"Nothing was kept: --grow needs the earlier rows of {name!r} as they were. Import the file under a "
            f"name of its own: --name {name}-2.",
        )


def _as_stored(row: _Row) -> list[str | None]:
    if isinstance(row, Reject):
        return [None, None, row.raw]
    return [row.content_hash, canonical_json(row.meta) if row.meta else None, None]
