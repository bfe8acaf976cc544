"""What training makes a model forget: its loss on ordinary text that nobody trains on, and how far it left the base.

The text is cut into windows of a few tokens, and each window is an item, so that two runs are compared in pairs. In
the table of metrics window n has the item number -1 - n: eval items have numbers from 0 up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import torch

from trainer.base import Base
from trainer.errors import BadInput
from trainer.evaluate import Metric
from trainer.methods import untrained

GENERAL_NLL: Final = "general_nll"
GENERAL_KL: Final = "general_kl"
LOGITS: Final = 1 << 24
"""Numbers of which a batch computes logits at most: 64 MB of float32, of which a few are held at a time."""

WINDOW: Final = 64
"""Tokens of a window: a page of text makes some fifteen, and the logits of one are small, for any vocabulary."""


def read_windows(base: Base, path: Path) -> list[list[int]]:
    """The ids of a text file in windows of `WINDOW` tokens, each begun as the tokenizer begins a text.

    A rest of fewer than half as many tokens is left out. Raises BadInput where nothing is left.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("the general text cannot be read", where=str(path)) from error
    ids: list[int] = base.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    bos = base.tokenizer.bos_token_id
    first = [bos] if base.tokenizer("a")["input_ids"][:1] == [bos] and bos is not None else []
    base.check_ids(ids)
    windows = [ids[start : start + WINDOW] for start in range(0, len(ids), WINDOW)]
    windows = [[*first, *window] for window in windows if len(window) >= WINDOW // 2]
    if not windows:
        raise BadInput(f"the general text has fewer than {WINDOW // 2} tokens", where=str(path))
    return windows


def forgetting(base: Base, model: Any, windows: Sequence[Sequence[int]]) -> list[Metric]:
    """`general_nll` of each window, in nats per token, and, for any model but the base itself, `general_kl`.

    The latter is KL(base || model), the mean over tokens in nats: how far its predictions moved.
    Of an adapter, the base is the same forward pass with it switched off: one that was not trained has exactly 0.
    """
    metrics = []
    model.eval()
    with torch.inference_mode(), base.autocast():
        for batch in _batches(windows, int(base.model.get_input_embeddings().num_embeddings)):
            ids = torch.tensor([windows[number] for number in batch], device=base.device)
            log_q = _log_probabilities(model, ids)
            nll = -log_q.gather(-1, ids[:, 1:, None]).double().mean((1, 2))
            metrics += [
                Metric(-1 - n, GENERAL_NLL, float(x), ids.shape[1] - 1) for n, x in zip(batch, nll, strict=True)
            ]
            if model is not base.model:
                with untrained(base, model) as before:
                    log_p = _log_probabilities(before, ids)
                kl = (log_p.exp() * (log_p - log_q)).sum(-1).double().mean(1)
                metrics += [
                    Metric(-1 - n, GENERAL_KL, float(x), ids.shape[1] - 1) for n, x in zip(batch, kl, strict=True)
                ]
    return metrics


def _batches(windows: Sequence[Sequence[int]], vocabulary: int) -> Iterator[list[int]]:
    """Numbers of windows of equal length, as many as keep the logits of a batch at `LOGITS`, or one."""
    for _, alike in groupby(range(len(windows)), key=lambda number: len(windows[number])):
        numbers = list(alike)
        size = max(1, LOGITS // (len(windows[numbers[0]]) * vocabulary))
        yield from (numbers[start : start + size] for start in range(0, len(numbers), size))


def _log_probabilities(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Of each next token: (rows, tokens - 1, vocabulary)."""
    return torch.log_softmax(model(input_ids=ids, use_cache=False).logits[:, :-1].float(), -1)
