"""What there is to know of a row's tokens one by one: whose they are, their bytes, and why each is trained or not."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.chat import Cut, Issue, TrainingExample
from trainer.conversation import Message
from workbench.tables import write_table
from workbench.tokens import Lens, Seen

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKEN_COLUMNS = ("example", "token", "id", "text", "bytes", "role", "trained", "kept", "special", "loss")
"""What is written of a token for other programs: the keys of `token_rows`."""

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Stretch:
    """Tokens `start` to `stop` of one role. `messages` are the messages they write: several where neighbours share
    a role, none where the template adds text of its own."""

    start: int
    stop: int
    role: str
    messages: tuple[int, ...]

    @property
    def told(self) -> str:
        """Whose they are, in words."""
        if not self.messages:
            return f"{self.role} text of the template's own"
        first, last = self.messages[0], self.messages[-1]
        return f"{self.role} message {first}" if first == last else f"{self.role} messages {first} to {last}"


@dataclass(frozen=True)
class Page:
    """One training example of a row as it is looked at.

    `number` of `count` examples; `cut` is what the limit does to it; tokens `left[0]` to `left[1]` reach the trainer.
    `turns_elsewhere` are messages that other examples of the row train.
    """

    example: TrainingExample
    number: int
    count: int
    cut: Cut | None
    left: tuple[int, int]
    stretches: tuple[Stretch, ...]
    turns_elsewhere: frozenset[int]

    def stretch_at(self, token: int) -> int:
        """The place in `stretches` of the one that holds a token."""
        return max(bisect_right(self.stretches, token, key=lambda stretch: stretch.start) - 1, 0)

    def is_left(self, token: int) -> bool:
        """Whether a token reaches the trainer."""
        return self.left[0] <= token < self.left[1]


@dataclass(frozen=True)
class Counts:
    """Tokens of a row that reach the trainer: all, and those that are trained."""

    trained: int
    total: int


def counts(seen: Seen) -> Counts:
    """The tokens of a row under its lens."""
    examples = seen.fitted.examples
    return Counts(sum(sum(example.trained) for example in examples), sum(len(e.input_ids) for e in examples))


def pages(seen: Seen) -> list[Page]:
    """The examples of a row; none where the template refuses it."""
    messages: list[Message] = json.loads(seen.row.messages)
    found: list[tuple[Cut | None, TrainingExample]] = [
        (cut, example) for cut, examples in seen.parts() for example in examples
    ]
    return [
        Page(
            example,
            number,
            len(found),
            cut,
            _left(cut, example),
            tuple(_stretches(example, messages)),
            frozenset(turn for _, other in found if other is not example for turn in other.turns),
        )
        for number, (cut, example) in enumerate(found, start=1)
    ]


def _left(cut: Cut | None, example: TrainingExample) -> tuple[int, int]:
    if cut is None or cut.dropped:
        return 0, len(example.input_ids)
    return cut.start, cut.end


def _stretches(example: TrainingExample, messages: Sequence[Message]) -> Iterator[Stretch]:
    """Runs of one role, each with the next messages of that role."""
    groups = [
        (role, tuple(index for index, _ in group))
        for role, group in groupby(enumerate(messages), key=lambda entry: str(entry[1].get("role")))
    ]
    at, start = 0, 0
    for role, run in groupby(example.roles):
        stop = start + sum(1 for _ in run)
        place = next((i for i in range(at, len(groups)) if groups[i][0] == role), None)
        yield Stretch(start, stop, role, groups[place][1] if place is not None else ())
        at, start = place + 1 if place is not None else at, stop


def issue_token(page: Page, issue: Issue) -> int | None:
    """The first token of what an issue is about; None where that is not in this example."""
    if issue.kind in ("truncated", "response-lost"):
        if page.cut is None or page.cut.dropped:
            return None
        return page.left[0] or page.left[1] or 0
    if issue.turn is None:
        return 0
    return next((stretch.start for stretch in page.stretches if issue.turn in stretch.messages), None)


def why(page: Page, token: int, messages: Sequence[Message], lens: Lens, issues: Sequence[Issue]) -> str:
    """Why a token is trained, or why not, in a few words."""
    example, (first, last) = page.example, page.left
    if not page.is_left(token):
        if first == last:
            return f"ignored: the example is longer than {lens.limit:,} tokens, and dropped"
        return f"ignored: cut away, {lens.limit:,} tokens are the limit"
    stretch = page.stretches[page.stretch_at(token)]
    if example.trained[token]:
        if lens.policy.turns == "full":
            return "trained: under the policy full every token is"
        ends = token + 1 == len(example.trained) or not example.trained[token + 1]
        if ends and example.special[token]:
            return f"trained: the stop token of {stretch.told}, which the model must write"
        return f"trained: the model must write it ({stretch.told})"
    if first and token == first:
        return "ignored: after the cut nothing stands before it to predict it from"
    if stretch.role != "assistant":
        return f"ignored: the model is given it ({stretch.told})"
    return "ignored: " + _why_not(page, token, stretch, messages, lens, issues)


def _why_not(
    page: Page, token: int, stretch: Stretch, messages: Sequence[Message], lens: Lens, issues: Sequence[Issue]
) -> str:
    trained = page.example.trained
    inside = [i for i in range(stretch.start, stretch.stop) if trained[i]]
    own = [messages[index] for index in stretch.messages]
    left_out = []
    if any("train_spans" in message for message in own):
        left_out.append("outside its train_spans")
    if not lens.policy.reasoning:
        left_out.append("reasoning, which is not trained")
    if not lens.policy.tool_calls and any(message.get("tool_calls") for message in own):
        left_out.append("tool calls, which are not trained")
    if not inside:
        return _untrained(page, stretch, own, lens, issues, left_out)
    parts = " or ".join(left_out)
    if token < inside[0]:
        return "inference hands it to the model, which goes on from there" + (f"; or {parts}" if parts else "")
    if token > inside[-1]:
        return "it stands behind what the model writes" + (f"; or {parts}" if parts else "")
    return parts or "between parts of the turn that are trained"


def _untrained(
    page: Page, stretch: Stretch, own: Sequence[Message], lens: Lens, issues: Sequence[Issue], left_out: Sequence[str]
) -> str:
    """Why nothing of an assistant turn is trained."""
    if own and all(message.get("train") is False for message in own):
        return f'{stretch.told} has "train": false'
    if page.turns_elsewhere.intersection(stretch.messages):
        return f"{stretch.told} is trained in another example of this row"
    for issue in issues:
        if issue.turn in stretch.messages and issue.kind in ("part-not-found", "prefix-broken", "straddle"):
            return f"{stretch.told}: {issue.kind}"
    if lens.policy.turns == "last":
        return "only the last assistant turn is trained"
    return " or ".join(left_out) or f"nothing of {stretch.told} is trained"


def token_bytes(tokenizer: PreTrainedTokenizerBase, id: int) -> bytes:
    """The bytes that a token stands for, as its decoder would write them; empty where the tokenizer does not tell."""
    added = tokenizer.added_tokens_decoder.get(id)
    if added is not None:
        return str(added.content).encode()
    piece = tokenizer.convert_ids_to_tokens(id)
    if not isinstance(piece, str):
        return b""
    if byte := _BYTE.fullmatch(piece):
        return bytes([int(byte[1], 16)])
    codes = _byte_alphabet()
    if _is_byte_level(tokenizer) and all(char in codes for char in piece):
        return bytes(codes[char] for char in piece)
    return piece.replace("▁", " ").encode("utf-8", "replace")


@lru_cache(1)
def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level BPE writes bytes: printable Latin-1 as itself, the rest from U+0100 on.

    After `bytes_to_unicode` of GPT-2's encoder (Radford et al., 2019).
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [code for code in range(0x100) if code not in plain]
    return {chr(code): code for code in plain} | {chr(0x100 + place): code for place, code in enumerate(others)}


def _is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is None or "ByteLevel" in repr(backend.decoder)


def token_rows(
    pages: Sequence[Page], tokenizer: PreTrainedTokenizerBase, losses: Sequence[Sequence[float | None]] = ()
) -> Iterator[dict[str, Any]]:
    """Every token of a row for other programs. `losses` are in nats, one list a page where they are known."""
    for place, page in enumerate(pages):
        example = page.example
        for token, id_ in enumerate(example.input_ids):
            start, end = example.offsets[token]
            yield {
                "example": page.number - 1,
                "token": token,
                "id": id_,
                "text": example.text[start:end],
                "bytes": token_bytes(tokenizer, id_).hex(),
                "role": example.roles[token],
                "trained": example.trained[token] and page.is_left(token),
                "kept": page.is_left(token),
                "special": example.special[token],
                "loss": losses[place][token] if place < len(losses) else None,
            }


def write_tokens(rows: Iterable[dict[str, Any]], path: Path) -> int:
    """Write the rows of `token_rows` as a table; returns how many. Raises as `write_table` does."""
    return write_table(path, TOKEN_COLUMNS, ([row[name] for name in TOKEN_COLUMNS] for row in rows))
