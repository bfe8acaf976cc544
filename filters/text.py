"""Measures and views of a text that several steps share: words in any script, normal form, prose without code."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

Unit = Literal["words", "chars", "tokens"]

HAN_KANA = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer: written without spaces
_LETTERS_PER_WORD = 4  # of the unspaced alphabets, roughly; only the order of magnitude matters for a length rule
# Vowel signs of Devanagari, Tamil and others, accents that stand alone, and joiners are parts of a word, but no `\w`.
_MARKS = "\u200c\u200d" + "".join(chr(c) for c in range(0x300, 0x20000) if unicodedata.category(chr(c)) in ("Mn", "Mc"))
_MARK_SET = frozenset(_MARKS)


def _word(letter: str) -> str:
    return rf"[{HAN_KANA}]|[{UNSPACED}]+|(?:{letter})+(?:['’.,:/-](?:{letter})+)*"


def _sign(marks: str) -> str:
    return rf"""[^\w{marks}\s.,;:?!"'()\[\]{{}}…–—“”‘’«»、。，！？；：（）「」]"""


_NEITHER = rf"(?![{HAN_KANA}{UNSPACED}_])"
_PLAIN, _MARKED = _word(rf"{_NEITHER}\w"), _word(rf"{_NEITHER}[\w{_MARKS}]")
# With marks or without: the pattern that knows them takes eight times as long, and most texts have none.
_WORD = (re.compile(_PLAIN), re.compile(_MARKED))
_WORD_OR_SIGN = (re.compile(f"{_PLAIN}|{_sign('')}"), re.compile(f"{_MARKED}|{_sign(_MARKS)}"))
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,}).*?(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`\n]+`")


def normalise(text: str, *, ignore_case: bool = False) -> str:
    """NFC, every run of white space one blank, none at the ends; folded case if asked."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return unicodedata.normalize("NFC", text.casefold()) if ignore_case else text


def words(text: str) -> list[str]:
    """The words of `text` in any script.

    Letters and digits between blanks or punctuation are a word (`don't`, `3.14` and `e-mail` are one). Chinese and
    Japanese have no blanks: each Han character or kana is a word, as word processors count. Thai, Lao, Burmese and
    Khmer runs come in pieces of four characters.
    """
    return _split(_WORD, text)


def words_and_signs(text: str) -> list[str]:
    """The words of `text`, and every sign but the marks of prose: `a + b` and `a - b` are two programs."""
    return _split(_WORD_OR_SIGN, text)


def _split(patterns: tuple[re.Pattern[str], re.Pattern[str]], text: str) -> list[str]:
    has_marks = not (text.isascii() or _MARK_SET.isdisjoint(text))
    found: list[str] = []
    for word in patterns[has_marks].findall(text):
        if "\u0e00" <= word[0] <= "\u17ff" and re.match(rf"[{UNSPACED}]", word):
            found += [word[i : i + _LETTERS_PER_WORD] for i in range(0, len(word), _LETTERS_PER_WORD)]
        else:
            found.append(word)
    return found


def measure(texts: Sequence[str], unit: Unit, tokenizer: str = "") -> list[int]:
    """The length of each text in `unit`. Characters are counted after stripping; tokens without special tokens."""
    if unit == "chars":
        return [len(text.strip()) for text in texts]
    if unit == "words":
        return [len(words(text)) for text in texts]
    return (
        [len(ids) for ids in _tokenizer(tokenizer)(list(texts), add_special_tokens=False)["input_ids"]] if texts else []
    )


@cache
def _tokenizer(name: str) -> Any:
    from trainer.models import load_tokenizer

    return load_tokenizer(name)


def without_code(text: str) -> str:
    """`text` without fenced blocks and `inline code`; an open fence takes the rest of the text with it."""
    return _INLINE_CODE.sub(" ", _FENCE.sub("\n", text))


_LONGEST_CODE_LINE = 300  # characters; the pattern backtracks, and a longer line is no line of a program people read
_CODE_LINE = re.compile(
    r"""^\s*(?:\#include|import\ [\w.{*]|from\ [\w.]+\ import|def\ \w+|class\ \w+|(?:public|private|static|protected)\s|
    (?:for|while|if|switch|else\ if)\s*\(|(?:const|let|var|int|float|double|char|void|string|auto)\s+\w+\s*[=;(\[]|
    return\b.*;?$|function\s+\w*\s*\(|SELECT\s|INSERT\s|UPDATE\s+\w+\s+SET|CREATE\s+TABLE|\w+(?:\.\w+)*\(.*\)\s*[;{]?$|
    [})\];]+[,;]?\s*$|.*[;{}]\s*$|\#!|//|/\*|<\?php|</?[a-zA-Z!][^>]*>|\w+(?:\[.*\])?\s*[-+*/|&]?=\s*\S|
    (?:for|while|if|elif|else|try|except|with|finally)\b.*:\s*$|@\w+|\$\w+|\\\w+|print\b|\s{4,}\S)""",
    re.VERBOSE,
)


def code_share(text: str) -> float:
    """Share of the non-empty lines that look like program text (0 to 1): for answers that are code without a fence."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return (
        sum(len(line) <= _LONGEST_CODE_LINE and bool(_CODE_LINE.match(line)) for line in lines) / len(lines)
        if lines
        else 0.0
    )
