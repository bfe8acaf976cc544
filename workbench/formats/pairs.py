"""Prompts with their answers in columns: Alpaca, prompt and completion, named columns, questions with references."""

from __future__ import annotations

from trainer.conversation import Message
from workbench.formats.parts import PROMPTS, SYSTEMS, Parts, Row, first_of, has, one_of, side, text_of, with_columns
from workbench.formats.rows import RowProblem
from workbench.formats.turns import decoded, kind

ANSWERS = ("completion", "response", "answer")
ALPACA_ANSWERS = ("output", "response")
_ALPACA_INPUTS = ("input", "context")  # Dolly calls it context


def is_alpaca(row: Row) -> bool:
    """Whether the row has an instruction and an answer."""
    return has(row, "instruction") and has(row, *ALPACA_ANSWERS)


def from_alpaca(row: Row) -> Parts:
    """Instruction, blank line and input are one user turn; `history` goes before, `output` or `response` answers."""
    messages, used = alpaca_prompt(row)
    answer = one_of(row, ALPACA_ANSWERS)
    messages.append({"role": "assistant", "content": text_of(row, answer)})
    return with_columns(messages, row, (*used, answer))


def alpaca_prompt(row: Row) -> tuple[list[Message], tuple[str, ...]]:
    """The turns before the answer of an Alpaca row, and the columns they come from."""
    instruction = one_of(row, ("instruction",))
    given = first_of(row, _ALPACA_INPUTS)
    messages = _history(row["history"]) if row.get("history") else []
    extra = None if given is None or row[given] in (None, "") else text_of(row, given)
    messages.append({"role": "user", "content": instructed(text_of(row, instruction), extra)})
    return messages, tuple(name for name in (instruction, given, "history") if name is not None)


def instructed(instruction: str, given: str | None) -> str:
    """An instruction and what it is to be applied to, as one prompt."""
    return f"{instruction}\n\n{given}" if instruction and given else instruction or given or ""


def is_pair(row: Row) -> bool:
    """Whether the row has a prompt and an answer."""
    return has(row, *PROMPTS) and has(row, *ANSWERS)


def from_pair(row: Row) -> Parts:
    """A prompt and its answer, each a text or turns."""
    return pair(row, one_of(row, PROMPTS), one_of(row, ANSWERS), SYSTEMS)


def pair(row: Row, prompt: str, answer: str, systems: tuple[str, ...]) -> Parts:
    """The same for columns of these names."""
    messages = side(row[prompt], prompt, "user") + side(row[answer], answer, "assistant")
    return with_columns(messages, row, (prompt, answer), systems=systems)


def is_questions(row: Row) -> bool:
    """Whether the row has the questions of several turns, as MT-bench has them, with or without references."""
    asked = row.get("turns")
    return isinstance(asked, list) and bool(asked) and all(isinstance(text, str) for text in asked)


def from_questions(row: Row) -> Parts:
    """Each question of `turns` is answered by the reference at its place."""
    asked = row.get("turns")
    if not isinstance(asked, list):
        raise RowProblem(f"`turns` is {kind(asked)}, not a list of questions")
    answers = row.get("reference")
    if answers is None:
        raise RowProblem(f"a prompt without an answer: {len(asked)} questions in `turns`, and no `reference`")
    if not isinstance(answers, list) or len(answers) != len(asked):
        raise RowProblem(f"`reference` does not hold one answer for each of the {len(asked)} questions in `turns`")
    messages: list[Message] = []
    for i, (question, answer) in enumerate(zip(asked, answers, strict=True)):
        if not (isinstance(question, str) and isinstance(answer, str)):
            raise RowProblem(f"`turns[{i}]` or `reference[{i}]` is not text")
        if not answer:
            raise RowProblem(f"a prompt without an answer: `reference[{i}]` is empty")
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return with_columns(messages, row, ("turns", "reference"))


def _history(value: object) -> list[Message]:
    pairs = decoded(value, "history")
    if not isinstance(pairs, list):
        raise RowProblem(f"`history` is {kind(pairs)}, not a list of [prompt, answer] pairs")
    messages: list[Message] = []
    for i, pair in enumerate(pairs):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise RowProblem(f"`history[{i}]` is not a pair of texts [prompt, answer]")
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return messages
