"""Completing a path that is being typed."""

from __future__ import annotations

import os
from itertools import islice

_LOOKED_AT = 5000  # entries of one folder


def complete_path(text: str) -> list[str]:
    """What `text`, the beginning of a path, can go on as, in order: folders end with a slash, `~` stays as typed.

    Hidden files only where a dot is typed; nothing where the folder cannot be read.
    """
    head, slash, start = text.rpartition("/")
    folder = os.path.expanduser(head + slash) if slash else "."
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, _LOOKED_AT):
                if entry.name.startswith(start) and (start.startswith(".") or not entry.name.startswith(".")):
                    found.append(head + slash + entry.name + "/" * entry.is_dir())
    except (OSError, ValueError):  # no such folder, or a NUL in its name
        return []
    return sorted(found)
