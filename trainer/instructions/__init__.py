"""Verifiable instructions: what an answer was told to do and a program can check, in the manner of IFEval.

An eval item carries a list of instructions, each the name of a kind and its parameters. *Strict* takes the answer
as it is. *Loose* also lets an answer pass that follows without its first line ("Sure, here it is:"), its last line,
both, or without Markdown's asterisks: eight variants in all (Zhou et al. 2023, arXiv:2311.07911, section 2.2).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from trainer.conversation import canonical_json
from trainer.errors import BadInput
from trainer.instructions import keywords, length, shape, writing
from trainer.instructions.check import Check

KINDS: Final[Mapping[str, type[Check]]] = {
    "change_case:capital_word_frequency": keywords.CapitalWords,
    "change_case:english_capital": writing.Capitals,
    "change_case:english_lowercase": writing.Lowercase,
    "combination:repeat_prompt": writing.RepeatPrompt,
    "combination:two_responses": writing.TwoResponses,
    "detectable_content:number_placeholders": shape.Placeholders,
    "detectable_content:postscript": shape.Postscript,
    "detectable_format:constrained_response": shape.Constrained,
    "detectable_format:json_format": shape.Json,
    "detectable_format:multiple_sections": shape.Sections,
    "detectable_format:number_bullet_lists": shape.Bullets,
    "detectable_format:number_highlighted_sections": shape.Highlights,
    "detectable_format:title": shape.Title,
    "keywords:existence": keywords.Existence,
    "keywords:forbidden_words": keywords.ForbiddenWords,
    "keywords:frequency": keywords.Frequency,
    "keywords:letter_frequency": keywords.LetterFrequency,
    "language:response_language": writing.Language,
    "length_constraints:nth_paragraph_first_word": length.NthParagraphFirstWord,
    "length_constraints:number_paragraphs": length.Paragraphs,
    "length_constraints:number_sentences": length.Sentences,
    "length_constraints:number_words": length.Words,
    "punctuation:no_comma": writing.NoComma,
    "startend:end_checker": writing.EndsWith,
    "startend:quotation": writing.Quotation,
}


@dataclass(frozen=True)
class Instruction:
    """A kind by its name in `KINDS`, and the check with its parameters."""

    kind: str
    check: Check

    def strict(self, answer: str) -> bool:
        """Whether the answer follows as it is."""
        return self.check.follows(answer)

    def loose(self, answer: str) -> bool:
        """Whether any of the eight variants of the answer follows."""
        return any(self.strict(variant) for variant in variants(answer))


def parse(ids: object, kwargs: object) -> list[Instruction]:
    """The instructions of an item as IFEval's files have them: `instruction_id_list` and `kwargs`, one for each.

    A parameter that is null counts as not given. Raises BadInput saying what is wrong with which.
    """
    if not isinstance(ids, Sequence) or isinstance(ids, str) or not all(isinstance(id, str) for id in ids):
        raise BadInput("instruction_id_list is not a list of names")
    given = [{}] * len(ids) if kwargs is None else kwargs
    if not isinstance(given, Sequence) or len(given) != len(ids) or not all(isinstance(k, dict | None) for k in given):
        raise BadInput("kwargs is not a list with one object for each of instruction_id_list")
    return [_instruction(id, params or {}) for id, params in zip(ids, given, strict=True)]


def _instruction(kind: str, params: dict[str, Any]) -> Instruction:
    if kind not in KINDS:
        raise BadInput(f"unknown instruction {kind!r}", do=f"There are {', '.join(KINDS)}.")
    try:
        check = KINDS[kind].model_validate({name: value for name, value in params.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadInput(f"{kind}: {place}: {first['msg']}") from None
    return Instruction(kind, check)


def to_json(instructions: Sequence[Instruction]) -> str:
    """Instructions as canonical JSON text: a list of {"id", "kwargs"}."""
    return canonical_json([{"id": i.kind, "kwargs": i.check.model_dump()} for i in instructions])


def from_json(text: str) -> list[Instruction]:
    """What `to_json` wrote. Raises BadInput."""
    listed = json.loads(text)
    return parse([entry["id"] for entry in listed], [entry["kwargs"] for entry in listed])


def variants(answer: str) -> list[str]:
    """The answer; without its first line, its last, both; and each of these without asterisks."""
    lines = answer.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    kept = [answer, *cut]
    return kept + [text.replace("*", "") for text in kept]
