"""What lies in DuckDB, and the only code that imports it."""
