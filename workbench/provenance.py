"""What is known of where a source or version came from: its files, its rejects, its ledger, and who uses it."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.store import versions
from workbench.store.database import Store
from workbench.store.experiments import users
from workbench.store.members import resolve
from workbench.store.rejects import fixed_rows, reject_reasons
from workbench.store.sources import Origin, Source, SourceFile, files, get_source, made_from, origins, overlaps


@dataclass(frozen=True)
class VersionReport:
    """A version, where its rows came from, every stage on the way to it, and the ids of experiments that use it."""

    version: versions.Version
    origins: list[Origin]
    stages: list[versions.Stage]
    experiments: list[str]


@dataclass(frozen=True)
class SourceReport:
    """A source, its files, its rejects by reason (reason, how many, first row), and who else has its rows.

    `fixed` rows were rejects and came in after a correction; `overlaps` names other sources with how many rows of
    this one have content that they have too; `versions` were made out of it directly.
    """

    source: Source
    examples: int
    fixed: int
    reasons: list[tuple[str, int, int]]
    files: list[SourceFile]
    overlaps: list[tuple[str, int]]
    versions: list[str]


def source_report(store: Store, name: str) -> SourceReport:
    """What is known of a source. Raises NotFound."""
    source = get_source(store, name)
    with store.reading() as cursor:
        reasons = reject_reasons(cursor, source.id)
    return SourceReport(
        source,
        resolve(store, name).rows,
        len(fixed_rows(store, source)),
        reasons,
        files(store, source),
        overlaps(store, source),
        made_from(store, source),
    )


def version_report(store: Store, name: str) -> VersionReport:
    """What is known of a version: per stage and step, rows in, dropped, and why. Raises NotFound."""
    version = versions.get_version(store, name)
    return VersionReport(
        version, origins(store, resolve(store, name)), versions.history(store, name), users(store).get(name, [])
    )
