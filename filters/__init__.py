"""Curation steps as functions of Arrow batches: scores, drops with reasons, rewrites. No database, no terminal."""
