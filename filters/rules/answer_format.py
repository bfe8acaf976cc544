"""`format`: answers that are not in the form that was asked for, and JSON that cannot be read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal, get_args

from pydantic import Field

from filters.fences import fences
from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from trainer.conversation import content_text

Kind = Literal["broken JSON", "no JSON", "no list", "no table"]

# Who asks how to do it in a program, or about a thing of that name, does not ask for one.
_PROGRAMMING = re.compile(
    r"\b(?:function|method|script|program|class|api|endpoint|query|sql|database|code|python|java(?:script)?"
    r"|typescript"
    r"|html|css|react|parser?|servers?|node|web|app(?:lication)?|serializ\w*|deseriali[sz]\w*|library|schema|c#"
    r"|c\+\+|rust|golang|php|ruby|latex"
    r"|linked)\b"
    r"|^\s*(?:how|what|why|when|which|explain|can you explain|so|does|do|did|is|are|if|wie|was|warum|comment"
    r"|pourquoi|cómo|qué)\b|函数"
    r"|代码|程序",
    re.IGNORECASE,
)
_JSON = re.compile(
    r"\b(?:as|in|into|to|return|returns?|output|only|valid|with)(?: (?:a|an|one|the|valid|single|only|raw|plain"
    r"|strict)){0,3}"
    r" JSON\b|\bals (?:gültiges )?JSON\b|\ben (?:formato )?JSON\b|\bau format JSON\b|(?:用|以|输出|返回"
    r"|转换?[为成])\s*JSON",
    re.IGNORECASE,
)
_SORT = r"(?:markdown|ascii|plain|text|simple|small|short|single|neat|clear|formatted|comparison|summary|\w+-column)"
_TABLE = re.compile(
    rf"\b(?:as|in|into) (?:a|an|one) (?:{_SORT} ){{0,2}}table\b(?! of contents?\b)|\bin table (?:form|format)\b"
    r"|\btabular form"
    rf"|\b(?:make|create|give|draw|produce|build|generate"
    rf"|write)(?: me)? a (?:{_SORT} ){{0,2}}table\b(?! of contents?\b)"
    r"|\bals Tabelle\b|\bin (?:einer|eine) Tabelle\b|\bsous (?:la )?forme? d['e’ ]{1,2}(?:un )?tableau"
    r"|\bdans un tableau\b|\ben (?:una|forma de) tabla\b|(?:用|以|做|制作|列)(?:一?个|成)?(?:\w{0,4})表格",
    re.IGNORECASE,
)
_NO_TABLE = re.compile(
    r"\bas (?!an? )\w+ as an? |times tables?"
    r"|multiplication table|table tennis|periodic table|(?:dinner|dining|coffee|wooden|round"
    r"|set the) table"
    r"|table for|round ?table|table top|reservation|furniture|restaurant",
    re.IGNORECASE,
)
_LIST = re.compile(
    r"\bbullet(?:ed)?[- ]?(?:points?|lists?)\b|\bnumbered list\b|\bas a (?:[\w-]+ )?list\b"
    r"|\bin (?:a )?list (?:form|format)\b|\bals (?:\w+ )?(?:Liste|Aufzählung)\b|\bin Stichpunkten\b"
    r"|\bnummerierte Liste"
    r"|\bliste (?:à puces|numérotée)|\bsous forme de liste\b|\blista (?:numerada|con viñetas)|\ben forma de lista\b"
    r"|项目符号|编号列表|列表(?:的?形式|格式)",
    re.IGNORECASE,
)
_ITEM = re.compile(r"^\s*(?:[-*+•·–—◦▪✓]|\(?\d{1,3}[.)、:]|\(?[a-zA-Z][.)]\s|[①-⑳]|#{1,6}\s|\*\*)", re.MULTILINE)
_INLINE_ITEM = re.compile(r"(?:^|\s)(?:\(?\d{1,2}[.)]|[•·])\s*\S")
_ROW = re.compile(r"^.*(?:\S[ \t]*[|│┃║]|\t|[|│┃║][ \t]*\S).*$", re.MULTILINE)
_OTHER_TABLE = re.compile(r"<table|\\begin\{(?:tabular|array|table)|^\+[-=+]+\+", re.IGNORECASE | re.MULTILINE)
# What stands for something left out, or explains, makes a sketch of it.
_SKETCH = re.compile(r"\.\.\.|…|^\s*(?://|#|/\*)|[,{\[]\s*(?://|#|/\*)|<[a-z_ -]+>|\{\{", re.MULTILINE | re.IGNORECASE)
_NEGATED = re.compile(
    r"(?:\bnot|n['’]t|\bno|\bwithout|\bavoid|\bnever|\bohne|\bsans|\bsin|不要|不用)[^.!?\n]{0,30}$", re.IGNORECASE
)
_CONSOLE = re.compile(r"(?:GET|POST|PUT|DELETE|PATCH|HEAD) \S")  # a request with its body
# Who waits for the text to work on has nothing to put in a form yet.
_WAITS = re.compile(
    r"\b(?:please|could you|can you)(?: please)? (?:provide|share|send|paste|give|upload)|\bI understand\b"
    r"|\bI(?:['’]m| am) ready"
    r"|\bbitte (?:senden|schicken|geben)|请(?:提供|发送|给出)",
    re.IGNORECASE,
)
_LIKE_JSON = re.compile(r"[{\[]\s*(?:[\"'{\[]|-?\d|\]|\})")
_FEW_LINES = 3


class FormatParams(FilterParams):
    """`kinds`: which flaws count."""

    kinds: list[Kind] = Field(default=list(get_args(Kind)), min_length=1)


class Format(RowStep[FormatParams]):
    """Drop rows whose answer is not the JSON, table, or list with bullets or numbers that its prompt asks for.

    Also JSON, in a block marked as such or asked for, that does not parse; what leaves things out (`...`) or has
    comments is a sketch and excused. Prompts about programming, which name these forms for other reasons, are not
    held to them. English, German, French, Spanish and Chinese requests are known; of a conversation, each user turn
    with the answer behind it, and what a system turn asks for in all of them.
    """

    name = "format"
    kind = "filter"
    params_model = FormatParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """1 with the kind as label where an answer has the wrong form, else 0."""
        return [Scorer("format", 1, {}, each(_score))]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """One of the chosen kinds."""
        (score,) = scores
        if score.label not in self.params.kinds:
            return None
        return Finding(f"format: {score.label}", score.value, score.detail)


def _score(row: Row) -> Score:
    system, asked = "", ""
    for message in row.messages:
        text = content_text(message.get("content"))
        if message["role"] in ("system", "developer"):
            system = text
        elif message["role"] == "user":
            asked = text
        elif message["role"] == "assistant" and not message.get("tool_calls") and (found := flaw(asked, text, system)):
            return Score(1.0, label=found[0], detail=found[1])
    return Score(0.0)


def flaw(prompt: str, answer: str, system: str = "") -> tuple[Kind, str] | None:
    """What is wrong with the form of `answer`, and the words that ask for another or the place that breaks."""
    if not answer.strip():
        return None
    for fence in fences(answer):
        if fence.language == "json" and (why := _broken(fence.body)):
            return "broken JSON", why
    asks = f"{system}\n{prompt}"
    if _PROGRAMMING.search(asks):
        return None
    if _asks_for(_JSON, asks):
        bare = answer.strip()
        if bare[0] in "{[" and bare[-1] in "}]" and (why := _broken(bare)):
            return "broken JSON", why
    for kind, pattern, has in _FORMS:
        if match := _asks_for(pattern, asks):
            return None if has(answer) or _WAITS.search(answer) else (kind, " ".join(match.group().split()))
    return None


def _asks_for(pattern: re.Pattern[str], asks: str) -> re.Match[str] | None:
    """The first place where a form is asked for and not ruled out ("do not use bullet points")."""
    if pattern is _TABLE and _NO_TABLE.search(asks):
        return None
    found = pattern.finditer(asks)
    return next(
        (match for match in found if not _NEGATED.search(asks[max(0, match.start() - 60) : match.start()])), None
    )


def _has_json(answer: str) -> bool:
    return bool(_LIKE_JSON.search(answer))


def _has_table(answer: str) -> bool:
    return len(_ROW.findall(answer)) >= 2 or bool(_OTHER_TABLE.search(answer))


def _has_list(answer: str) -> bool:
    if _ITEM.search(answer) or len(_INLINE_ITEM.findall(answer)) >= 2 or answer.lstrip()[:1] in "[{":
        return True
    return len([line for line in answer.splitlines() if line.strip()]) >= _FEW_LINES


# The first form that is asked for counts: "a table with a list in each cell" is a table.
_FORMS: tuple[tuple[Kind, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("no JSON", _JSON, _has_json),
    ("no table", _TABLE, _has_table),
    ("no list", _LIST, _has_list),
)


def _broken(text: str) -> str | None:
    """Why `text` is neither JSON nor JSON Lines, or None if it is, is empty, or is a sketch."""
    text = text.strip()
    if not text or _SKETCH.search(text) or _CONSOLE.match(text):
        return None
    if text[0] == '"' and _reads(f"{{{text.rstrip(',')}}}"):  # members of an object, shown without it
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > 1 and all(map(_reads, lines)):
            return None
        return f"{error}"[:120]
    return None


def _reads(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False
