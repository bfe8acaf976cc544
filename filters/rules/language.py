"""`language`: answers in another language than the prompt's, or than the ones allowed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, cached_property, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Self

from pydantic import Field, field_validator, model_validator

from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from filters.text import HAN_KANA, code_share, without_code
from trainer.conversation import Side

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

SHORTEST = 24  # letters; below, the identifier guesses ("Hello" is Breton to it)
SHORTEST_HAN = 8  # Han characters and kana say more each
# Close relatives that the identifier mixes up, under the name of the best known.
_RELATIVES = {
    "zh": "wuu yue lzh",
    "en": "pcm sco",
    "no": "nb nn",
    "sh": "bs hr sr",
    "ms": "id",
    "pt": "gl",
    "de": "lb nds als bar",
    "ar": "arz",
}
_FAMILY = {code: name for name, codes in _RELATIVES.items() for code in codes.split()}
_NAMES = (
    r"english|german|french|spanish|italian|portuguese|dutch|russian|chinese|mandarin|cantonese|japanese|korean"
    r"|arabic|hindi|turkish|polish|swedish"
    r"|norwegian|danish|finnish|greek|hebrew|latin|ukrainian|czech|hungarian|romanian|thai|vietnamese|indonesian"
    r"|malay|swahili|esperanto|bengali|urdu"
    r"|persian|farsi|irish|welsh|catalan|basque|croatian|serbian|bulgarian"
    r"|deutsch\w*|englisch\w*|französisch\w*|spanisch\w*|italienisch\w*|chinesisch\w*|japanisch\w*|russisch\w*"
    r"|anglais\w*|allemand\w*|français\w*|espagnol\w*|italien\w*|chinois\w*|japonais\w*|russe"
    r"|inglés|alemán|francés|español\w*|italiano|chino|japonés|ruso|inglês|alemão|francês|espanhol|inglese"
    r"|tedesco|francese|spagnolo|cinese"
    r"|영어|한국어|중국어|일본어|프랑스어|독일어|스페인어|러시아어|tiếng (?:anh|việt|trung|pháp|đức|nhật|nga)"
    r"|английск\w*|немецк\w*|французск\w*|испанск\w*|китайск\w*|русск\w*"
)
_ASKS = re.compile(
    rf"\b(?:{_NAMES})(?:\b|(?<=어))|translat|übersetz|traduc|tradui|traduz|перевед|перевод|\blanguages?\b|\bsprachen?\b"
    rf"|\blangues?\b|\bidiomas?\b|\blingu[ae]\b"
    r"|[英德法西意俄日韩汉中葡]语|[英中日德法俄韩]文|翻译|译成|英語|日本語|中国語|訳し",
    re.IGNORECASE,
)
_OTHER_SCRIPTS = frozenset(("zh", "ja", "ko", "ru", "uk", "bg", "el", "ar", "fa", "ur", "he", "hi", "bn", "th"))
_LATIN_WORD = re.compile(r"[a-z]{4,}")
_NOISE = re.compile(r"https?://\S+|[^\s@]{1,64}@\S+|[\d_]+|[^\w\s'’]")
_SEGMENT = re.compile(r"\n+|(?<=[.!?:])\s+|[\"“”«»„]|(?<=[。！？：])")


class LanguageParams(FilterParams):
    """With `allow` the text must be in one of these languages; without, the answer in that of its prompt."""

    on: Side = "response"
    allow: list[str] | None = Field(default=None, min_length=1)
    min_confidence: float = Field(default=0.9, gt=0, le=1)

    @field_validator("allow")
    @classmethod
    def _known(cls, allow: list[str] | None) -> list[str] | None:
        unknown = [code for code in allow or [] if not re.fullmatch(r"[a-z]{2,3}", code)]
        if unknown:
            raise ValueError(f"must hold ISO 639 codes like en or de; {unknown[0]!r} is none")
        return allow

    @model_validator(mode="after")
    def _side(self) -> Self:
        if self.on != "response" and self.allow is None:
            raise ValueError("`on` is for `allow`; without it the answer is compared with its prompt")
        return self


class Language(RowStep[LanguageParams]):
    """Drop rows whose answer is in the wrong language, where the identifier is at least `min_confidence` sure.

    Unscored, and kept: short texts and code. Excused: prompts that ask for a translation, name a language, or
    have a passage in the language of the answer or, in another script, Latin words; a system turn may name it too.
    """

    name = "language"
    kind = "filter"
    params_model = LanguageParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """The language of the text with `allow`, else how surely the answer's language is not the prompt's."""
        return [language_scorer(self.params.on)] if self.params.allow else [mismatch_scorer()]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """A language that is not allowed, or not the prompt's."""
        (score,) = scores
        if (score.value or 0.0) < self.params.min_confidence:
            return None
        if self.params.allow:
            allowed = {family(code) for code in self.params.allow}
            return None if score.label in allowed else Finding("language not allowed", score.value, score.label)
        return Finding("wrong language", score.value, score.detail)


@cache
def language_scorer(on: Side) -> Scorer:
    """The language of one side: label its code, value the identifier's probability (0 to 1)."""

    def score(row: Row) -> Score:
        found = identify(row.text(on))
        return Score(found[1], label=found[0]) if found else Score.unscored("too little text to tell a language")

    return Scorer("language", 1, {"on": on, "py3langid": version("py3langid")}, each(score))


def mismatch_scorer() -> Scorer:
    """How surely the answer is in another language than its prompt, 0 to 1; the label is the answer's code."""
    return Scorer("language-mismatch", 3, {"py3langid": version("py3langid")}, each(_mismatch))


def _mismatch(row: Row) -> Score:
    prompt, answer = identify(row.text("prompt")), identify(row.text("response"))
    if prompt is None or answer is None:
        return Score.unscored("too little text to tell a language")
    fine = partial(Score, 0.0, label=answer[0])
    if prompt[0] == answer[0]:
        return fine()
    asked = "\n".join(
        row.turns("prompt") + [str(m.get("content")) for m in row.messages if m["role"] in ("system", "developer")]
    )
    if _ASKS.search(asked):
        return fine(detail="the prompt names a language")
    if any((part := identify(piece)) and part[0] == answer[0] for piece in _SEGMENT.split(asked)):
        return fine(detail="the prompt has a passage in that language")
    if prompt[0] in _OTHER_SCRIPTS and _LATIN_WORD.search(asked):
        return fine(detail="the prompt quotes words in Latin letters")
    return Score(min(prompt[1], answer[1]), label=answer[0], detail=f"{prompt[0]} prompt, {answer[0]} answer")


def identify(text: str) -> tuple[str, float] | None:
    """Language code and probability (0 to 1) of `text` without its code, or None where there is too little of it.

    Close relatives share a code (`family`).
    """
    if code_share(text) > 0.3:
        return None
    prose = " ".join(_NOISE.sub(" ", without_code(text)).split())
    letters = sum(char.isalpha() for char in prose)
    han = len(re.findall(f"[{HAN_KANA}]", prose))
    if letters < SHORTEST and han < SHORTEST_HAN:
        return None
    ranked: dict[str, float] = {}
    for code, probability in _identifier().rank(prose)[:8]:
        ranked[family(code)] = ranked.get(family(code), 0.0) + float(probability)
    best = max(ranked, key=lambda code: ranked[code])
    if han >= SHORTEST_HAN and best not in ("zh", "ja", "ko"):
        return None  # two languages: a Chinese list with Latin names, say
    return None if best == "zxx" else (best, round(min(ranked[best], 1.0), 4))


def family(code: str) -> str:
    """The code under which a language and the close relatives it is mixed up with are counted."""
    return _FAMILY.get(code, code)


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
