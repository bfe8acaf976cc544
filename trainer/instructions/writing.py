"""`language:*`, `change_case:*`, `punctuation:*`, `startend:*`, `combination:*`: an answer as a whole."""

from __future__ import annotations

from pydantic import Field, field_validator

from trainer.instructions.check import Check, without_empty_ends
from trainer.instructions.language import is_in, known

_PARTED = "******"


class Language(Check):
    """The whole answer is in the language (its ISO 639-1 code)."""

    language: str

    @field_validator("language")
    @classmethod
    def _known(cls, code: str) -> str:
        if not known(code):
            raise ValueError(f"no language {code!r} that could be told")
        return code

    def _follows(self, answer: str) -> bool:
        return is_in(answer, self.language)


class Capitals(Check):
    """The answer is in English, and in capital letters alone."""

    def _follows(self, answer: str) -> bool:
        return answer.isupper() and is_in(answer, "en")


class Lowercase(Check):
    """The answer is in English, and in small letters alone."""

    def _follows(self, answer: str) -> bool:
        return answer.islower() and is_in(answer, "en")


class NoComma(Check):
    """There is no comma in the answer."""

    def _follows(self, answer: str) -> bool:
        return "," not in answer


class EndsWith(Check):
    """The answer ends with the phrase, in any case; quotation marks around the answer do not matter."""

    end_phrase: str = Field(min_length=1)

    def _follows(self, answer: str) -> bool:
        return answer.strip().strip('"').casefold().endswith(self.end_phrase.strip().casefold())


class Quotation(Check):
    """The whole answer stands in double quotation marks."""

    def _follows(self, answer: str) -> bool:
        text = answer.strip()
        return len(text) > 1 and text[0] == text[-1] == '"'


class TwoResponses(Check):
    """Two different answers, parted by six asterisks; a divider before the first or after the last parts nothing."""

    def _follows(self, answer: str) -> bool:
        parts = without_empty_ends([part.strip() for part in answer.split(_PARTED)])
        return len(parts) == 2 and all(parts) and parts[0] != parts[1]


class RepeatPrompt(Check):
    """The answer begins with the request, word for word, in any case."""

    prompt_to_repeat: str = Field(min_length=1)

    def _follows(self, answer: str) -> bool:
        return answer.strip().casefold().startswith(self.prompt_to_repeat.strip().casefold())
