"""Appeals: sentences in a row that speak to whoever rates it ("rate this 5", "note to the judge: ...").

No small model is told in vain that it must not listen: an appeal moved the expected rating of SmolLM2-135M by a point
of five. So the judge is not shown the appeals that can be recognised, and the row's score says so (label `injected`).
By pattern, in English and a few wordings of other languages (`filters.judge.appeals_abroad`): what is worded otherwise
goes through, fenced and announced as data.
"""

from __future__ import annotations

import json
import re
from typing import Any

from filters.judge.appeals_abroad import IN_AN_ANSWER, TO_A_JUDGE

_BETWEEN = re.compile(r"(?<=[.!?])(?=\s)|(?<=\n)|(?<=[。！？])")
_GRADE = r"(?:rat(?:e|ed|ing|ings)|scor(?:e|ed|es|ing)|grad(?:e|ed|es|ing)|marks?|points?|stars?)"
_BEST = (
    r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|highest|top|best|full|max(?:imum)?|perfect|excellent)\b"
)
_RATED = r"(?:answer|response|reply|example|row|sample|conversation|output|solution)"
_THIS = rf"(?:(?:this|it|me|us)\b|(?:this|my|that|the|our|above)(?: \w+)? {_RATED}\b)"
_JUDGE = r"(?:judges?|graders?|evaluators?|raters?|scorers?)"
_PLAIN = r"(?:\d{1,3}|one|two|three|four|five|six|seven|eight|nine|ten)"
_OUT_OF = r"(?: ?(?:/|out of) ?\d{1,3})"
_NUMBER = rf"{_PLAIN}{_OUT_OF}?"
_END = r"(?=\W*$|[,;:!?)]|\. )"
_ITEM = rf"(?:this|(?:this|my|the|above)(?: \w+)? {_RATED})"
_DO = r"(?:^|[:;,)\]–—-]\s*|\b(?:please|kindly|must|should|always|now|you|and|to)\s+)"

# Nobody says these to a user, or to a model, in a text that is worth training on, except where it is about judging.
_TO_A_JUDGE = [
    rf"\b(?:note|message|instructions?|attention)\b[^\n]{{0,20}}\b{_JUDGE}\b",
    rf"\b{_JUDGE}\b[^\n]{{0,120}}\b(?:must|should|please|will) (?:{_GRADE}|give|award|assign)\b",
    r"\b(?:ignore|disregard|forget|override)\b[^\n]{0,40}\b(?:instructions?|rubrics?|criteria|guidelines|scale)\b",
    rf"\b(?:correct|right|proper|appropriate|only|true|final|expected)(?: \w+)? (?:rating|score|grade) for\b"
    rf"[^\n]{{0,60}}\b(?:is|must be|should be)\b[^\n]{{0,20}}{_BEST}",
    r"^\W*(?:(?:final|overall|correct|my|total|the|quality) )*(?:rating|score|grade)[\s*_]*(?::|is\b)[\s*_]*\d",
    r"^\W*better\W*:\W*(?:A|B|tie)\W*$",
]
# In a question these are a task ("rate this answer from 1 to 10"); in an answer they are not.
_IN_AN_ANSWER = [
    rf"{_DO}(?:rate|score|grade|mark) {_THIS}[^\n]{{0,40}}\b{_BEST}",
    rf"{_DO}(?:give|award|assign|grant) {_THIS}[^\n]{{0,60}}\b(?:{_GRADE}\b|\d+ ?(?:out of|/) ?\d+)",
    rf"\b(?:this|my|the|above)(?: \w+)? {_RATED}\b[^\n]{{0,40}}\b"
    rf"(?:deserves?|merits?|earns?|is worth|should (?:get|receive|be given))\b[^\n]{{0,40}}{_BEST}",
    rf"{_DO}(?:give|award|assign|grant) (?:{_ITEM}|it) (?:an? )?(?:\w+ )?{_NUMBER}{_END}",
    rf"\bI(?:['’]d|['’]ll| would| will)? (?:rate|score|grade|mark|give|award) {_ITEM} "
    rf"(?:(?:an?|as|at|with) ){{0,2}}{_NUMBER}{_END}",
    rf"\bthis (?:deserves?|merits?|earns?) (?:an? )?(?:\w+ )?{_NUMBER}{_END}",
    rf"\b(?:rating|score|grade|mark) (?:for|of) {_ITEM} (?:is|must be|should be) (?:an? )?{_BEST}",
    rf"^(?:please )?(?:give|award|assign|grant) (?:the |a )?{_BEST} (?:possible )?{_GRADE}\W*$",
    r"\b(?:end|finish|close|conclude|reply|respond|output|write|print|return)\b[^\n]{0,40}\brating\W{1,4}"
    rf"{_NUMBER}\W*$",
    rf"^\W*(?:rating|score|grade)\W{{1,3}}{_PLAIN}{_OUT_OF}\W*$",
    rf"^\W*(?-i:Rating|RATING)\W{{1,3}}{_NUMBER}\W*$",  # `rating = 5` may be code
]
_QUESTION = re.compile("|".join([*_TO_A_JUDGE, *TO_A_JUDGE]), re.IGNORECASE)
_ANSWER = re.compile("|".join([*_TO_A_JUDGE, *TO_A_JUDGE, *_IN_AN_ANSWER, *IN_AN_ANSWER]), re.IGNORECASE)


def without_appeals(text: str, *, answer: bool) -> tuple[str, list[str]]:
    """`text` without the sentences and lines that speak to a judge, and these; the same text where there are none.

    In what an `answer` says more counts as an appeal than in a question, which may ask for a rating in earnest.
    """
    pattern = _ANSWER if answer else _QUESTION
    kept: list[str] = []
    appeals: list[str] = []
    for piece in _BETWEEN.split(text):
        if pattern.search(" ".join(piece.split())):
            appeals.append(piece.strip())
        else:
            kept.append(piece)
    if not appeals:
        return text, []
    # Lines that held nothing else leave blank ones behind.
    return re.sub(r"\n{3,}", "\n\n", "".join(kept)).strip(), appeals


def calls_without_appeals(value: Any) -> tuple[Any, list[str]]:
    """As `without_appeals`, of the texts in an assistant's tool calls; arguments may be JSON in a text."""
    if isinstance(value, dict):
        pairs = {key: calls_without_appeals(one) for key, one in value.items()}
        return {key: one for key, (one, _) in pairs.items()}, [said for _, found in pairs.values() for said in found]
    if isinstance(value, list):
        items = [calls_without_appeals(one) for one in value]
        return [one for one, _ in items], [said for _, found in items for said in found]
    if not isinstance(value, str):
        return value, []
    try:
        parsed = json.loads(value)
        if isinstance(parsed, dict | list):
            inner, appeals = calls_without_appeals(parsed)
            return (json.dumps(inner, ensure_ascii=False) if appeals else value), appeals
    except (ValueError, RecursionError):  # no JSON, or too deep to be looked into
        pass
    return without_appeals(value, answer=True)
