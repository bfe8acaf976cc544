"""What a judge is asked about a row: to rate it, or which of its two answers is better. How the answer is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from filters.judge.material import PREFERENCE_FORM, Request, preference_request, rating_form, rating_request
from filters.judge.reply import preference, rating
from filters.judge.rubric import Rubric
from filters.step import Row, Score
from trainer.conversation import Message, canonical_json, content_hash, content_text

SHARES = {"A": 1.0, "B": 0.0, "tie": 0.5}
"""What a verdict is worth to the answer that was shown first."""


@dataclass(frozen=True)
class Question:
    """`form` describes to the judge how its answer must end; `read` gives the number in it, None where it has none.

    A model whose probabilities are read writes `lead` and then one of `choices`, each worth its number.
    """

    form: str
    request: Callable[[Row], Request | Score]
    read: Callable[[str], float | None]
    lead: str
    choices: dict[str, float]


def question(rubric: Rubric, *, compares: bool = False) -> Question:
    """For a rating by the rubric, or of a comparison's two answers the share of the first one (`comparison`)."""
    if compares:
        return Question(
            PREFERENCE_FORM,
            lambda row: preference_request(rubric, *compared(row)),
            lambda text: SHARES.get(preference(text) or ""),
            "Better: ",
            {"A": 1.0, "B": 0.0},
        )
    return Question(
        rating_form(rubric),
        lambda row: rating_request(rubric, row),
        lambda text: rating(text, rubric.scale),
        "Rating: ",
        {str(level): float(level) for level in rubric.scale},
    )


def comparison(prompt: Sequence[Message], first: str, second: str) -> Row:
    """Two answers to `prompt` as a row, for a job: its last two messages are the answers, in the order to be shown."""
    answers = [{"role": "assistant", "content": text} for text in (first, second)]
    text = canonical_json([*prompt, *answers])
    return Row(0, content_hash(text, None), text)


def compared(row: Row) -> tuple[Sequence[Message], str, str]:
    """Prompt, first and second answer of a comparison."""
    *prompt, first, second = row.messages
    return prompt, content_text(first["content"]), content_text(second["content"])
