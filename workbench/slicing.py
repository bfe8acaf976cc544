"""The slices of an eval set: which task, language, length and cluster each of its items belongs to."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa

from filters.rules.language import identify
from trainer.conversation import content_text, side_text, split_reference
from trainer.slices import LEAST, Labels
from trainer.variance import Floats

BINS = 3
"""Length bins of an eval set at most; each has a like number of items, enough to be tested."""


def dimensions(items: pa.Table, prompt_tokens: Floats, answer_tokens: Floats) -> dict[str, Labels]:
    """The slice of each item by `task`, `language`, `prompt length`, `answer length` and `cluster`.

    `items` as `workbench.store.evalsets.eval_rows` gives them; tokens are the model's, of the prompt and of the
    reference answer, NaN where not known. The language is that of the reference, or of the prompt where the reference
    is missing or too short to tell, by the rule of the step `language`.
    """
    return {
        "task": items["slice"].to_pylist(),
        "language": [_language(messages) for messages in items["messages"].to_pylist()],
        "prompt length": length_bins(prompt_tokens),
        "answer length": length_bins(answer_tokens),
        "cluster": items["cluster"].to_pylist(),
    }


def length_bins(tokens: Floats) -> list[str | None]:
    """Bins of like size, named by the tokens that they reach from and to; NaN is in none.

    Items of equal length share a bin, so there may be fewer bins, and fewer than two where there are few items.
    """
    known = tokens[np.isfinite(tokens)]
    bins = min(BINS, len(known) // LEAST)
    if bins < 2:
        return [None] * len(tokens)
    edges = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="lower"))
    places = np.searchsorted(edges, known)  # a bin reaches up to its edge, and holds it
    names = {int(place): _reach(known[places == place]) for place in np.unique(places)}
    return [names[int(np.searchsorted(edges, n))] if math.isfinite(n) else None for n in tokens]


def _reach(tokens: Floats) -> str:
    low, high = int(tokens.min()), int(tokens.max())
    return f"{low:,} to {high:,} tokens" if low < high else f"{low:,} tokens"


def _language(messages: str) -> str | None:
    asked, reference = split_reference(json.loads(messages))
    told = identify(content_text(reference.get("content"))) if reference else None
    told = told or identify(side_text(asked, "prompt"))
    return told[0] if told else None
