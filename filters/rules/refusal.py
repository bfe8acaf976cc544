"""`refusal`: answers that decline, and "as an AI language model" boilerplate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from filters.text import without_code

# What an assistant cannot do for the user. "I can't make it on Friday" is a letter, not a refusal.
_SERVICE = (
    r"(?:help|assist|provide|fulfill?|comply|answer|do (?:that|this|so)|generate|create|write|produce|complete"
    r"|access|browse"
    r"|support|engage|discuss|participate|offer|give (?:you )?(?:any |specific )?(?:advice|information"
    r"|instructions|details)"
    r"|respond to|continue (?:with )?this|process (?:this|your) request|perform)"
)
_CANNOT = (
    r"(?:can(?:no|['’])?t|can not|(?:am|['’]m) (?:not able|unable) to|(?:wo|do)n['’]t be able to|will not be able to"
    r"|(?:do not|don['’]t) (?:currently )?have the (?:ability|capability) to)"
)
_I_CANNOT = rf"I ?(?:currently )?{_CANNOT}"
_AI = r"(?:AI|A\.I\.|artificial intelligence|(?:large )?language model|chat ?bot|virtual assistant)"
_AI_DE = r"(?:KI|künstliche Intelligenz|Sprachmodell|KI-\w+)"
_AI_ROMANCE = (
    r"(?:IA|intelligence artificielle|assistant virtuel|modèle de langage|inteligencia artificial|modelo de lenguaje"
    r"|inteligência artificial|modelo de linguagem|intelligenza artificiale|modello linguistico)"
)
_AI_ZH = r"(?:AI|人工智能|语言模型|大型语言模型|大语言模型)"

# The phrase opens the sentence, or follows an opening ("I'm sorry, but ...") as its own clause. Further inside a
# sentence it is a remark about assistants.
_AS_AN_AI = re.compile(
    rf"(?:^|[,;:–—]\s*|\b(?:but|that|since|because)\s+)(?:as|being) (?:just |only )?an? (?:\w+ )?{_AI}\b(?!s)"
    rf"|^[^\n]{{0,30}}\bI(?: am|['’]m) (?:just|only|merely) an? (?:\w+ )?{_AI}\b"
    rf"|^[^\n]{{0,60}}\b(?:since|because) I(?: am|['’]m) an? (?:\w+ )?{_AI}\b"
    rf"|(?:^|,\s*)als (?:ein |eine )?{_AI_DE}\b|(?:^|,\s*)en tant qu(?:e |['’])?{_AI_ROMANCE}\b"
    rf"|(?:^|,\s*)como (?:una? |um )?{_AI_ROMANCE}\b|(?:^|,\s*)in quanto {_AI_ROMANCE}\b"
    rf"|(?:^|[，,：:]\s*|但是?)(?:作为|身为)(?:一个|一名|一款)?{_AI_ZH}|(?:^|、)(?:AI(?:言語モデル|アシスタント)?|人工知能|言語モデル)として"
    r"|(?:^|,\s*)как (?:ИИ|искусственный интеллект|языковая модель)\b",
    re.IGNORECASE,
)
_DECLINES = [
    # English: with an apology any service, without one only what nobody but a service says
    rf"(?:I(?: am|['’]m) (?:really |very |so )?(?:sorry|afraid)|(?:I )?apologi[sz]e|my apologies|sorry"
    rf"|unfortunately|regrettably)\b"
    rf"[^.!?\n]{{0,60}}?\b{_I_CANNOT} {_SERVICE}",
    rf"{_I_CANNOT} (?:provide|fulfill?|comply|assist|generate|create) |I (?:must|have to) decline\b",
    rf"{_I_CANNOT} {_SERVICE} (?:(?:you )?with (?:that|this)|(?:to )?(?:that|this|your) (?:request|question"
    rf"|prompt)|that\b|this\b)",
    r"(?:es tut mir leid|tut mir leid|leider)\b[^.!?\n]{0,60}?\b(?:kann ich|ich kann)\b[^.!?\n]{0,80}?\b(?:nicht"
    r"|keine?n?)\b"
    r"[^.!?\n]{0,60}?(?:helfen|beantworten|unterstützen|geben|erstellen|schreiben|bereitstellen|erfüllen)",
    r"(?:je suis (?:vraiment )?désolée?|désolée?|malheureusement)\b[^.!?\n]{0,40}?\bje ne (?:peux"
    r"|suis) pas\b[^.!?\n]{0,30}?"
    r"(?:aider|répondre|fournir|générer|créer|écrire|traiter|accéder)",
    r"(?:lo siento|lo lamento|desafortunadamente|lamentablemente)\b[^.!?\n]{0,40}?\bno puedo "
    r"(?:ayudar|responder|proporcionar|generar|crear|escribir|cumplir|acceder)",
    r"(?:mi dispiace|purtroppo)\b[^.!?\n]{0,40}?\bnon posso (?:aiutar|rispondere|fornire|generare|creare|scrivere)",
    r"(?:sinto muito|desculpe|infelizmente)\b[^.!?\n]{0,40}?\bnão posso (?:ajudar|responder|fornecer|gerar|criar"
    r"|escrever)",
    r"(?:很?抱歉|对不起|不好意思)[^。！？\n]{0,20}?(?:我)?(?:无法|不能|没有办法)"
    r"(?:为您|为你|帮助?您?你?|回答|提供|完成|执行|满足|生成|访问|协助)",
    r"(?:申し訳(?:ありません|ございません)|すみません|残念ながら)[^。！？\n]{0,40}?(?:お答え|お手伝い|提供|対応|生成)[^。\n]{0,6}?"
    r"(?:できません|できかねます|いたしかねます)",
    r"(?:извините|к сожалению|прошу прощения)\b[^.!?\n]{0,40}?\bя не могу (?:помочь|ответить|предоставить"
    r"|выполнить|создать|написать)",
]
_SORRY = re.compile("|".join(_DECLINES), re.IGNORECASE)
_HEAD = 2000  # characters: more than two sentences have
_OPENING = 2  # a refusal is said in the first sentences of a turn; later it is a caveat or a quotation
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
QUOTED = re.compile(
    r"\"[^\"\n]*\"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»|「[^」\n]*」|(?<!\w)'[^'\n]{12,}'(?!\w)|^\s*>.*$", re.MULTILINE
)
_ASKED_FOR = re.compile(
    # who are you?
    r"\b(?:who|what) are you\b|\bwho you are\b|\bare you (?:a|an|the|real|human|alive|conscious|sentient)\b"
    r"|\babout you(?:rself)?\b"
    r"|\byour(?:self| name| creator| training| developer)\b|\bdo you have a name\b|\bwho (?:made|created|built"
    r"|trained|developed) you\b"
    r"|\bwer bist du\b|\bqui es-tu\b|\bquién eres\b|你是谁|自我介绍"
    # a text about assistants, or a role
    r"|\bAI\b|\bartificial intelligence|\blanguage model|\brobots?\b|\bchat ?bots?\b|\bLLMs?\b"
    r"|人工智能|机器人|\bKI\b|\bIA\b"
    r"|\bpretend\b|\brole-?play|\bact as\b|\bimagine\b"
    # a letter that says no
    r"|\bdeclin(?:e|ing)\b|\brefus(?:e|al|ing)\b|\breject(?:ion|ing)?\b|\bapolog|\bturn(?:ing)? down\b"
    r"|\bsay(?:ing)? no\b"
    r"|\babsag|\babzulehn|\bablehn|\brechaz|拒绝|道歉",
    re.IGNORECASE,
)


class RefusalParams(FilterParams):
    """Nothing but `max_drop`: a refusal is looked for in the assistant's turns."""


class Refusal(RowStep[RefusalParams]):
    """Drop rows in which an assistant turn opens with a refusal or with what it is "as an AI".

    English, German, French, Spanish, Italian, Portuguese, Chinese, Japanese and Russian. Quotations and code do not
    count. Excused: prompts that ask who the assistant is, that are about AI, ask for a role or for a letter that
    declines; and rows with tools, where saying what no tool can do is what is taught.
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
    if row.tools_json is not None:
        return Score(0.0, detail="has tools")
    if _ASKED_FOR.search(row.text("prompt")):
        return Score(0.0, detail="the prompt asks for it")
    for text in row.turns("response"):
        if found := refusal(text):
            return Score(1.0, label=found[0], detail=found[1])
    return Score(0.0)


def refusal(text: str) -> tuple[str, str] | None:
    """The kind of refusal that `text` opens with and the words that say so, or None."""
    prose = QUOTED.sub(" ", without_code(text[:_HEAD])).strip()
    sentences = [piece.strip() for piece in _SENTENCE.split(prose) if piece.strip()]
    for sentence in sentences[:_OPENING]:
        if found := _AS_AN_AI.search(sentence):
            return "as an AI", found.group()
        if found := _SORRY.match(sentence):
            return "declines", found.group()
    return None
