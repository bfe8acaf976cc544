"""`echo`: answers that are made of their prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from pydantic import Field

from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from filters.text import code_share, normalise, without_code, words
from trainer.conversation import content_text

_RUN = 5  # words that must stand in the prompt in this order; shorter runs are the common words of the topic
_SHORTEST = 8  # words of an answer; shorter ones to a choice or a yes-or-no question rightly repeat it
_SHORT = 20  # words; up to here an answer rightly takes up its question ("France won the World Cup in 2018.")
_WHOLE_PROMPT = 6  # words; "Hello" may be answered by "Hello"
_MOSTLY_CODE = 0.5
# Tasks whose answer is rightly made of the prompt.
_KEEPS_WORDS = re.compile(
    r"translat|proof-?read|correct|\bfix|\bedit|re-?writ|re-?phras|paraphras|re-?word|punctuat|capitali[sz]|grammar"
    r"|spelling|\bquot|\bcit(?:e|ation)|extract|highlight|underlin|identif|\bfind\b|\bselect|\bchoose|\bpick\b|classif"
    r"|categori[sz]|\bsort|\border\b|arrang|\brank|convert|transform|\bformat|\bcopy|\brepeat|\bcontinu|\bcomplet|\bfill"
    r"|\binsert|\breplac|\bremov|\bdelet|\bchange|\bmodif|\bimprov|\bcombin|\bmerge|\bjoin|\bsummar|shorten|simplif"
    r"|condens|\bsplit|\bparse|transcri|annotat|\blabel|\bmark\b|polish|revis|\badd\b|\bturn\b|\bmake\b|\bgroup|\bmatch"
    r"|passage|paragraph|\btext\b|article|sentence|following|given|below|above|tone\b|voice\b|tense\b"
    r"|übersetz|korrigier|verbesser|umschreib|formulier|zitier|zusammenfass|ergänz|wiederhol|sortier|ordne|folgende"
    r"|tradui|corrig|reformul|réécri|résum|compl[èé]t|répèt|suivant|traduc|reescrib|resum|siguiente|repit|ordena|extrae"
    r"|翻译|改写|修改|纠正|更正|改正|总结|概括|提取|引用|排序|分类|续写|补全|填|重复|替换|转换|转录|找[出到]|列[出举]|重述|复述|以下|下面|句子|段落|文章"
    r"|перевед|исправ|перепиш|сократ|следующ|翻訳|訳し|直し|要約|次の",
    re.IGNORECASE,
)


class EchoParams(FilterParams):
    """`threshold`: the share of an answer's words that stand in the prompt in runs of five, from which a row falls."""

    threshold: float = Field(default=0.8, gt=0, le=1)


class Echo(RowStep[EchoParams]):
    """Drop rows in which an answer copies its prompt: most of its words are a copy, or it begins with all of it.

    Excused: prompts that ask for a translation, a correction, a quotation, a choice or another task whose answer is
    rightly made of the prompt; code; and short answers that take up the words of their question.
    """

    name = "echo"
    kind = "filter"
    params_model = EchoParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """The largest share of copied words among the answers (0 to 1); the label `begins` where one begins so."""
        return [Scorer("echo", 1, {}, each(_score))]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """An answer that begins with its prompt, or a share at or above the threshold."""
        (score,) = scores
        if score.label == "begins":
            return Finding("echo: begins with its prompt", score.value, score.detail)
        if (score.value or 0.0) < self.params.threshold:
            return None
        return Finding("echo: copies its prompt", score.value, score.detail)


def _score(row: Row) -> Score:
    worst, detail = 0.0, None
    asked: list[str] = []
    for message in row.messages:
        text = content_text(message.get("content"))
        if message["role"] == "user":
            asked.append(text)
        if message["role"] != "assistant" or not asked or _KEEPS_WORDS.search("\n".join(asked)):
            continue
        if begins_with(text, asked[-1]):
            return Score(1.0, label="begins", detail=" ".join(text.split())[:80])
        if code_share(text) > _MOSTLY_CODE:
            continue
        share = copied_share(without_code(text), "\n".join(asked))
        if share > worst:
            worst, detail = share, " ".join(text.split())[:80]
    return Score(round(worst, 4), detail=detail)


def begins_with(answer: str, prompt: str) -> bool:
    """Whether `answer` begins with all of `prompt`, white space and case aside, and `prompt` is no mere greeting."""
    asked = normalise(prompt, ignore_case=True)
    return len(words(asked)) >= _WHOLE_PROMPT and normalise(answer, ignore_case=True).startswith(asked)


def copied_share(answer: str, prompt: str) -> float:
    """Share of the words of `answer` in runs of five that `prompt` has too.

    Of an answer of eight to nineteen words only a whole copy counts, of a shorter one nothing: the rest is 0.0.
    """
    said = [word.casefold() for word in words(answer)]
    if len(said) < _SHORTEST:
        return 0.0
    asked = [word.casefold() for word in words(prompt)]
    runs = {tuple(asked[i : i + _RUN]) for i in range(len(asked) - _RUN + 1)}
    copied = bytearray(len(said))
    for i in range(len(said) - _RUN + 1):
        if tuple(said[i : i + _RUN]) in runs:
            copied[i : i + _RUN] = b"\x01" * _RUN
    share = sum(copied) / len(said)
    return share if len(said) >= _SHORT or share == 1 else 0.0
