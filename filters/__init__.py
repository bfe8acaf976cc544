"""Curation steps as functions of Arrow batches: scores and drops with reasons. No database, no terminal.

In a notebook:

    from filters.embedding import embed_here
    from filters.pipeline import kept_rows, run
    from filters.recipe import load_recipe

    recipe = load_recipe("mine.yaml")
    outcomes = list(run(recipe, rows, embed=embed_here))    # rows() -> Arrow batches, see `run`
    for batch in kept_rows(rows, outcomes): ...              # as the steps left them: some rewrite rows
"""
