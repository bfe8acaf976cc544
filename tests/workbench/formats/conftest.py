from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.formats.read import Opened, Record, Reject, open_source

Rows = list[Record | Reject]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Opened]:
    def open_text(name: str, data: str | bytes, **options: Any) -> Opened:
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
        return open_source(path, **options)

    return open_text


@pytest.fixture
def read(opened: Callable[..., Opened]) -> Callable[..., Rows]:
    """Writes a small file and gives the rows that are read from it."""

    def read_text(name: str, data: str | bytes, **options: Any) -> Rows:
        rows = list(opened(name, data, **options).rows())
        assert [row.row for row in rows] == list(range(len(rows))), "rows are numbered from zero without gaps"
        return rows

    return read_text
