"""What a model is measured on: losses of reference answers, and greedy answers of its own, item by item.

Every number belongs to one eval item, so that two models are compared in pairs. The prompts and the tokens that
count come from the same renderer and masks as in training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from trainer.base import Base
from trainer.chat import MaskPolicy, prompt_ids, stop_ids, tokenise
from trainer.conversation import Message, side_text, split_reference
from trainer.errors import BadInput
from trainer.instructions import Instruction
from trainer.losses import padded, scored_positions, token_losses
from trainer.schedule import micro_batches

OnItem = Callable[[int, int], None]
OnTokens = Callable[[dict[int, list[int]]], None]
"""Takes, by item, the ids of the answers so far."""

RESPONSE_NLL = "response_nll"
PROMPT_GAIN = "prompt_gain"
SYSTEM_GAIN = "system_gain"


@dataclass(frozen=True)
class EvalItem:
    """One frozen conversation; `item` is its number in the eval set.

    Its last message is the reference answer; an item with instructions may lack one and end with the question.
    """

    item: int
    messages: list[Message]
    tools: list[Any] | None
    cluster: str
    instructions: tuple[Instruction, ...] = ()

    @property
    def asked(self) -> list[Message]:
        """The turns that are to be answered."""
        return split_reference(self.messages)[0]

    @property
    def reference(self) -> Message | None:
        """The answer that likelihood is measured on."""
        return split_reference(self.messages)[1]


@dataclass(frozen=True)
class Metric:
    """A number of one item. `weight` is what a token-weighted mean weighs it by (reference tokens, else 1)."""

    item: int
    metric: str
    value: float
    weight: float


@dataclass(frozen=True)
class Generation:
    """A greedy answer; `finish` is `stop` where the model ended it, `length` where the limit did."""

    item: int
    text: str
    finish: str
    tokens: int


class Prompt(Protocol):
    """What a model is asked."""

    @property
    def item(self) -> int:
        """The number that the answer goes by."""

    @property
    def prompt(self) -> list[int]:
        """The ids, as inference hands them over."""


@dataclass(frozen=True)
class PreparedItem:
    """An item tokenised once for all runs: (ids, labels) under its own and another item's prompt, and its prompt.

    `own` and `foreign` are None where there is no reference, `unled`, its own prompt without the system turn, also
    where there is no such turn; `asked` is the readable text of the prompt.
    """

    item: int
    own: tuple[list[int], list[int]] | None
    foreign: tuple[list[int], list[int]] | None
    unled: tuple[list[int], list[int]] | None
    prompt: list[int]
    asked: str
    instructions: tuple[Instruction, ...]


def prepare(base: Base, items: Sequence[EvalItem], policy: MaskPolicy) -> list[PreparedItem]:
    """Tokenise eval items. Raises BadInput naming the item whose reference has no token to score."""
    last_only = replace(policy, turns="last")
    partners = foreign_prompts(items)
    prepared = []
    for item in items:
        own = foreign = unled = None
        if item.reference is not None:
            own = _scored(base, item.messages, item.tools, last_only)
            partner = partners.get(item.item)
            if partner:
                foreign = _scored(base, [*partner.asked, item.reference], partner.tools, last_only)
            plain = [message for message in item.asked if message["role"] != "system"]
            if plain and len(plain) < len(item.asked):
                unled = _scored(base, [*plain, item.reference], item.tools, last_only)
        if own is None and (item.reference is not None or not item.instructions):
            raise BadInput(
                "the reference answer has no token that could be scored",
                where=f"eval item {item.item}",
                do="Remove the item, or give it an answer.",
            )
        prompt = answering_prompt(base, item.asked, item.tools, policy)
        prepared.append(
            PreparedItem(item.item, own, foreign, unled, prompt, side_text(item.asked, "prompt"), item.instructions)
        )
    return prepared


def answering_prompt(
    base: Base, messages: Sequence[Message], tools: Sequence[Any] | None, policy: MaskPolicy
) -> list[int]:
    """The ids that the model is given to answer `messages`.

    Raises RenderError where the template refuses them, BadInput for a token that the model does not have.
    """
    ids = prompt_ids(base.tokenizer, messages, tools, replace(policy, turns="last"))
    base.check_ids(ids)
    return ids


def foreign_prompts(items: Sequence[EvalItem]) -> dict[int, EvalItem]:
    """For each item another one of a different cluster, whose prompt it gets for the prompt gain.

    Fixed by content: neighbours in the order of a hash of the messages, so it does not depend on file order.
    """
    ring = sorted(items, key=lambda item: hashlib.sha256(json.dumps(item.messages, sort_keys=True).encode()).digest())
    partners = {}
    for i, item in enumerate(ring):
        others = (ring[(i + step) % len(ring)] for step in range(1, len(ring)))
        partner = next((other for other in others if other.cluster != item.cluster), None)
        if partner is not None:
            partners[item.item] = partner
    return partners


def reference_losses(
    base: Base, model: Any, items: Sequence[PreparedItem], micro_tokens: int, on_item: OnItem = lambda *_: None
) -> list[Metric]:
    """`response_nll`, `prompt_gain` and `system_gain` of each item, in nats per token of the reference answer.

    Prompt gain is the loss under another item's prompt minus that under its own: how much the model listens. System
    gain is the loss without the item's system turn minus that with it (a template may write one of its own then).
    Items without a reference have none of them, those without a system turn no system gain.
    """
    items = [item for item in items if item.own]
    own_rows = [item.own for item in items if item.own]
    others = [
        (item.item, gain, row)
        for item in items
        for gain, row in ((PROMPT_GAIN, item.foreign), (SYSTEM_GAIN, item.unled))
        if row
    ]
    total = len(own_rows) + len(others)
    own = _mean_losses(base, model, own_rows, micro_tokens, lambda done, _: on_item(done, total))
    rows = [row for *_, row in others]
    found = _mean_losses(base, model, rows, micro_tokens, lambda done, _: on_item(len(own_rows) + done, total))
    under = {(item, gain): loss for (item, gain, _), (loss, _) in zip(others, found, strict=True)}
    metrics = []
    for item, (loss, tokens) in zip(items, own, strict=True):
        metrics.append(Metric(item.item, RESPONSE_NLL, loss, tokens))
        metrics += [
            Metric(item.item, gain, under[item.item, gain] - loss, tokens)
            for gain in (PROMPT_GAIN, SYSTEM_GAIN)
            if (item.item, gain) in under
        ]
    return metrics


def generate(
    base: Base,
    model: Any,
    items: Sequence[Prompt],
    max_new_tokens: int,
    *,
    batch_size: int = 40,
    on_item: OnItem = lambda *_: None,
    on_tokens: OnTokens | None = None,
) -> list[Generation]:
    """Greedy answers to every item's prompt, in batches of prompts of like length.

    `on_tokens` is called after every token of a batch.
    """
    stops = sorted(stop_ids(base.tokenizer, base.model.generation_config))
    pad = base.tokenizer.pad_token_id if base.tokenizer.pad_token_id is not None else (stops[0] if stops else 0)
    order = sorted(items, key=lambda item: len(item.prompt))
    answers = []
    model.eval()
    # The last position's slice of the hidden states is not contiguous, and PyTorch answers that by copying the
    # vocabulary matrix once for every row of the batch: gigabytes, and more time than the prompts themselves.
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, args: (args[0].contiguous(),))
    try:
        for start in range(0, len(order), batch_size):
            answers += _answers(base, model, order[start : start + batch_size], max_new_tokens, stops, pad, on_tokens)
            on_item(min(start + batch_size, len(order)), len(order))
    finally:
        hook.remove()
    return sorted(answers, key=lambda answer: answer.item)


def _answers(
    base: Base,
    model: Any,
    batch: Sequence[Prompt],
    max_new_tokens: int,
    stops: list[int],
    pad: int,
    on_tokens: OnTokens | None,
) -> list[Generation]:
    ids, mask = _left_padded([item.prompt for item in batch], pad)

    def watch(so_far: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        if on_tokens:
            written = so_far[:, ids.shape[1] :].tolist()
            on_tokens({item.item: row for item, row in zip(batch, written, strict=True)})
        return torch.zeros(len(so_far), dtype=torch.bool, device=so_far.device)

    with torch.inference_mode(), base.autocast():
        out = model.generate(
            input_ids=ids.to(base.device),
            attention_mask=mask.to(base.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            eos_token_id=stops or None,
            pad_token_id=pad,
            use_cache=True,
            stopping_criteria=[watch] if on_tokens else None,
        )
    rows = out[:, ids.shape[1] :].tolist()
    return [_answer(base, item.item, row, frozenset(stops)) for item, row in zip(batch, rows, strict=True)]


def write_measured(rows: Sequence[Metric] | Sequence[Generation], path: Path) -> None:
    """Write what was measured to a Parquet file that is there whole or not at all."""
    part = path.with_suffix(".part")
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows]), part)
    part.replace(path)


def _scored(
    base: Base, messages: list[Message], tools: list[Any] | None, policy: MaskPolicy
) -> tuple[list[int], list[int]] | None:
    examples = tokenise(base.tokenizer, messages, tools, policy).examples
    if not examples or not any(examples[-1].trained[1:]):
        return None
    base.check_ids(examples[-1].input_ids)
    return examples[-1].input_ids, examples[-1].labels


def _mean_losses(
    base: Base,
    model: Any,
    rows: Sequence[tuple[list[int], list[int]]],
    micro_tokens: int,
    on_item: OnItem,
) -> list[tuple[float, int]]:
    """Mean loss and number of tokens of each row, in the order of `rows`."""
    results: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    model.eval()
    done = 0
    with scored_positions(model) as select:
        for cut in micro_batches([len(ids) for ids, _ in rows], micro_tokens):
            batch = {key: value.to(base.device) for key, value in padded([rows[i] for i in cut]).items()}
            with torch.inference_mode(), base.autocast():
                losses, owners = token_losses(model, select, batch)
            for place, index in enumerate(cut):
                mine = losses[owners == place].double()
                results[index] = (float(mine.mean()), len(mine))
            done += len(cut)
            on_item(done, len(rows))
    return results


def _left_padded(prompts: Sequence[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts padded on the left, so that all answers begin at one column, with their attention mask."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[i, width - len(prompt) :] = 1
    return ids, mask


def _answer(base: Base, item: int, row: list[int], stops: frozenset[int]) -> Generation:
    end = next((i for i, token in enumerate(row) if token in stops), None)
    ids = row if end is None else row[:end]
    text = base.tokenizer.decode(ids, skip_special_tokens=True)
    return Generation(item, text, "length" if end is None else "stop", len(ids))
