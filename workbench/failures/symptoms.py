"""What a single answer shows of the classic failures of fine-tuning. All of it is text: no model is asked.

Each function gives the piece of the answer that shows the failure, or None. The same is asked of the references of an
eval set, which show what is no failure, and of training rows, which may have taught it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from filters.rules.echo import begins_with
from filters.rules.markup import chat_markers
from filters.rules.mojibake import bad_sequences
from filters.rules.repetition import loop_share, sentence_share
from filters.text import without_code, words

LOOPS_FROM = 0.3
"""Share of an answer's words that only say again what stood there, from which it loops.

The threshold of the step `repetition`, whose precision on real answers docs/filters.md has.
"""

QUOTED_RUN = 8
"""Words in a run that counts as quoted; shorter ones are common phrases. As `regurgitation` counts them."""

SAME_START = 8
"""Words by which two answers are taken for the same; a shorter answer is taken whole, from `_LEAST_START` on."""

_LEAST_START = 4
_SHOWN = 80  # characters of a piece

# A name of a speaker with a colon, or alone on a line, as it is left where a template's special tokens were taken out.
_NEXT_TURN = re.compile(
    r"^[ \t]*(?:#{2,3} ?)?(?:user|human|assistant|instruction|question|prompt|q)[ \t]*:"
    r"|^(?:user|assistant|human)[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_LIST_MARK = re.compile(r"^(?:[-*+•]|\d{1,3}[.)])\s+")
_ENDS = (".", "?", "!", ":", "…", "。", "？", "！", '"', "”", ")")
_PIECES = re.compile(r"[ĠĊ▁]\w")  # how vocabularies write a space or a new line in front of a word


def continues(question: str, answer: str) -> str | None:
    """Whether an answer goes on with the conversation instead of answering its last `question`.

    It writes the next turn, repeats the question, asks only questions itself, or ends the question's open sentence.
    """
    text = answer.strip()
    label = next((m for m in _NEXT_TURN.finditer(without_code(text)) if m.group() not in question), None)
    if label:
        return f"writes another turn: {piece(label.string[label.start() :])}"
    if begins_with(text, question):
        return f"repeats the prompt: {piece(text)}"
    sentences = [_LIST_MARK.sub("", part.strip()) for part in _SENTENCE.split(text) if part.strip()]
    if sentences and all(sentence.endswith(("?", "？")) for sentence in sentences):
        return f"asks in its turn: {piece(text)}"
    asked = question.strip()
    if asked and text and not asked.endswith(_ENDS) and (text[0].islower() or text[0] in ",;"):
        return f"ends the prompt's sentence: {piece(text)}"
    return None


def loops(answer: str) -> str | None:
    """Whether an answer says the same again and again; see `LOOPS_FROM`."""
    prose = without_code(answer)
    share, what = max(loop_share(prose), sentence_share(prose), key=lambda found: found[0])
    return piece(what or "") if share >= LOOPS_FROM else None


def garbled(question: str, answer: str) -> str | None:
    """Whether an answer holds what no reader should see: a chat template's markers, lost or wrongly decoded characters.

    Half a character at its end is no sign: that is where the limit of new tokens cut it.
    """
    text = answer.rstrip("\ufffd")
    markers = [marker for marker in chat_markers(without_code(text)) if marker not in question]
    if markers:
        return f"chat marker: {piece(markers[0])}"
    broken = [found for found in bad_sequences(text) if found not in question]
    if broken:
        return f"wrong characters: {piece(broken[0])}"
    spelled = _PIECES.search(text)
    return f"pieces of the vocabulary: {piece(text[spelled.start() :])}" if spelled else None


def runs(text: str, length: int = QUOTED_RUN) -> set[tuple[str, ...]]:
    """Every run of `length` words of a text, case and punctuation aside; none where it is shorter."""
    said = plain_words(text)
    return set(zip(*(said[i:] for i in range(length)), strict=False))


def start(text: str) -> tuple[str, ...] | None:
    """The words by which an answer is compared with others; None where it is too short to mean anything."""
    said = plain_words(text)
    return tuple(said[:SAME_START]) if len(said) >= _LEAST_START else None


def plain_words(text: str) -> list[str]:
    """The words of a text in any script, their case folded."""
    return [word.casefold() for word in words(text)]


def question_of(contents: Sequence[tuple[str, str]]) -> str:
    """The last user turn of (role, text) pairs."""
    return next((text for role, text in reversed(contents) if role == "user"), "")


def piece(text: str) -> str:
    """The beginning of a text on one line, to be shown."""
    return " ".join(text.split())[:_SHOWN]
