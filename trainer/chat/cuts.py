"""From characters to tokens: which tokens of a text are a turn's. Step 5 of the masks.

Cuts are made between tokens only: a token that lies across a border is not trained, and reported.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from itertools import pairwise

from trainer.chat.chat_format import ChatFormat
from trainer.chat.encode import Encoding
from trainer.chat.example import Issue
from trainer.chat.sequences import Ranges
from trainer.chat.turns import Host, Turn


def prompt_ends(chat: ChatFormat, host: Host, encoding: Encoding) -> Iterator[str]:
    """The texts that must be tokenised alone before `labelled` can say whether the cuts are clean."""
    if encoding.offsets is not None:
        for turn in host.turns:
            first = bisect_left(encoding.offsets.starts, turn.start)
            if not _lies_across(encoding.offsets, first, turn.start):
                yield _prompt_end(chat, host.text, encoding.ids, encoding.offsets, first, turn.start)[0]


def labelled(
    chat: ChatFormat, host: Host, encoding: Encoding, alone: Mapping[str, list[int]], issues: list[Issue]
) -> tuple[list[int], Ranges, list[bool]]:
    """Ids, character ranges and labels of one text. `alone` holds the ids of what `prompt_ends` gave."""
    if encoding.offsets is None:
        return _by_segments(chat, host, encoding.ids, issues)
    trained = [False] * len(encoding.ids)
    for turn in host.turns:
        first, last = _token_range(chat, host.text, encoding.ids, encoding.offsets, turn, alone, issues)
        trained[first:last] = [True] * (last - first)
        _ignore(trained, encoding.offsets, turn)
    return encoding.ids, encoding.offsets, trained


def _ignore(trained: list[bool], offsets: Ranges, turn: Turn) -> None:
    """Take out every token that holds any of what the turn is not to be trained on."""
    for start, end in turn.ignored:
        first, last = bisect_right(offsets.ends, start), bisect_left(offsets.starts, end)
        trained[first:last] = [False] * (last - first)


def _token_range(
    chat: ChatFormat,
    text: str,
    ids: list[int],
    offsets: Ranges,
    turn: Turn,
    alone: Mapping[str, list[int]],
    issues: list[Issue],
) -> tuple[int, int]:
    """First token of the turn and the one behind its last. Cuts between tokens: one across a border stays out."""
    first = bisect_left(offsets.starts, turn.start)
    if _lies_across(offsets, first, turn.start):
        issues.append(Issue("straddle", turn.index, _straddler(text, offsets[first - 1], "where the turn begins")))
    else:
        piece, expected = _prompt_end(chat, text, ids, offsets, first, turn.start)
        if alone[piece] != expected:
            issues.append(Issue("straddle", turn.index, "the prompt alone is split into other tokens than here"))
            # With trimmed offsets a token may begin with whitespace of the prompt that its range does not show.
            if first < len(offsets) and first and offsets.ends[first - 1] < turn.start:
                first += 1
    if turn.stop is not None:
        stop = bisect_right(offsets.starts, turn.stop) - 1
        if ids[stop] in chat.facts.stops:
            return first, max(first, stop + 1)
        issues.append(Issue("no-stop", turn.index, "the text of its stop token is not tokenised as that token"))
    last = bisect_left(offsets.starts, turn.end)
    while last > first and offsets.ends[last - 1] > turn.end:
        last -= 1
        issues.append(Issue("straddle", turn.index, _straddler(text, offsets[last], "where the turn ends")))
    return first, max(first, last)


def _lies_across(offsets: Ranges, first: int, border: int) -> bool:
    return first > 0 and offsets.ends[first - 1] > border


def _straddler(text: str, span: tuple[int, int], where: str) -> str:
    return f"the token {text[span[0] : span[1]]!r} lies across the border {where}"


def _prompt_end(
    chat: ChatFormat, text: str, ids: list[int], offsets: Ranges, first: int, start: int
) -> tuple[str, list[int]]:
    """The end of the prompt, `text[:start]`, and the ids that it must have alone for the cut to be clean.

    An added token splits the text before anything else does, so it is enough to look back to the last one.
    """
    back = first - 1
    while back > 0 and ids[back] not in chat.added.texts:
        back -= 1
    back = max(back, 0)
    piece = text[offsets.starts[back] : start] if first else text[:start]
    return piece, ids[back:first]


def _by_segments(
    chat: ChatFormat, host: Host, whole: list[int], issues: list[Issue]
) -> tuple[list[int], Ranges, list[bool]]:
    """For tokenizers without usable offsets: tokenise between the borders, and keep that only if the ids agree."""
    borders = [(turn.start, turn.end) for turn in host.turns]
    ignored = [span for turn in host.turns for span in turn.ignored]
    cuts = sorted({0, len(host.text), *(place for span in [*borders, *ignored] for place in span)})
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    trained: list[bool] = []
    for start, end in pairwise(cuts):
        segment = chat.encoder.ids(host.text[start:end])
        ids += segment
        offsets += [(start, end), *[(end, end)] * (len(segment) - 1)][: len(segment)]
        is_trained = _within(start, end, borders) and not _within(start, end, ignored)
        trained += [is_trained] * len(segment)
    if ids != whole:
        for turn in host.turns:
            detail = "this tokenizer tells no positions and joins text across the borders of turns: not trained"
            issues.append(Issue("straddle", turn.index, detail))
        end = len(host.text)
        offsets = [(0, end), *[(end, end)] * (len(whole) - 1)][: len(whole)]
        return whole, Ranges.of(offsets), [False] * len(whole)
    return ids, Ranges.of(offsets), trained


def _within(start: int, end: int, spans: list[tuple[int, int]]) -> bool:
    return any(a <= start and end <= b for a, b in spans)
