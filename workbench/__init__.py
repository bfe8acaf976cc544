"""The bench: what a person works at. Use cases over DuckDB, a command line and, on top, the terminal app."""

__version__ = "0.1.0"
