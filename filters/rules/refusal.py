"""`refusal`: answers that decline, and "as an AI language model" boilerplate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from filters.text import without_code

# What an assistant cannot do for the user. "I can't make it on Friday" is a letter, not a refusal.
_SERVICE = (
    r"(?:help|assist|provide|fulfil|comply|answer|do (?:that|this|so)|generate|create|write|produce|complete|access|browse|"
    r"support|engage|discuss|participate|offer|give (?:you )?(?:any |specific )?(?:advice|information|instructions|details)|"
    r"respond to|continue (?:with )?this|process (?:this|your) request|perform)"
)
_CANNOT = r"(?:can(?:no|['’])?t|can not|am (?:not able|unable) to|(?:wo|do)n['’]t be able to|will not be able to)"
_AI = r"(?:AI|A\.I\.|artificial intelligence|(?:large )?language model|chat ?bot|virtual assistant)"

_AS_AN_AI = re.compile(
    rf"\b(?:as|being|since I am|because I am|since I['’]m|because I['’]m) (?:just |only )?an? (?:\w+ )?{_AI}\b(?!s)"
    rf"|\bI(?: am|['’]m) (?:just|only|merely) an? (?:\w+ )?{_AI}\b"
    rf"|\bI(?: am|['’]m) (?:sorry|afraid),? (?:but )?(?:as )?an? {_AI}\b"
    r"|\bals (?:ein )?(?:KI|künstliche Intelligenz|Sprachmodell|KI-\w+)\b"
    r"|\ben tant qu['’](?:IA|intelligence artificielle|assistant virtuel|modèle de langage)\b"
    r"|\bcomo (?:una? )?(?:IA|inteligencia artificial|modelo de lenguaje|inteligência artificial|modelo de linguagem)\b"
    r"|\bin quanto (?:IA|intelligenza artificiale|modello linguistico)\b"
    r"|(?:作为|身为)(?:一个|一名|一款)?(?:AI|人工智能|语言模型|大型语言模型|大语言模型)|AI(?:言語モデル|アシスタント)?として|人工知能として"
    r"|\bкак (?:ИИ|искусственный интеллект|языковая модель)\b",
    re.IGNORECASE,
)
_SORRY = re.compile(
    rf"^(?:(?:I(?: am|['’]m) (?:really |very |so )?sorry|(?:I )?apologi[sz]e|my apologies|sorry|unfortunately|regrettably)\b[^.!?\n]{{0,60}}?\b"
    rf"I {_CANNOT} {_SERVICE}"
    rf"|I(?:['’]m| am) (?:sorry|afraid),? (?:but )?(?:that )?I {_CANNOT} {_SERVICE}"
    rf"|I {_CANNOT} (?:{_SERVICE}) (?:(?:you )?with (?:that|this)|(?:to )?(?:that|this|your) (?:request|question|prompt)|that\b|this\b)"
    r"|(?:es tut mir leid|tut mir leid|leider)\b[^.!?\n]{0,60}?\b(?:kann ich|ich kann)\b[^.!?\n]{0,80}?\b(?:nicht|keine?n?)\b[^.!?\n]{0,60}?"
    r"(?:helfen|beantworten|unterstützen|geben|erstellen|schreiben|bereitstellen|erfüllen)"
    r"|(?:je suis (?:vraiment )?désolée?|désolée?|malheureusement)\b[^.!?\n]{0,40}?\bje ne (?:peux|suis) pas\b[^.!?\n]{0,30}?"
    r"(?:aider|répondre|fournir|générer|créer|écrire|traiter|accéder)"
    r"|(?:lo siento|lo lamento|desafortunadamente|lamentablemente)\b[^.!?\n]{0,40}?\bno puedo (?:ayudar|responder|proporcionar|generar|crear|escribir|cumplir|acceder)"
    r"|(?:mi dispiace|purtroppo)\b[^.!?\n]{0,40}?\bnon posso (?:aiutar|rispondere|fornire|generare|creare|scrivere)"
    r"|(?:sinto muito|desculpe|infelizmente)\b[^.!?\n]{0,40}?\bnão posso (?:ajudar|responder|fornecer|gerar|criar|escrever)"
    r"|(?:很?抱歉|对不起|不好意思)[^。！？\n]{0,20}?(?:我)?(?:无法|不能|没有办法)(?:为您|为你|帮助?您?你?|回答|提供|完成|执行|满足|生成|访问|协助)"
    r"|(?:申し訳(?:ありません|ございません)|すみません|残念ながら)[^。！？\n]{0,40}?(?:お答え|お手伝い|提供|対応|生成)[^。\n]{0,6}?(?:できません|できかねます|いたしかねます)"
    r"|(?:извините|к сожалению|прошу прощения)\b[^.!?\n]{0,40}?\bя не могу (?:помочь|ответить|предоставить|выполнить|создать|написать))",
    re.IGNORECASE,
)
_OPENING = 2  # a refusal is said in the first sentences of a turn; later it is a caveat or a quotation
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_QUOTED = re.compile(
    r"\"[^\"\n]*\"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»|「[^」\n]*」|'[^'\n]{12,}'|^\s*>.*$", re.MULTILINE
)
_ABOUT_ASSISTANTS = re.compile(
    r"\b(?:who|what) are you\b|\bare you (?:a|an|the|real|human|alive|conscious|sentient)\b|\byour (?:name|creator|training|developer)"
    r"|\bwho (?:made|created|built|trained|developed) you\b|\bas an? (?:ai|artificial|language model)|\bpretend (?:to be|you)"
    r"|\b(?:role-?play|act as|imagine you|you are an? (?:ai|robot|chat ?bot|computer))"
    r"|\bdeclin(?:e|ing)\b|\brefus(?:e|al|ing)\b|\breject(?:ion|ing)?\b|\bapolog|\bturn(?:ing)? down\b|\bsay(?:ing)? no\b|\bwer bist du\b|\babsag|\bablehn"
    r"|\bqui es-tu\b|\bquién eres\b|\brechaz|你是谁|拒绝|道歉",
    re.IGNORECASE,
)


class RefusalParams(FilterParams):
    """Nothing but `max_drop`: a refusal is looked for in the assistant's turns."""


class Refusal(RowStep[RefusalParams]):
    """Drop rows in which an assistant turn opens with a refusal or with what it is "as an AI".

    English, German, French, Spanish, Italian, Portuguese, Chinese, Japanese and Russian. Quotations and code do not
    count, nor do prompts that ask who the assistant is, for a role, or for a text that declines something.
    """

    name = "refusal"
    kind = "filter"
    params_model = RefusalParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """1 with the kind as label where a turn refuses, else 0."""
        return [Scorer("refusal", 1, {}, each(_score))]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """Any refusing turn."""
        (score,) = scores
        return Finding(f"refusal: {score.label}", score.value, score.detail) if score.label else None


def _score(row: Row) -> Score:
    if _ABOUT_ASSISTANTS.search(row.text("prompt")):
        return Score(0.0, detail="the prompt asks for it")
    for text in row.turns("response"):
        if found := refusal(text):
            return Score(1.0, label=found[0], detail=found[1])
    return Score(0.0)


def refusal(text: str) -> tuple[str, str] | None:
    """The kind of refusal that `text` opens with and the words that say so, or None."""
    prose = _QUOTED.sub(" ", without_code(text)).strip()
    sentences = [piece.strip() for piece in _SENTENCE.split(prose) if piece.strip()]
    for sentence in sentences[:_OPENING]:
        if found := _AS_AN_AI.search(sentence):
            return "as an AI", found.group()
        if found := _SORRY.match(sentence):
            return "declines", found.group()
    return None
