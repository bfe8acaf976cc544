"""`cut-off`: answers that break off, because a length limit or a broken export ended them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from filters.text import HAN_KANA, UNSPACED, code_share, words

_FENCE = re.compile(r"^[ \t]*(?:[-*+] |\d+[.)] )?[ \t]*(`{3,}|~{3,})", re.MULTILINE)
_CLOSERS = "\"'”’»)]}*_`」』）】》〉］"
_ENDS = ".!?…。！？；;:：।؟۔"
_OPENERS = {"(": ")", "[": "]", "{": "}", "（": "）", "【": "】", "「": "」", "『": "』", "《": "》", "“": "”"}
_BROKEN_ENDS = ",，、"  # nobody ends with a comma, except salutations
_ITEM = re.compile(r"^\s*(?:[-*+•·–]|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]|#{1,6}|\d+、|Step \d+[:.])(?:\s+|$)")
_EMPTY_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)])\s*$")
_URL_END = re.compile(r"(?:https?://|www\.)\S+$|\S+@\S+\.\w+$|\S+\.(?:com|org|net|html?|pdf|txt|py|md)$", re.IGNORECASE)
_MATH = re.compile(r"[=<>≈≤≥^\\$|→⇒±×÷√]|\d\s*[-+*/]\s*\d")
# Words that want another word after them, and do not end an English, German, French, Spanish or Italian sentence.
_DANGLING = frozenset(
    """a an the of and or but nor with from into onto than because although while whose which their your our my its his these very
    is are was were be been has have had will would can could should may might must the's such as at by for to in
    und oder aber der die das den dem des ein eine einen einem einer eines mit von zu zur zum für sowie dass weil wenn sich
    et ou mais le la les un une des du de que qui avec pour dans par sur est sont au aux leur
    y o pero el los las una unos del con para por que en es son su sus
    e ma il lo gli di della dei delle con per che è sono nel nella""".split()
)
# In an answer of a few words these may well be the whole answer ("What does it belong to?"), hence a least length.
_SHORTEST_DANGLING = 5
_SHORTEST_FRAGMENT = 3  # words behind the last full stop


class CutOffParams(FilterParams):
    """Nothing but `max_drop`: the ends of the assistant's turns are looked at."""


class CutOff(RowStep[CutOffParams]):
    """Drop rows in which an assistant turn breaks off: in an open code fence, bracket, list item or sentence.

    A missing full stop alone is no sign: short answers, lists, titles, verse, code and addresses have none. The
    sentence must break off behind finished ones, or at a word or comma that wants more. An answer cut exactly at
    the end of a sentence cannot be seen here.
    """

    name = "cut-off"
    kind = "filter"
    params_model = CutOffParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """1 with the kind as label where a turn breaks off, else 0."""
        return [Scorer("cut-off", 1, {}, each(_score))]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """Any turn that breaks off."""
        (score,) = scores
        return Finding(f"cut-off: {score.label}", score.value, score.detail) if score.label else None


def _score(row: Row) -> Score:
    for text in row.turns("response"):
        if kind := break_off(text):
            return Score(1.0, label=kind, detail="…" + text.rstrip()[-60:])
    return Score(0.0)


def break_off(text: str) -> str | None:
    """How `text` breaks off, or None: "open code fence", "open bracket", "empty list item", "mid-sentence"."""
    text = text.rstrip()
    if not text:
        return None
    if _open_fence(text):
        return "open code fence"
    last = text.splitlines()[-1].strip()
    if last.startswith(("```", "~~~", "|")) or _URL_END.search(last):
        return None
    if _looks_like_data(text) or code_share(text) > 0.4:
        return "open bracket" if _unclosed(text) and not last.endswith(tuple(_ENDS + _CLOSERS)) else None
    if _EMPTY_ITEM.match(last) and "\n" in text and len(words(text)) > _SHORTEST_DANGLING:
        return "empty list item"
    return _broken_sentence(text, last)


def _open_fence(text: str) -> bool:
    """Whether the last fence that was opened stays open (a longer or other fence does not close it)."""
    opened: str | None = None
    for match in _FENCE.finditer(text):
        fence = match.group(1)
        if opened is None:
            opened = fence
        elif fence[0] == opened[0] and len(fence) >= len(opened):
            opened = None
    return opened is not None


def _looks_like_data(text: str) -> bool:
    return text.lstrip()[0] in "{[<"


def _unclosed(text: str) -> str | None:
    """The last opening bracket without its closing one, strings left out; None when all are closed."""
    bare = re.sub(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", "", text)
    stack: list[str] = []
    for char in bare:
        if char in _OPENERS:
            stack.append(char)
        elif stack and char == _OPENERS[stack[-1]]:
            stack.pop()
    return stack[-1] if stack else None


def _broken_sentence(text: str, last: str) -> str | None:
    bare = last.rstrip(_CLOSERS)
    if not bare or bare[-1] in _ENDS or _is_symbol(bare[-1]):
        return None
    if (
        _unclosed(last)
        and last[-1] not in _CLOSERS
        and len(words(last)) >= _SHORTEST_FRAGMENT
        and not _MATH.search(last)
    ):
        return "open bracket"
    said = words(text)
    if len(said) >= _SHORTEST_DANGLING and last == bare:
        if last[-1] in _BROKEN_ENDS and len(words(last)) >= _SHORTEST_FRAGMENT:
            return "mid-sentence"
        if last.endswith("-") and last[-2:-1].isalpha():
            return "mid-sentence"
        if said[-1] in _DANGLING and len(words(last)) >= _SHORTEST_FRAGMENT and not _MATH.search(last):
            return "mid-sentence"
    return "mid-sentence" if _fragment_behind_sentences(text, last) else None


def _fragment_behind_sentences(text: str, last: str) -> bool:
    """Whether the last line holds finished sentences and then one without an end, in prose."""
    if _ITEM.match(last) or _MATH.search(last):
        return False
    ends = list(re.finditer(r"(?<=[\w\"”’)])[.!?](?=[\s\"”’)])|[。！？]", last))
    if not ends:
        return False
    fragment = last[ends[-1].end() :]
    count = len(words(fragment))
    return count >= (_SHORTEST_FRAGMENT if not re.search(f"[{HAN_KANA}{UNSPACED}]", fragment) else 4)


def _is_symbol(char: str) -> bool:
    """Emoji and other signs that people end a text with."""
    return not char.isalnum() and char not in _BROKEN_ENDS and char not in "-–—/&+" and char not in _OPENERS
