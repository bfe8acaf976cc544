"""What an import would make of a file, folder or data set, from its first rows. Nothing is written."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from trainer.conversation import content_text
from workbench.formats.parts import Parts, Row
from workbench.formats.read import Opened, Part, Record, Reject, Trees
from workbench.formats.rows import RowProblem
from workbench.importing import enough, is_encoding, open_target

SAMPLE_ROWS = 1000
_SAMPLE_CHARS = 1 << 25
_COLUMN_ROWS = 50
_TEXT_FILES = ("JSON", "CSV")
_NOT_READ = "not read"


@dataclass(frozen=True)
class Preview:
    """What was understood. `columns` says what became of each: a role, "turns", "tools", "metadata" or "not read".

    The counts are of the first rows alone, unless `complete`; `examples` counts conversations, of which a row may
    hold several. `encoding` is None for files that are no text. `usable` is whether so many rejects would be taken.
    """

    target: str
    container: str
    encoding: str | None
    format: str
    files: list[str]
    ignored: tuple[str, ...]
    bytes: int
    columns: dict[str, str]
    rows: int
    imported: int
    examples: int
    rejected: int
    complete: bool
    usable: bool
    reasons: list[tuple[str, int, int]]  # (reason, how many rejects, the first of their rows)
    first: list[Record] = field(default_factory=list)
    first_rejects: list[Reject] = field(default_factory=list)


def preview(target: str, *, format: str | None, mapping: dict[str, str] | None, trees: Trees, shown: int) -> Preview:
    """Read the first rows of `target` as an import would, with the first `shown` conversations and rejects.

    Raises what `workbench.importing.import_source` raises for a target that cannot be opened.
    """
    opened = open_target(target, format=format, mapping=mapping, trees=trees)
    columns = _columns(opened)
    seen = _Sample(shown)
    complete = seen.take(opened)
    return Preview(
        opened.where,
        opened.container,
        _encoding(opened.parts, any(map(is_encoding, seen.reasons))),
        opened.format,
        [str(part.path) for part in opened.parts],
        opened.ignored,
        opened.total_bytes,
        columns,
        seen.imported + seen.rejected,
        seen.imported,
        seen.examples,
        seen.rejected,
        complete,
        enough(seen.imported, seen.rejected),
        [(seen.told[alike], count, seen.first_of[alike]) for alike, count in seen.reasons.most_common()],
        seen.first,
        seen.first_rejects,
    )


@dataclass
class _Sample:
    """Counts over the first rows, and some of them."""

    shown: int
    imported: int = 0
    examples: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # with … in the place of numbers, as the keys below
    told: dict[str, str] = field(default_factory=dict)  # as it stands, where it is always the same
    first_of: dict[str, int] = field(default_factory=dict)
    first: list[Record] = field(default_factory=list)
    first_rejects: list[Reject] = field(default_factory=list)

    def take(self, opened: Opened) -> bool:
        """Reads rows until there are enough; whether these were all."""
        chars = 0
        for row in opened.rows():
            if row.row >= SAMPLE_ROWS or chars > _SAMPLE_CHARS:
                return False
            chars += self._count(row)
        return True

    def _count(self, row: Record | Reject) -> int:
        if isinstance(row, Reject):
            self.rejected += 1
            alike = re.sub(r"([ [])[0-9]+", r"\1…", row.reason)
            self.reasons[alike] += 1
            self.told[alike] = row.reason if self.told.get(alike, row.reason) == row.reason else alike
            self.first_of.setdefault(alike, row.row)
            if len(self.first_rejects) < self.shown:
                self.first_rejects.append(row)
            return len(row.raw)
        self.imported += row.part == 0
        self.examples += 1
        if len(self.first) < self.shown:
            self.first.append(row)
        return len(row.messages)


def _encoding(parts: Iterable[Part], broken: bool) -> str | None:
    """UTF-8 is what text is read as; a byte order mark is dropped. None for containers that are no text.

    `broken`: rows were rejected because they are something else.
    """
    texts = [part for part in parts if part.container.kind.startswith(_TEXT_FILES)]
    if not texts:
        return None
    if broken:
        return "not all of it UTF-8"
    marked = 0
    for part in texts:
        with part.file.open() as file:
            marked += file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    return "UTF-8 with a byte order mark" if marked else "UTF-8"


def _columns(opened: Opened) -> dict[str, str]:
    """What the first rows of each file show of every column; told from what came out, not from the format's name."""
    uses: dict[str, Counter[str | None]] = {}
    for part in opened.parts:
        for number, raw in enumerate(part.container.rows()):
            if number == _COLUMN_ROWS:
                break
            if not isinstance(raw.value, dict):
                continue
            row: Row = raw.value
            try:
                made = list(part.shape.convert(row)) if part.shape else []
            except (RowProblem, RecursionError):
                made = []
            for column, value in row.items():
                uses.setdefault(column, Counter())[_use(column, value, made)] += 1
    return {column: _most_telling(counts) for column, counts in uses.items()}


def _use(column: str, value: object, made: list[Parts]) -> str | None:
    """What became of a column of one row; None where it is empty, which says nothing."""
    if not made:
        return _NOT_READ
    if column not in made[0].used:
        return "metadata"
    if value in (None, "", []):
        return None
    if value is made[0].tools:
        return "tools"
    if isinstance(value, str):
        said = [(message["role"], content_text(message.get("content"))) for message in made[0].messages]
        by = [role for role, text in said if text == value] or [role for role, text in said if value in text]
        if by:
            return str(by[0])
    return "turns"


def _most_telling(counts: Counter[str | None]) -> str:
    """The commonest use; that of rejected rows only where there is no other."""
    told = [use for use, _ in counts.most_common() if use not in (None, _NOT_READ)]
    return next(iter(told), None) or (_NOT_READ if _NOT_READ in counts else "turns")
