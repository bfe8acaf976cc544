"""Which language a text is in, as far as a check must know."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

SURE = 40
"""Letters from which the identifier's first guess is taken; below, any in a fitting script that is not ruled out."""

_POSSIBLE = 0.005
# Close relatives that are mixed up with a language that is asked for, dialects and creoles among them.
_RELATIVES = {
    "zh": "wuu yue lzh zh-cn zh-tw",
    "en": "pcm sco",
    "no": "nb nn",
    "hr": "bs sr sh",
    "id": "ms",
    "pt": "gl",
    "de": "lb nds als bar",
    "ar": "arz",
    "hi": "bho mai",
    "fa": "prs",
}
_FAMILY = {code: name for name, codes in _RELATIVES.items() for code in codes.split()}
# Languages that are not written in Latin letters, of those that the identifier knows well.
_OTHER_SCRIPTS = (
    "am ar as be bg bn el fa gu he hi hy ja ka kk km kn ko ky lo mk ml mn mr my ne or pa ps ru sd si ta te th uk ur zh"
)
_NOISE = re.compile(r"https?://\S+|[\d_]+|[^\w\s'’]")


def is_in(text: str, language: str) -> bool:
    """Whether a text is in the language (ISO 639-1 code), as its best guess; a short one, whether it may be.

    A text without letters is in any language. Case does not matter: a text in capitals is in a language, too.
    """
    prose = " ".join(_NOISE.sub(" ", text).split()).lower()
    letters = sum(char.isalpha() for char in prose)
    if not letters:
        return True
    wanted = _family(language.lower())
    ranked: dict[str, float] = {}
    for code, share in _identifier().rank(prose):
        ranked[_family(code)] = ranked.get(_family(code), 0.0) + float(share)
    probability = ranked.get(wanted, 0.0)
    if probability == max(ranked.values(), default=0.0):
        return True
    latin = sum("LATIN" in unicodedata.name(char, "") for char in prose if char.isalpha())
    fits = (latin > letters / 2) != (wanted in _OTHER_SCRIPTS.split())
    return letters < SURE and fits and probability >= _POSSIBLE


def known(language: str) -> bool:
    """Whether the identifier knows the language."""
    return _family(language.lower()) in {_family(str(code)) for code in _identifier().labels}


def _family(code: str) -> str:
    return _FAMILY.get(code, code)


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
