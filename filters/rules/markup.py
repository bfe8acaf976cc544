"""`markup`: what a web page or a chat template left behind: tags, entities, `<|im_end|>`, `[/INST]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from filters.text import code_share, without_code
from trainer.conversation import Side

_CHAT_MARKER = re.compile(
    r"<\|[A-Za-z][A-Za-z0-9_▁ ]{1,30}\|>|<｜[^｜\n]{1,40}｜>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</s>"
    r"|^[ \t]*#{2,3} ?(?:Response|Instruction|Input|Output|Human|Assistant|User|System) ?:",
    re.MULTILINE,
)
_TAG = re.compile(
    r"</?(?:p|br|div|span|b|i|u|em|strong|ul|ol|li|dl|dt|dd|h[1-6]|hr|table|tbody|thead|tr|td|th|img|font|center"
    r"|sup|sub|small"
    r"|blockquote|pre|script|style|iframe|section|article|header|footer|nav|form|input|button|label|html|head"
    r"|body|meta|link|a)"
    r"(?:\s+[a-z-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>]+))*\s*/?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(
    r"&(?:nbsp|amp|lt|gt|quot|apos|ldquo|rdquo|lsquo|rsquo|mdash|ndash|hellip|bull|copy|#\d{2,6}|#x[0-9a-f]{2,6});",
    re.IGNORECASE,
)
_ABOUT_MARKUP = re.compile(
    r"html|xml|css\b|svg\b|\bjsx?\b|javascript|typescript|react\b|php\b|markdown|markup|web ?(?:page|site|sites"
    r"|pages)?\b|webseite|página|页面"
    r"|\btags?\b|balise|etiqueta|标签|template|hyperlink|entit(?:y|ies)|escape|chatml|prompt format|special token"
    r"|\bcode\b|\bsnippet"
    r"|\bscript\b|代码|网页|\brss\b|\bjinja|\bbeautifulsoup|\bscrap|\bregex|regular expression|\bparse|angular\b"
    r"|\bvue\b|django|flask",
    re.IGNORECASE,
)
_TABLE_LINE = re.compile(r"^[ \t]*\|.*\|[ \t]*$", re.MULTILINE)
_MOSTLY_CODE = 0.3


class MarkupParams(FilterParams):
    """Which turns are looked at."""

    on: Side = "response"


class Markup(RowStep[MarkupParams]):
    """Drop rows with leaked chat markers, HTML tags or HTML entities.

    Excused: what stands in code fences or inline code, markup in an answer whose prompt is about markup, web pages
    or code or has markup itself, and answers that are mostly code.
    """

    name = "markup"
    kind = "filter"
    params_model = MarkupParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """How many pieces of markup leaked; the label is the kind of the first."""
        on = self.params.on
        return [Scorer("markup", 1, {"on": on}, each(lambda row: _score(row, on)))]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """Any leaked piece."""
        (score,) = scores
        return Finding(f"markup: {score.label}", score.value, score.detail) if score.label else None


def chat_markers(text: str) -> list[str]:
    """The pieces of `text` that chat templates write around turns: `<|im_end|>`, `[/INST]`, `### Response:`."""
    return _CHAT_MARKER.findall(text)


def _score(row: Row, on: Side) -> Score:
    prompt = row.text("prompt")
    found: list[tuple[str, str]] = []
    for text in row.turns(on):
        prose = without_code(text)
        asked_for = chat_markers(prompt) if on == "response" else []
        found += [("chat marker", piece) for piece in chat_markers(prose) if piece not in asked_for]
        bare = _ENTITY.sub(" ", _TAG.sub(" ", prose))  # markup looks like code itself
        if _ABOUT_MARKUP.search(prompt) or code_share(bare) > _MOSTLY_CODE:
            continue
        if on == "response" and (_TAG.search(prompt) or _ENTITY.search(prompt)):
            continue
        prose = _TABLE_LINE.sub(
            lambda line: re.sub(r"<br\s*/?>", " ", line.group()), prose
        )  # Markdown has no other line break there
        found += [("HTML tag", match.group()) for match in _TAG.finditer(prose)]
        found += [("HTML entity", match.group()) for match in _ENTITY.finditer(prose)]
    if not found:
        return Score(0.0)
    return Score(float(len(found)), label=found[0][0], detail=found[0][1].strip())
