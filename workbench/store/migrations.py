"""The database schema as a numbered list of changes. Append to it; never edit what a release has shipped."""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    # 1: sources to measurements. Long tables have no keys: an index over a million rows costs more than it gives
    # in a column store, and `workbench doctor` checks what keys would.
    """
    CREATE TABLE sources (
        id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, path TEXT, format TEXT, file_hash TEXT, license TEXT,
        mapping TEXT, rows BIGINT, imported BIGINT, rejected BIGINT, created_at TIMESTAMP
    );
    CREATE TABLE rejects (source_id BIGINT NOT NULL, row BIGINT NOT NULL, reason TEXT NOT NULL, raw TEXT);
    CREATE TABLE examples (
        id BIGINT NOT NULL, source_id BIGINT NOT NULL, row BIGINT NOT NULL, content_hash TEXT NOT NULL,
        messages TEXT NOT NULL, tools TEXT, meta TEXT, parent_id BIGINT
    );
    CREATE TABLE scores (
        content_hash TEXT NOT NULL, scorer TEXT NOT NULL, fingerprint TEXT NOT NULL, value DOUBLE, label TEXT,
        state TEXT NOT NULL, detail TEXT
    );
    CREATE TABLE recipe_runs (
        id BIGINT PRIMARY KEY, recipe TEXT, recipe_hash TEXT, input_hash TEXT, version_name TEXT, state TEXT NOT NULL,
        rows_in BIGINT, rows_out BIGINT, created_at TIMESTAMP, finished_at TIMESTAMP, inputs TEXT NOT NULL
    );
    CREATE TABLE steps (
        id BIGINT PRIMARY KEY, recipe_run_id BIGINT NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL,
        params TEXT, rows_in BIGINT, dropped BIGINT, seconds DOUBLE, finished BOOLEAN NOT NULL,
        unscored BIGINT, errors BIGINT
    );
    CREATE TABLE decisions (
        step_id BIGINT NOT NULL, example_id BIGINT NOT NULL, reason TEXT NOT NULL, score DOUBLE, duplicate_of BIGINT,
        detail TEXT
    );
    CREATE TABLE duplicate_pairs (
        step_id BIGINT NOT NULL, example_id BIGINT NOT NULL, duplicate_of BIGINT NOT NULL, similarity DOUBLE
    );
    CREATE TABLE versions (
        id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, parent_id BIGINT, recipe TEXT, manifest_hash TEXT NOT NULL,
        rows BIGINT NOT NULL, recipe_run_id BIGINT, created_at TIMESTAMP
    );
    CREATE TABLE version_examples (version_id BIGINT NOT NULL, pos BIGINT NOT NULL, example_id BIGINT NOT NULL);
    CREATE TABLE eval_sets (
        id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, manifest_hash TEXT NOT NULL, rows BIGINT NOT NULL,
        created_at TIMESTAMP
    );
    CREATE TABLE eval_items (
        eval_set_id BIGINT NOT NULL, item INTEGER NOT NULL, messages TEXT NOT NULL, tools TEXT, cluster TEXT, slice TEXT
    );
    CREATE TABLE experiments (
        id TEXT PRIMARY KEY, name TEXT, plan TEXT, state TEXT NOT NULL, result TEXT, created_at TIMESTAMP,
        finished_at TIMESTAMP
    );
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, experiment_id TEXT, arm TEXT, version_id BIGINT, seed BIGINT, settings_hash TEXT,
        state TEXT NOT NULL, summary TEXT
    );
    CREATE TABLE item_metrics (
        run_id TEXT NOT NULL, eval_item INTEGER NOT NULL, metric TEXT NOT NULL, value DOUBLE, weight DOUBLE
    );
    CREATE TABLE generations (run_id TEXT NOT NULL, eval_item INTEGER NOT NULL, text TEXT NOT NULL, finish TEXT);
    """,
    # 2: the files that a source was read from, and the rejected rows that were corrected and came in after all.
    # Rows `first_row` and the following `rows` - 1 of the source are the rows of the file `path` from `file_row` on,
    # as it was when its bytes had this hash. A source that grew has several such pieces of one file.
    """
    CREATE TABLE source_files (
        source_id BIGINT NOT NULL, path TEXT NOT NULL, file_hash TEXT NOT NULL, file_row BIGINT NOT NULL,
        first_row BIGINT NOT NULL, rows BIGINT NOT NULL, read_at TIMESTAMP
    );
    CREATE TABLE fixed_rejects (
        source_id BIGINT NOT NULL, row BIGINT NOT NULL, reason TEXT NOT NULL, raw TEXT, fixed_at TIMESTAMP
    );
    """,
    # 3: what people do by hand to the rows of a source or version (workbench/store/drafts.py).
    """
    CREATE TABLE operations (
        id BIGINT PRIMARY KEY, base_kind TEXT NOT NULL, base_id BIGINT NOT NULL, kind TEXT NOT NULL,
        what TEXT NOT NULL, inverse_of BIGINT, created_at TIMESTAMP
    );
    CREATE TABLE operation_rows (
        operation_id BIGINT NOT NULL, example_id BIGINT NOT NULL, field TEXT NOT NULL, before TEXT, after TEXT
    );
    CREATE TABLE draft_rows (
        base_kind TEXT NOT NULL, base_id BIGINT NOT NULL, example_id BIGINT NOT NULL, field TEXT NOT NULL,
        value TEXT NOT NULL
    );
    CREATE VIEW labels AS
        SELECT d.base_kind, d.base_id, d.example_id, e.content_hash, d.value AS label
        FROM draft_rows d JOIN examples e ON e.id = d.example_id WHERE d.field = 'label';
    """,
    # 4: the example id kept free for a reject, so that a corrected row stands among its neighbours.
    "ALTER TABLE rejects ADD COLUMN example_id BIGINT",
    # 5: what the text of a reject is not as the file has it: `cut`, `escaped` or both. Texts were cut at 100,000
    # characters before.
    """
    ALTER TABLE rejects ADD COLUMN altered TEXT;
    ALTER TABLE fixed_rejects ADD COLUMN altered TEXT;
    UPDATE rejects SET altered = nullif(concat_ws(', ', CASE WHEN length(raw) >= 100000 THEN 'cut' END,
        CASE WHEN reason LIKE '%is not UTF-8' THEN 'escaped' END), '');
    UPDATE fixed_rejects SET altered = nullif(concat_ws(', ', CASE WHEN length(raw) >= 100000 THEN 'cut' END,
        CASE WHEN reason LIKE '%is not UTF-8' THEN 'escaped' END), '');
    """,
    # 6: how alike the answers of a pair are, where a step looked at them, too (conflicts).
    "ALTER TABLE duplicate_pairs ADD COLUMN answer_similarity DOUBLE",
    # 7: the rows that a step of a recipe rewrote: the example it saw, the one that went on, why (store/rewrites.py).
    """
    CREATE TABLE rewrites (
        step_id BIGINT NOT NULL, example_id BIGINT NOT NULL, new_id BIGINT NOT NULL, reason TEXT NOT NULL, detail TEXT
    );
    """,
    # 8: what an answer to an eval item must obey and a program can check; JSON (trainer/instructions).
    "ALTER TABLE eval_items ADD COLUMN instructions TEXT",
    # 9: how many of the rows without a score a step dropped; unknown of steps that ran before.
    """
    ALTER TABLE steps ADD COLUMN unscored_dropped BIGINT;
    ALTER TABLE steps ADD COLUMN errors_dropped BIGINT;
    """,
)

SCHEMA_VERSION = len(MIGRATIONS)
