"""Special tokens that somebody typed into a message: found, and written as plain text where that is asked for.

A tokenizer cannot tell `<|im_end|>` in a question from the one that ends the question. To write it as plain text it
is parted by a mark before the template sees it, so that whatever still reads as a special token is the template's
own; the mark is taken out again between the special tokens, where the text is tokenised without looking for any.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from trainer.chat.encode import Encoder, Encoding
from trainer.chat.example import Special
from trainer.chat.probe import AddedTokens
from trainer.chat.render import RenderError
from trainer.chat.sequences import Ranges
from trainer.conversation import Message, content_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Unwritable(RenderError):
    """A special token was typed into a row, and the policy or the tokenizer does not let it stand as plain text."""


MARK = "\ufdd0"
"""A noncharacter: Unicode keeps it for a program's own use, and no text that is passed on may contain it."""


def forged_in(value: Any, added: AddedTokens) -> list[str]:
    """The special tokens in the strings of `value` (a message, its tools), each once, sorted."""
    return sorted({found for text in _strings(value) for found in added.special_pattern.findall(text)})


def admitted(
    messages: Sequence[Message], tools: Sequence[Any] | None, added: AddedTokens, special: Special
) -> tuple[Sequence[Message], Sequence[Any] | None]:
    """The row as the policy lets it be rendered. Raises Unwritable where it is refused."""
    if special == "flag":
        return messages, tools
    if special == "text" and any(MARK in text for text in _strings([messages, tools])):
        raise Unwritable("contains U+FDD0, by which special tokens are marked to write them as plain text")
    if not (found := forged_in([messages, tools], added)):
        return messages, tools
    if special == "refuse":
        raise Unwritable(f"contains {', '.join(found)}, which the policy does not admit")
    return parted(messages, tools, added)


def parted(
    messages: Sequence[Message], tools: Sequence[Any] | None, added: AddedTokens
) -> tuple[list[Message], Sequence[Any] | None]:
    """`messages` and `tools` with MARK behind the first character of each special token in them.

    Raises Unwritable where that does not hide it, as in a token of one character.
    """

    def part(value: Any) -> Any:
        if isinstance(value, str):
            return added.special_pattern.sub(lambda found: f"{found[0][0]}{MARK}{found[0][1:]}", value)
        if isinstance(value, dict):
            return {part(key): part(item) for key, item in value.items()}
        return [part(item) for item in value] if isinstance(value, (list, tuple)) else value

    marked = [
        _moved({key: value if key == "role" else part(value) for key, value in message.items()}) for message in messages
    ]
    given = part(list(tools)) if tools else None
    if left := forged_in([marked, given], added):
        raise Unwritable(f"{', '.join(left)} cannot be written as plain text")
    return marked, given


def _moved(message: Message) -> Message:
    """`message` with its `train_spans` moved to where the marks in its content have moved the characters."""
    text = content_text(message.get("content"))
    if "train_spans" not in message or MARK not in text:
        return message
    places = [*(i for i, character in enumerate(text) if character != MARK), len(text)]
    # Spans that make no sense stay as they are, to be told of where they are used.
    with suppress(TypeError, ValueError, IndexError):
        return {**message, "train_spans": [[places[a], places[b]] for a, b in message["train_spans"]]}
    return message


def encode_parted(encoder: Encoder, blind: Tokenizer, text: str, special: frozenset[int]) -> Encoding:
    """The ids of `text` without its marks; `blind` is the tokenizer's backend, set to see no special tokens.

    The character ranges are those of `text` with the marks. Raises Unwritable where the tokenizer does not give the
    text between two special tokens the same ids alone as in its place, or still makes special tokens of it.
    """
    (whole,) = encoder.batch([text], offsets=True)
    if whole.offsets is None:
        raise Unwritable("a special token in it cannot be written as plain text: the tokenizer tells no positions")
    ids, offsets = whole.ids, whole.offsets
    made: list[int] = []
    ranges: list[tuple[int, int]] = []
    borders = [-1, *(i for i, id_ in enumerate(ids) if id_ in special), len(ids)]
    for before, after in pairwise(borders):
        first, start = before + 1, offsets[before][1] if before >= 0 else 0
        end = offsets[after][0] if after < len(ids) else len(text)
        piece = text[start:end]
        if MARK in piece:
            new, spans = _blind(encoder, blind, piece, ids[first:after], special)
            ranges += [(a + start, b + start) for a, b in spans]
        else:
            new = ids[first:after]
            ranges += offsets[first:after]
        made += [*new, *ids[after : after + 1]]
        ranges += offsets[after : after + 1]
    return Encoding(made, Ranges.of(ranges))


def _blind(
    encoder: Encoder, blind: Tokenizer, piece: str, expected: list[int], special: frozenset[int]
) -> tuple[list[int], list[tuple[int, int]]]:
    encoding = blind.encode(piece.replace(MARK, ""), add_special_tokens=False)
    found, allowed = (Counter(id_ for id_ in ids if id_ in special) for ids in (encoding.ids, expected))
    if encoder.ids(piece) != expected or found - allowed:
        raise Unwritable("a special token in it cannot be written as plain text by this tokenizer")
    places = [i for i, character in enumerate(piece) if character != MARK]
    offsets = [
        (places[a], places[b - 1] + 1) if b > a else ([*places, len(piece)][a],) * 2 for a, b in encoding.offsets
    ]
    return list(encoding.ids), offsets


def unmarked(text: str, offsets: Ranges) -> tuple[str, Ranges]:
    """`text` without its marks, and the character ranges in it that `offsets` have in `text`."""
    marks = [i for i, character in enumerate(text) if character == MARK]
    moved = ((a - bisect_left(marks, a), b - bisect_left(marks, b)) for a, b in offsets)
    return text.replace(MARK, ""), Ranges.of(moved)


def _strings(value: Any) -> Iterator[str]:
    """Every string in `value` at any depth, keys of objects included; the role of a message is not the user's."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            if key != "role":
                yield from _strings(key)
                yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
