"""The stop tokens that a model's own generation settings name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def configured_stops(model: str) -> tuple[int, ...]:
    """The eos ids in `generation_config.json` of a model folder or hub name, as MaskPolicy.stop_ids takes them.

    Empty where there is no such file or it cannot be had.
    """
    path = Path(model) / "generation_config.json"
    if not Path(model).is_dir():
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            path = Path(hf_hub_download(model, "generation_config.json"))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
            return ()
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    eos = config.get("eos_token_id")
    return tuple(sorted(id_ for id_ in (eos if isinstance(eos, list) else [eos]) if isinstance(id_, int)))
