"""Licences as the hub's dataset cards name them."""

from __future__ import annotations

import re
from collections.abc import Iterable

UNKNOWN = "unknown"
OTHER = "other"
_LONGEST_NAME = 100

# Those of the hub's identifiers (https://huggingface.co/docs/hub/repositories-licenses) that data sets come under.
# fmt: off
_KNOWN = frozenset([
    "apache-2.0", "mit", "unlicense", "openrail", "c-uda", "etalab-2.0", "llama2", "llama3", "llama3.1", "gemma",
    "cc", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0",
    "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "odbl", "odc-by", "pddl",
    "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "gfdl",
])
# fmt: on


def hub_licence(stated: str | None) -> str:
    """The hub's identifier for a licence as a person stated it: `unknown` for none, `other` for one it has not."""
    if not stated or not stated.strip():
        return UNKNOWN
    name = re.sub(r"[\s_]+", "-", stated.strip().lower())
    return name if name in _KNOWN or name == UNKNOWN else OTHER


def licence_fields(stated: Iterable[str | None]) -> tuple[str | list[str], str | None]:
    """The fields `license` and `license_name` of a card's front matter; the latter is there for `other` only.

    Several licences are a list: the card's text says which rows come under which.
    """
    licences = {licence or "" for licence in stated}
    names = sorted({hub_licence(licence) for licence in licences}) or [UNKNOWN]
    slugs = {_slug(licence) for licence in licences if hub_licence(licence) == OTHER}
    own = "-and-".join(sorted(filter(None, slugs)))[:_LONGEST_NAME].strip("-.")
    return names[0] if len(names) == 1 else names, own or None


def _slug(licence: str) -> str:
    """`licence` in the characters that the hub allows in a name."""
    return re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-.")
