"""What is known of rows beyond their sources: languages, work by hand, eval sets left out.

Which sources they came from, with licence and origin, is `workbench.store.sources.origins`.
"""

from __future__ import annotations

import json

from workbench.store.database import Store
from workbench.store.members import Named
from workbench.store.versions import get_version

LANGUAGES = """SELECT content_hash, arg_max(label, (scorer = 'language', value)) AS label FROM scores
    WHERE scorer IN ('language', 'language-mismatch') AND state = 'ok' AND label IS NOT NULL GROUP BY content_hash"""
"""SQL for the language (ISO 639-1) of contents that a step has judged: the surest judgement, else the answer's."""


def languages(store: Store, named: Named) -> dict[str, int]:
    """How many rows are in which language (ISO 639-1), of those that a step has judged."""
    rows = store.rows(
        f"""WITH told AS ({LANGUAGES})
            SELECT label, count(*) FROM ({_examples(named)}) e JOIN told USING (content_hash)
            GROUP BY label ORDER BY count(*) DESC, label"""
    )
    return {str(label): int(count) for label, count in rows}


def by_hand(store: Store, named: Named) -> int:
    """How many rows a person edited, or corrected after they had been rejected."""
    row = store.row(
        f"""WITH RECURSIVE rows AS ({_examples(named)}),
            line AS (
                SELECT id, id AS made, parent_id FROM rows WHERE parent_id IS NOT NULL
                UNION ALL SELECT l.id, e.id, e.parent_id FROM line l JOIN examples e ON e.id = l.parent_id
                WHERE e.parent_id IS NOT NULL)
            SELECT count(*) FROM rows WHERE id IN (SELECT id FROM line WHERE made NOT IN (SELECT new_id FROM rewrites))
            OR (source_id, row) IN (SELECT (source_id, row) FROM fixed_rejects)"""
    )
    return int(row[0]) if row else 0


def left_out_for(store: Store, version: str) -> list[str]:
    """The eval sets whose prompts were left out when the version of that name was frozen."""
    rows = store.rows(
        "SELECT json_extract(params, '$.evalsets') AS names FROM steps WHERE recipe_run_id = ? AND names IS NOT NULL",
        [get_version(store, version).recipe_run_id],
    )
    return [name for (names,) in rows for name in json.loads(names)]


def _examples(named: Named) -> str:
    """SQL for the examples of a source or version, without their texts."""
    columns = "e.id, e.source_id, e.row, e.parent_id, e.content_hash"
    if named.kind == "source":
        return f"SELECT {columns} FROM examples e WHERE source_id = {named.id} AND parent_id IS NULL"
    members = f"SELECT example_id FROM version_examples WHERE version_id = {named.id}"
    return f"SELECT {columns} FROM ({members}) v JOIN examples e ON e.id = v.example_id"
