"""`detectable_format:*` and `detectable_content:*`: what an answer looks like, and marks that must stand in it."""

from __future__ import annotations

import json
import re
from typing import Final

from pydantic import Field

from trainer.instructions.check import Check

_CHOICES: Final = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCE = re.compile(r"\A```\w*\n?(.*?)\n?```\Z", re.DOTALL)


class Bullets(Check):
    """The answer has exactly so many bullet points: lines that begin with `*` or `-`.

    A line that begins with `**` is bold, and one of three or more signs alone is a divider.
    """

    num_bullets: int

    def _follows(self, answer: str) -> bool:
        points = [line for line in answer.splitlines() if re.match(r"\s*(\*(?!\*)|-(?!--+\s*$))\s*\S", line)]
        return len(points) == self.num_bullets


class Highlights(Check):
    """At least so many places are highlighted in Markdown's way: `*so*` or `**so**`, within a line."""

    num_highlights: int

    def _follows(self, answer: str) -> bool:
        bold = r"\*\*[^\n*]+\*\*"
        found = re.findall(rf"{bold}|\*[^\n*]+\*", answer)
        return sum(bool(place.strip("* ")) for place in found) >= self.num_highlights


class Sections(Check):
    """At least so many sections, each headed by the mark and a number: "SECTION 1"."""

    section_spliter: str = Field(min_length=1)
    num_sections: int

    def _follows(self, answer: str) -> bool:
        return len(re.findall(rf"{re.escape(self.section_spliter.strip())}\s?\d+", answer)) >= self.num_sections


class Json(Check):
    """The whole answer is one JSON text, as it is or in a code fence."""

    def _follows(self, answer: str) -> bool:
        text = answer.strip()
        fenced = _FENCE.match(text)
        try:
            json.loads(fenced[1] if fenced else text)
        except (ValueError, RecursionError):
            return False
        return True


class Title(Check):
    """A title in double angular brackets stands in a line: `<<so>>`."""

    def _follows(self, answer: str) -> bool:
        return any(found.strip("<> \t") for found in re.findall(r"<<[^\n]+>>", answer))


class Constrained(Check):
    """One of the three sentences that were allowed as an answer stands in it."""

    def _follows(self, answer: str) -> bool:
        return any(choice in answer for choice in _CHOICES)


class Placeholders(Check):
    """At least so many placeholders in square brackets: `[address]`."""

    num_placeholders: int

    def _follows(self, answer: str) -> bool:
        return len(re.findall(r"\[[^\n]*?\]", answer)) >= self.num_placeholders


class Postscript(Check):
    """A postscript with the marker stands in the answer; spaces after its points, and case, do not matter."""

    postscript_marker: str = Field(min_length=1)

    def _follows(self, answer: str) -> bool:
        marker = re.escape(self.postscript_marker.strip()).replace(r"\.", r"\.\s?").removesuffix(r"\s?")
        return re.search(rf"(?<!\w){marker}", answer, re.IGNORECASE) is not None
