"""What tells two texts apart that an embedding takes for the same: numbers, names, quotations, negation, opposites.

An embedding of a sentence hears its subject, not its details: with all-MiniLM-L6-v2 "the sum of the even numbers" and
"the sum of the odd numbers" stand at 0.96, "translate this Python code to Java" and its reverse at 0.95.
The words are English ones; numbers, names and quotations are those of any script that has capitals and quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from filters.text import words

_SHORT = 2  # words; what so few mean is what they are
_TOKEN = re.compile(r"\w+(?:[.'’/-]\w+)*(?:\+\+|#)?(?=(\()?)")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_QUOTED = re.compile(
    r"""(?<!\w)(?:"([^"\n]{1,300})"|'([^'\n]{1,300})'(?!\w)|`([^`\n]{1,300})`)"""
    r"""|“([^”]{1,300})”|‘([^’]{1,300})’|«([^»]{1,300})»|„([^“”]{1,300})[“”]|「([^」]{1,300})」"""
)
_SENTENCE_START = re.compile(r"""(?:^|[.!?:;|\n])[\s"'“‘«„(\[{*#>–-]*$""")
_ASIDE = re.compile(  # "in Python," at the head or the end, "using Python" anywhere
    r"\b(?:(?:using|with)\s+(?=(\w[\w.]*\w?[+#]*))|in\s+(?=(\w[\w.]*?[+#]*)\s*(?:[.!?,;:\n]|$)))", re.IGNORECASE
)
_TITLE_CASE = 0.4  # share of capitals from which they name nothing: Every Word In A Headline, or German nouns

_NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), start=2
    )
}
_LIMITS = frozenset(
    ("not", "no", "never", "without", "except", "excluding", "unless", "only", "cannot", "neither", "nor", "avoid")
)
_OR_NOT = re.compile(r"\bor not\b|\bnot only\b", re.IGNORECASE)
_PREFIXES = ("un", "dis", "non", "in", "im", "ir", "il", "mis", "anti")
_OPPOSITE_WORDS = """
    max/min maximum/minimum maximize/minimize maximise/minimise largest/smallest biggest/smallest larger/smaller
    greatest/smallest greatest/least greater/less greater/smaller more/less more/fewer most/least most/fewest
    longest/shortest longer/shorter long/short highest/lowest higher/lower high/low even/odd ascending/descending
    increasing/decreasing increase/decrease upper/lower uppercase/lowercase first/last before/after above/below
    left/right north/south east/west northern/southern eastern/western top/bottom front/back start/end beginning/end
    opening/closing open/close add/remove adds/removes add/subtract addition/subtraction insert/delete push/pop
    encode/decode encodes/decodes encoding/decoding encrypt/decrypt encrypts/decrypts encryption/decryption
    compress/decompress serialize/deserialize import/export upload/download reads/writes multiply/divide
    multiplication/division sum/difference sum/product sum/average mean/median pros/cons cause/effect causes/effects
    benefit/drawback benefits/drawbacks advantages/drawbacks benefits/risks strengths/weaknesses good/bad best/worst
    better/worse positive/negative true/false hot/cold warm/cold summer/winter day/night morning/evening old/young
    old/new oldest/newest oldest/youngest early/late earliest/latest fast/slow fastest/slowest male/female man/woman
    men/women boy/girl boys/girls father/mother son/daughter husband/wife king/queen rich/poor buy/sell buying/selling
    lend/borrow win/lose love/hate same/different similar/different similarities/differences synonym/antonym
    synonyms/antonyms recursive/iterative recursively/iteratively recursion/iteration prefix/suffix vowel/consonant
    vowels/consonants row/column rows/columns horizontal/vertical horizontally/vertically inner/outer public/private
    local/global static/dynamic client/server past/future singular/plural active/passive weekday/weekend
    weekdays/weekends sunrise/sunset arrival/departure beginner/expert beginners/experts cheap/expensive
    cheapest/expensive easy/difficult easy/hard large/small big/small light/dark light/heavy wet/dry full/empty
    inside/outside life/death war/peace safe/dangerous strong/weak thick/thin wide/narrow deep/shallow near/far
    always/never include/exclude including/excluding accept/reject enable/disable  squares/cubes
    square/cube letters/words lines/words days/weeks days/months weeks/months
    months/years days/years hours/minutes minutes/seconds radius/diameter area/perimeter area/volume
"""
_OPPOSITE_OF: dict[str, set[str]] = {}
for _one, _other in (pair.split("/") for pair in _OPPOSITE_WORDS.split()):
    _OPPOSITE_OF.setdefault(_one, set()).add(_other)
    _OPPOSITE_OF.setdefault(_other, set()).add(_one)


@dataclass(frozen=True)
class Particulars:
    """What a text says in particular. Words and names have their case folded; `C++` is one of the tokens.

    `names` stand in the order of their first appearance; `free` are those that may stand anywhere: aside ("In Python,
    ...", "using Java"), or with no more than "and" or "or" between them and the next.
    """

    words: tuple[str, ...]
    tokens: frozenset[str]
    numbers: frozenset[str]
    quoted: frozenset[str]
    names: tuple[str, ...]
    free: frozenset[str]
    limited: bool

    @classmethod
    def of(cls, text: str) -> Particulars:
        """Read `text`; its line breaks count, as sentences may end there."""
        bare = tuple(word.casefold() for word in words(text))
        numbers = {number.replace(",", "") for number in _NUMBER.findall(text)}
        numbers |= {_NUMBER_WORDS[word] for word in bare if word in _NUMBER_WORDS}
        quoted = {_plain(next(filter(None, found))) for found in _QUOTED.findall(text)}
        names, free = _names(text)
        told = [word.casefold() for word in words(_OR_NOT.sub(" ", text))]
        limited = any(word in _LIMITS or word.endswith(("n't", "n’t")) for word in told)
        tokens = frozenset(token[0].casefold() for token in _TOKEN.finditer(text))
        return cls(bare, tokens, frozenset(numbers), frozenset(quoted), names, free, limited)

    def contradicts(self, other: Particulars) -> bool:
        """Whether the two cannot mean the same.

        What only one of them has (a number, a name) may be detail that the other leaves out; what each has and the
        other lacks is another matter. A limit ("without", "not") in one alone is always one.
        """
        if min(len(self.words), len(other.words)) <= _SHORT:
            return self.words != other.words
        if self.limited != other.limited or (self.numbers - other.numbers and other.numbers - self.numbers):
            return True
        if self._quotes_more_than(other) and other._quotes_more_than(self):
            return True
        if self._names_more_than(other) and other._names_more_than(self):
            return True
        return _opposed(self.tokens, other.tokens) or self._turned(other)

    def _quotes_more_than(self, other: Particulars) -> bool:
        said = f" {' '.join(other.words)} "
        return any(quote not in other.quoted and f" {quote} " not in said for quote in self.quoted)

    def _names_more_than(self, other: Particulars) -> bool:
        return any(name not in other.tokens for name in self.names)

    def _turned(self, other: Particulars) -> bool:
        """Whether the names that both have come in another order: A to B is not B to A."""
        fixed = [name for name in self.names if name in other.names and name not in self.free | other.free]
        return fixed != [name for name in other.names if name in fixed]


def _plain(quote: str) -> str:
    return " ".join(word.casefold() for word in words(quote)) or quote.strip()


def _opposed(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether a word that only one has is the opposite of one that the other has: even, or even and odd."""
    mine, others = one - other, other - one
    if any(
        _OPPOSITE_OF.get(word, frozenset()) & there for some, there in ((mine, other), (others, one)) for word in some
    ):
        return True
    return any(
        len(word) > 3 and prefix + word in two
        for some, two in ((mine, others), (others, mine))
        for word in some
        for prefix in _PREFIXES
    )


def _names(text: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """Names in the order in which they come first, and which of them move freely."""
    found: list[tuple[str, int, int]] = []
    capitals: list[tuple[str, int, int]] = []
    inside = 0
    for match in _TOKEN.finditer(text):
        word = match[0]
        if word.isdigit() or word.isnumeric():
            continue
        place = (word.casefold(), match.start(), match.end())
        if _is_identifier(word) or match[1]:
            found.append(place)
        elif not _SENTENCE_START.search(text, max(0, match.start() - 20), match.start()):
            inside += 1
            if word[0].isupper() and word not in ("I", "A") and not word.startswith(("I'", "I’")):
                capitals.append(place)
    if len(capitals) < 4 or len(capitals) <= _TITLE_CASE * inside:
        found = sorted(found + capitals, key=lambda place: place[1])
    aside = {match.end() for match in _ASIDE.finditer(text)}
    free = {name for name, start, _ in found if start in aside}
    for (one, _, end), (two, start, _) in pairwise(found):
        if text[end:start].strip(" ,").casefold() in ("and", "or", "&", ""):
            free |= {one, two}
    return tuple(dict.fromkeys(name for name, _, _ in found)), frozenset(free)


def _is_identifier(word: str) -> bool:
    """Whether a word is written as no plain word is: C++, C#, snake_case, camelCase, GPT4."""
    if word[-1] in "+#" or "_" in word.strip("_"):
        return True
    digits = any(char.isdigit() for char in word)
    return (digits and any(char.isalpha() for char in word)) or (
        any(char.isupper() for char in word[1:]) and not word.isupper()
    )
