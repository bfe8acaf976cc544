"""`code-fence`: code blocks whose fences do not fit together, so that prose is shown as code or code as prose."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args

from pydantic import Field

from filters.fences import fences
from filters.step import FilterParams, Finding, Row, RowStep, Score, Scorer, each
from trainer.conversation import Side

Kind = Literal["open", "glued", "nested"]
_SHOWS_MARKDOWN = frozenset(("markdown", "md", "mdx", "rst", "text", "txt", "plaintext"))


class CodeFenceParams(FilterParams):
    """`kinds`: `open` is never closed, `glued` closes at the end of a code line, `nested` opens inside another."""

    on: Side = "response"
    kinds: list[Kind] = Field(default=list(get_args(Kind)), min_length=1)


class CodeFence(RowStep[CodeFenceParams]):
    """Drop rows with a code fence that is never closed, or that swallows the next one.

    `open` is what `cut-off` finds as "open code fence" too, here without its other signs. An answer that shows
    Markdown may hold fences inside a block that is marked as such. Inline code is not looked at.
    """

    name = "code-fence"
    kind = "filter"
    params_model = CodeFenceParams

    @cached_property
    def scorers(self) -> Sequence[Scorer]:
        """How many blocks are wrong; the label is the kind of the first."""
        on = self.params.on
        return [Scorer("code-fence", 1, {"on": on}, each(lambda row: _score(row, on)))]

    def decide(self, scores: Sequence[Score]) -> Finding | None:
        """One of the chosen kinds."""
        (score,) = scores
        return (
            Finding(f"code fence: {score.label}", score.value, score.detail)
            if score.label in self.params.kinds
            else None
        )


def _score(row: Row, on: Side) -> Score:
    found = [flaw for text in row.turns(on) for flaw in fence_flaws(text)]
    if not found:
        return Score(0.0)
    return Score(float(len(found)), label=found[0][0], detail=found[0][1])


def fence_flaws(text: str) -> list[tuple[Kind, str]]:
    """What is wrong with the fences of `text`, and the first line of each block concerned."""
    found: list[tuple[Kind, str]] = []
    for fence in fences(text):
        begins = fence.body.strip().partition("\n")[0][:60]
        if fence.glued and not fence.closed:
            found.append(("glued", begins))
        elif not fence.closed:
            found.append(("open", begins))
        elif fence.inner and fence.language not in _SHOWS_MARKDOWN:
            found.append(("nested", begins))
    return found
