"""Importing a file again that has grown: the rows it had must be as they were, and those behind them are added."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter, itemgetter

from filters.step import Progress
from workbench.errors import BadInput, UsageProblem
from workbench.formats.read import Record, Reject, Trees
from workbench.formats.records import FORMAT_GLUE
from workbench.formats.shapes import TREE_ALL
from workbench.importing import (
    SHOWN_REASONS,
    ImportReport,
    files_of,
    import_source,
    name_for,
    open_target,
    origin_of,
    reading,
    unchanged,
    write_rows,
)
from workbench.store.database import Store
from workbench.store.members import find
from workbench.store.rejects import (
    fixed_rows,
    mark_fixed,
    mostly_rejected,
    reject_reasons,
    rejected_rows,
    replace_rejects,
)
from workbench.store.sources import Source, SourceWriter, StoredRow, get_source, stored_rows

_Row = Record | Reject


def grow_source(
    store: Store,
    target: str,
    *,
    name: str | None,
    format: str | None,
    mapping: dict[str, str] | None,
    trees: Trees,
    license: str | None,
    progress: Progress | None,
) -> ImportReport:
    """Add to source `name` the rows that `target` has behind those of the source; import it where there is none.

    The rows are read as those of the source were. Rejects that are usable in the file now come in too. Versions stay
    as they are. All in one transaction. Raises BadInput where an earlier row is not what was imported, or a file
    changes while it is read; UsageProblem for another format or mapping than the source's.
    """
    name = name or name_for(target)
    found = find(store, name)
    if found is None or found.kind == "version":  # a version's name is refused there
        return import_source(
            store,
            target,
            name=name,
            format=format,
            mapping=mapping,
            trees=trees,
            license=license,
            progress=progress,
        )
    source = get_source(store, name)
    if (format or source.format, mapping or source.mapping) != (source.format, source.mapping):
        raise UsageProblem(
            f"source {name!r} was read as {source.format}, and its new rows must be read the same way",
            do="Leave out --format and --map, or give the source another --name.",
        )
    several = FORMAT_GLUE in source.format  # files of several formats: told anew, and held to the rows that were read
    opened = open_target(
        target,
        format=None if source.mapping or several else source.format,
        mapping=source.mapping or None,
        trees="all" if TREE_ALL in source.format.split(FORMAT_GLUE) else "best",
    )
    if opened.content_hash == source.file_hash:
        return unchanged(store, source, license)
    # Corrected in the workspace: what the file says of these rows was wrong once and does not matter any more.
    came = _NewRows(source, target, fixed_rows(store, source))
    with closing(stored_rows(store, source)) as stored, store.bulk() as cursor:
        writer = SourceWriter(cursor, source)
        noted = write_rows(writer, came.among(reading(opened, progress), stored), rejected_rows(store, source))
        mark_fixed(cursor, source.id, came.fixed)
        replace_rejects(cursor, source.id, [(row.row, row.reason, row.raw, row.altered) for row in came.still])
        counts = writer.counts()
        writer.update(path=origin_of(target), format=opened.format, file_hash=opened.content_hash, license=license)
        writer.add_files(files_of(opened, after=source.rows))
        duplicates = writer.known_elsewhere()
        reasons = reject_reasons(cursor, source.id, SHOWN_REASONS)
        poor = mostly_rejected(cursor, source.id) if len(opened.parts) > 1 else []
    rows = counts.imported + counts.rejected
    added = rows - source.rows
    return ImportReport(
        name,
        opened.format,
        rows,
        *counts,
        duplicates,
        reasons,
        added,
        fixed=len(came.fixed),
        mostly_rejected=poor,
        noted=noted,
        passed_over=opened.ignored,
    )


@dataclass
class _NewRows:
    """What a file has that its source has not, known when all of its rows were read.

    `corrected` rows are passed over. `fixed` are rows that were rejects and are usable now, `still` rejects whose
    text is another now.
    """

    source: Source
    target: str
    corrected: set[int]
    fixed: list[int] = field(default_factory=list)
    still: list[Reject] = field(default_factory=list)

    def among(self, rows: Iterable[_Row], stored: Iterable[StoredRow]) -> Iterator[_Row]:
        """Those of `rows`, a file from its top, that are to be written. Raises BadInput if an earlier one changed."""
        had = groupby(stored, key=itemgetter(0))
        number = -1
        for number, group in groupby(rows, key=attrgetter("row")):
            known = [known for _, *known in next(had, (number, ()))[1]]
            now = list(group)
            if not known:
                yield from now
            elif number in self.corrected or known == [_as_stored(row) for row in now]:
                continue
            elif known[0][0] is not None:
                raise self._changed(f"row {number} is not what was imported")
            elif isinstance(now[0], Reject):
                self.still.append(now[0])
            else:
                self.fixed.append(number)
                yield from now
        left = [row for row, group in had for _, content_hash, *_ in group if content_hash is not None]
        if left:
            raise self._changed(f"the file ends behind row {number}, and row {left[0]} was imported")

    def _changed(self, what: str) -> BadInput:
        name = self.source.name
        return BadInput(
            what,
            where=self.target,
            do=f"Nothing was kept: --grow needs the earlier rows of {name!r} as they were. Import the file under a "
            f"name of its own: --name {name}-2.",
        )


def _as_stored(row: _Row) -> list[str | None]:
    if isinstance(row, Reject):
        return [None, None, hashlib.sha256(row.raw.encode("utf-8")).hexdigest()]
    return [row.content_hash, row.meta_json, None]
