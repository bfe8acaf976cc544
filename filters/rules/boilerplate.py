"""`boilerplate`: what another assistant says of itself: who made it, and where its knowledge ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args

from pydantic import Field

from filters.rules.refusal import QUOTED
from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from filters.text import without_code

Kind = Literal["identity", "cutoff", "provider"]

_MAKER = (
    r"(?:Open ?AI|Anthropic|Google(?: DeepMind| AI)?|DeepMind|Meta(?: AI)?|Microsoft|Mistral(?: AI)?|Cohere|xAI"
    r"|Alibaba(?: Cloud)?|DeepSeek|Baidu|LMSYS|Vicuna|Databricks|Stability AI|Zhipu ?AI|Moonshot)"
)
_MODEL = (
    r"(?:Chat ?GPT|GPT[- ]?[2-5](?:\.5|o)?|Instruct ?GPT|Bing Chat|Qwen|Tongyi|Vicuna|Open ?Assistant|DeepSeek"
    r"|ChatGLM)"
)
_NAME = r"(?:Claude|Gemini|Bard|L[lL]a[mM][aA](?: ?[1-4])?|Copilot|Grok|Alpaca|Koala|Dolly|Mi[sx]tral|ERNIE|Kimi)"
_IS_ONE = rf"[^.!?\n]{{0,40}}?\b(?:AI\b|assistant|language model|chat ?bot|{_MAKER})"
# A name that people, stars and animals have too counts only beside what says that it is a model.
_IDENTITY = re.compile(
    rf"\b(?:I(?: am|['’]m)|my name is|call me) (?:just |only )?(?:(?:a|an"
    rf"|the) )?(?:[\w-]+ ){{0,4}}?(?:{_MODEL}\b|(?-i:{_NAME})\b{_IS_ONE})"
    rf"|\bI(?: was|['’]ve been| have been| am|['’]m) (?:[\w-]+ ){{0,6}}?(?:created|developed|trained|made|built"
    rf"|designed)"
    rf" (?:and \w+ )?by (?:the (?:team|people) at )?{_MAKER}\b"
    rf"|\b(?:language model|AI(?: assistant| model)?|chat ?bot|assistant)(?:,| that was| which was)? ?"
    rf"(?:created|developed|trained|made|built|designed) (?:and \w+ )?by {_MAKER}\b"
    rf"|\bich (?:bin|heiße) (?:\w+ ){{0,4}}?{_MODEL}\b|\bje (?:suis|m['’]appelle) (?:\w+ ){{0,4}}?{_MODEL}\b"
    rf"|\b(?:soy|me llamo) (?:\w+ ){{0,4}}?{_MODEL}\b|\b(?:sono|mi chiamo) (?:\w+ ){{0,4}}?{_MODEL}\b"
    rf"|(?:von|par|por|da) {_MAKER} (?:entwickelt|trainiert|développé|entraîné|desarrollad|entrenad|sviluppat)"
    rf"|(?:entwickelt|trainiert|développée?|entraînée?|desarrollad[oa]|entrenad[oa]|sviluppat[oa]) (?:von|par|por|da)"
    rf" {_MAKER}\b"
    rf"|我(?:是|叫)[^。！？\n]{{0,12}}?(?:{_MODEL}|文心一言|通义千问|豆包)|我是?由\s*(?:{_MAKER}|百度|阿里|智谱|字节)"
    rf"|私は[^。\n]{{0,12}}?{_MODEL}|\bя[ —–-]+(?:\w+ )?{_MODEL}",
    re.IGNORECASE,
)
_MY = r"(?:my|the model['’]s)"
_CUTOFF = re.compile(
    rf"\b{_MY} (?:(?:latest|last|current|most recent) )?(?:knowledge|training)(?: data)?(?:['’]s)? (?:cut-?off|update"
    r"|(?:only )?(?:goes|extends|ends|stops|was last|is limited|is current|is based|only includes))"
    rf"|\b(?:as of|since|until|up to|at the time of) {_MY} (?:(?:latest|last|most recent) )?(?:update|training"
    rf"|knowledge)"
    rf"|\b{_MY} (?:last|latest|most recent) (?:knowledge |training )?update\b(?! (?:to|of|for|on)\b)"
    rf"|\bknowledge cut-?off(?: date)? (?:of|is|in)\b"
    r"|\bI (?:do not|don['’]t|cannot|can['’]t) (?:currently )?have (?:access to )?(?:real-time|up-to-date"
    r"|live) (?:data"
    r"|information|access)|\bI (?:can(?:no|['’])t|am (?:not able|unable) to|do not|don['’]t have the ability to)"
    r" (?:browse|access) the (?:internet|web)\b"
    r"|\bmein(?:e|em|es|er)? (?:letzte[nrs]? )?(?:Wissensstand|Trainingsdaten|Wissens?-?(?:update|stichtag))"
    r"|\bma dernière mise à jour|\bmes (?:données d['’]entraînement|connaissances s['’]arrêtent)"
    r"|\bmi última actualización|\bmis datos de entrenamiento|\bmio ultimo aggiornamento"
    r"|(?:截至|截止)(?:到)?我(?:的|所)|我的(?:知识|训练数据)(?:库)?(?:截止|更新|只到)|私の知識は"
    r"|моего последнего обновления",
    re.IGNORECASE,
)
_PROVIDER = re.compile(r"\b(?:Open ?AI|Chat ?GPT|GPT-?[345](?:\.5|o)?|Anthropic)\b")
_ABOUT_AI = re.compile(
    r"\bA\.?I\b|artificial intelligence|language model|\bL?LMs?\b|GPT|chat ?bot|machine learning|neural|deep learning"
    r"|\bassistants?\b|人工智能|模型|\bKI\b|\bIA\b|start-?up|tech (?:company|companies)|\b(?:who|what) are you\b"
    rf"|你是谁|\b{_MAKER}\b|\b{_MODEL}\b",
    re.IGNORECASE,
)


class BoilerplateParams(FilterParams):
    """`kinds`: `identity` ("I am ChatGPT"), `cutoff` ("as of my last update"), `provider` (its name, unasked for)."""

    kinds: list[Kind] = Field(default=list(get_args(Kind)), min_length=1)


class Boilerplate(RowStep[BoilerplateParams]):
    """Drop rows in which the assistant says that it is another one, or where its knowledge ends.

    Anywhere in an answer, unlike `refusal`, which looks at how it opens and knows "as an AI language model". A model
    trained on "I am ChatGPT" says so, whoever it is: so `identity` counts even where the prompt asks "who are you?".
    `provider`, the weakest, is a maker's name in an answer whose prompt and system turn are about something else.
    Quotations and code do not count.
    """

    name = "boilerplate"
    kind = "filter"
    params_model = BoilerplateParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """1 with the kind as label where an answer has boilerplate, else 0."""
        return [Scorer("boilerplate", 1, {}, each(_score))]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """One of the chosen kinds."""
        (score,) = scores
        if score.label not in self.params.kinds:
            return None
        return Finding(f"boilerplate: {score.label}", score.value, score.detail)


def _score(row: Row) -> Score:
    asked = "\n".join(str(m.get("content")) for m in row.messages if m["role"] in ("system", "developer", "user"))
    turns = [QUOTED.sub(" ", without_code(text)) for text in row.turns("response")]
    patterns: list[tuple[Kind, re.Pattern[str]]] = [("identity", _IDENTITY), ("cutoff", _CUTOFF)]
    if not _ABOUT_AI.search(asked):
        patterns.append(("provider", _PROVIDER))
    for kind, pattern in patterns:
        for text in turns:
            if match := pattern.search(text):
                return Score(1.0, label=kind, detail=" ".join(match.group().split())[:80])
    return Score(0.0)
