"""`cut-off`: answers that break off, because a length limit or a broken export ended them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args

from pydantic import Field

from filters.fences import fences
from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from filters.text import HAN_KANA, UNSPACED, code_share, without_code, words
from trainer.conversation import content_text

_CLOSERS = "\"'”’»)]}*_`」』）】》〉］"
_ENDS = ".!?…。！？；;:：।؟۔"
_OPENERS = {"(": ")", "[": "]", "{": "}", "（": "）", "【": "】", "「": "」", "『": "』", "《": "》", "“": "”"}
_BROKEN_ENDS = ",，、"  # nobody ends with a comma, except salutations
_ITEM = re.compile(r"^\s*(?:[-*+•·–]|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]|#{1,6}|\d+、|Step \d+[:.])(?:\s+|$)")
_EMPTY_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)])\s*$")
_URL_END = re.compile(r"(?:https?://|www\.)\S+$|\S+@\S+\.\w+$|\S+\.(?:com|org|net|html?|pdf|txt|py|md)$", re.IGNORECASE)
_TABLE_ROW = re.compile(r"^[ \t]*\|.*\|[ \t]*$", re.MULTILINE)
_ANNOUNCES = ":：="  # what was announced does not come
_TAIL = 200  # characters that tell how a line ends; some patterns backtrack
_MOSTLY_CODE = 0.4  # of the lines
_MATH = re.compile(r"[=<>≈≤≥^\\$|→⇒±×÷√]|\d\s*[-+*/]\s*\d")
# Words that want another word after them: English, German, French, Spanish, Italian.
_DANGLING = re.compile(
    r"the|an|and|or|but|nor|into|onto|than|because|although|whose|which|their|your|our|my"
    r"|und|oder|der|den|dem|des|eine?[mnrs]?|zur|zum|sowie|dass|weil|wenn"
    r"|et|ou|mais|le|la|les|une|des|du|de|que|qui|dans|aux?|el|los|las|una|unos|del|para|por|il|gli|di|della|dei"
    r"|delle|che|nella?"
)
# Words that may end a sentence ("something to be proud of"), but seldom one of some length without a full stop.
_HANGING = re.compile(
    r"of|to|for|with|by|at|from|is|are|was|were|be|has|have|had|will|would|can|could|should|such|as|its|his|these"
    r"|mit|von|zu|für|ist|sind|avec|pour|est|sont|con|es|è|sono"
)
_HASHTAGS = re.compile(r"(?:^|\s)#\w+$")
_CLOSING_WORDS = re.compile(
    r"\b(?:yours|sincerely|regards|respectfully|cordially|cheers|warmly|love|wishes|with \w+(?: and \w+)?,"
    r"|mit freundlichen|viele grüße|liebe grüße|cordialement|atentamente|saludos|cordiali)(?!\w)[^!?]{0,60}$|此致"
    r"|敬上|敬礼",
    re.IGNORECASE,
)
_ATTRIBUTION = re.compile(r"[.!?…\"”'’»。！？]\s*[-–—~]+\s*[A-Z\[(][^!?]{0,60}$")  # "..." - Name
Kind = Literal["open code fence", "open bracket", "open table row", "empty list item", "mid-sentence", "no full stop"]

_SHORTEST = 5  # words; fewer may well be the whole answer ("What are they made of?")
_FRAGMENT = 3  # words behind the last full stop of a line
_WHOLE_ANSWER = 8  # words; below, a missing full stop means nothing
_LONG_LINE = 12  # words without any end, where nothing else tells how the answer ends its sentences
_SCRIPT_WITHOUT_BLANKS = re.compile(f"[{HAN_KANA}{UNSPACED}]")
_WORDS_PER_CHARACTER = 0.6  # there each character counts as a word


class CutOffParams(FilterParams):
    """`kinds`: which signs count. "no full stop" is the weakest: careless but whole answers have it too."""

    kinds: list[Kind] = Field(default=list(get_args(Kind)), min_length=1)


class CutOff(RowStep[CutOffParams]):
    """Drop rows in which an assistant turn breaks off: in an open code fence, bracket, list item or sentence.

    A missing full stop alone is no sign: short answers, lists, titles, verse, code and addresses have none. It
    counts behind finished sentences, or in a long line where the other lines have theirs. An answer cut exactly at
    the end of a sentence cannot be seen here.
    """

    name = "cut-off"
    kind = "filter"
    params_model = CutOffParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """1 with the kind as label where a turn breaks off, else 0."""
        return [Scorer("cut-off", 3, {}, each(_score))]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """A turn that breaks off in one of the chosen ways."""
        (score,) = scores
        if score.label not in self.params.kinds:
            return None
        return Finding(f"cut-off: {score.label}", score.value, score.detail)


def _score(row: Row) -> Score:
    # What leads up to a tool call ("Let me look that up:") goes on in the call.
    turns = [
        content_text(m.get("content")) for m in row.messages if m["role"] == "assistant" and not m.get("tool_calls")
    ]
    found = [(kind, text) for text in turns if (kind := break_off(text))]
    if not found:
        return Score(0.0)
    order = get_args(Kind)  # the surest sign of all turns
    kind, text = min(found, key=lambda pair: order.index(pair[0]))
    return Score(1.0, label=kind, detail="…" + text.rstrip()[-60:])


def break_off(text: str) -> Kind | None:
    """How `text` breaks off, or None."""
    text = text.rstrip()
    if not text:
        return None
    if any(not fence.closed for fence in fences(text)):
        return "open code fence"
    last = text.splitlines()[-1].strip()
    if last.startswith("|"):
        return "open table row" if last[-1] != "|" and len(_TABLE_ROW.findall(text)) >= 2 else None
    if last.startswith(("```", "~~~")) or _URL_END.search(last[-_TAIL:]):
        return None
    if text.lstrip()[0] in "{[<" or code_share(without_code(text)) > _MOSTLY_CODE:
        return "open bracket" if last[-1] not in _ENDS + ")]}" and _unclosed(text) else None
    if _EMPTY_ITEM.match(last) and "\n" in text and len(words(text)) > _SHORTEST:
        return "empty list item"
    if last[-1] in _ANNOUNCES and len(words(text)) > _SHORTEST:
        return "mid-sentence"
    if last[-1] in _ENDS + _CLOSERS or not (last[-1].isalnum() or last[-1] in _BROKEN_ENDS + "-"):
        return None
    return _broken_sentence(text, last)


def _unclosed(text: str) -> bool:
    """Whether a bracket stays open, strings left out."""
    bare = re.sub(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", "", text)
    stack: list[str] = []
    for char in bare:
        if char in _OPENERS:
            stack.append(char)
        elif stack and char == _OPENERS[stack[-1]]:
            stack.pop()
    return bool(stack)


def _broken_sentence(text: str, last: str) -> Kind | None:
    """`last`, the last line of `text`, ends in a letter, digit, comma or hyphen: did more want to come?"""
    if _MATH.search(last):
        return None
    here = words(last)
    if len(here) >= _FRAGMENT and _unclosed(last):
        return "open bracket"
    if len(words(text)) >= _SHORTEST and len(here) >= _FRAGMENT:
        hyphen = last[-1] == "-" and last[-2:-1].isalpha()
        hangs = _DANGLING.fullmatch(here[-1]) or (len(words(text)) >= _WHOLE_ANSWER and _HANGING.fullmatch(here[-1]))
        if last[-1] in _BROKEN_ENDS or hyphen or hangs:
            return "mid-sentence"
    return "no full stop" if _lacks_full_stop(text, last) else None


def _lacks_full_stop(text: str, last: str) -> bool:
    """Whether the last line alone has no end, in a text that otherwise has them."""
    if any(style.search(last[-_TAIL:]) for style in (_HASHTAGS, _CLOSING_WORDS, _ATTRIBUTION)) or (
        last[-1].isdigit() and ":" in last
    ):
        return False
    lines = [line.strip() for line in text.splitlines()[:-1] if line.strip()]
    if _ITEM.match(last):
        items = [line for line in lines if _ITEM.match(line) and _length(line) >= _SHORTEST]
        return len(items) >= 2 and all(map(_ended, items)) and _length(last) >= _SHORTEST
    prose = [line for line in lines if not _ITEM.match(line) and _length(line) >= _WHOLE_ANSWER]
    if not all(map(_ended, prose)):
        return False  # the author writes so
    ends = list(re.finditer(r"(?<=[\w\"”’)])[.!?](?=[\s\"”’)])|[。！？]", last))
    if ends and _length(last[ends[-1].end() :]) >= _FRAGMENT:
        return _length(text) >= _WHOLE_ANSWER
    return _length(last) >= (_WHOLE_ANSWER if prose else _LONG_LINE)


def _ended(line: str) -> bool:
    return line[-1] in _ENDS + _CLOSERS


def _length(text: str) -> float:
    """Words, in scripts without blanks estimated from the characters."""
    count = len(words(text))
    return count * _WORDS_PER_CHARACTER if _SCRIPT_WITHOUT_BLANKS.search(text) else count
