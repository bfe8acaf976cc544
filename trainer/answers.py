"""The answers job: prompts that somebody typed, answered by the base model and by adapters that were trained on it.

    plan.json                  in
    results/<arm>.parquet      item (the prompt's number), text, finish, tokens; complete when it is there

Rendering, decoding and the way the model is held are those of the experiment's evaluation. A job that was stopped
keeps the arms that are complete.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from trainer.adapters import with_adapters
from trainer.base import Base, load_chosen, with_policy
from trainer.chat import window
from trainer.errors import BadInput
from trainer.evaluate import OnTokens, answering_prompt, generate, write_measured
from trainer.plan import BASE, AnswersPlan
from trainer.protocol import Events, read_plan

_EVERY = 0.5  # seconds between two looks at an answer that is being written


@dataclass(frozen=True)
class _Asked:
    item: int
    prompt: list[int]


def answer_prompts(folder: Path, events: Events) -> None:
    """Do what `plan.json` in `folder` says. Raises Problem kinds; see the module's text for the files.

    Every answer is also told as an event (`arm`, `item`, `finish`, `tokens`), and while it is written, now and then,
    how it begins (`arm`, `item`, `text`, `tokens`).
    """
    plan = read_plan(folder, AnswersPlan)
    out = folder / "results"
    out.mkdir(exist_ok=True)
    missing = [arm for arm in (BASE, *plan.adapters) if not (out / f"{arm}.parquet").exists()]
    if not missing:
        return
    events.emit("stage", what="loading the model")
    base, policy = with_policy(load_chosen(plan.model, plan.chosen), plan.policy)
    asked = [_Asked(i, answering_prompt(base, turns, None, policy)) for i, turns in enumerate(plan.prompts)]
    most = window(base.tokenizer, base.source.path)
    for one in asked:
        if most is not None and len(one.prompt) >= most:
            raise BadInput(
                f"the prompt is {len(one.prompt):,} tokens long, and the model sees {most:,}",
                where=f"prompt {one.item + 1}",
                do="Ask something shorter.",
            )
    adapters = {arm: folder / plan.adapters[arm] for arm in missing if arm != BASE}
    wearing = with_adapters(base, adapters)
    for arm in missing:
        events.emit("stage", what=f"{arm} answers", arm=arm)
        with wearing(None if arm == BASE else arm) as model:
            answers = generate(base, model, asked, plan.max_new_tokens, on_tokens=_teller(base, arm, events))
        write_measured(answers, out / f"{arm}.parquet")
        for answer in answers:
            events.emit("answer", arm=arm, item=answer.item, finish=answer.finish, tokens=answer.tokens)


def _teller(base: Base, arm: str, events: Events) -> OnTokens:
    """What tells, now and then, how the answers of an arm begin."""
    told = time.monotonic()

    def on_tokens(written: dict[int, list[int]]) -> None:
        nonlocal told
        if time.monotonic() - told < _EVERY:
            return
        told = time.monotonic()
        for item, ids in written.items():
            text = base.tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")  # half of a character
            events.emit("writing", arm=arm, item=item, text=text, tokens=len(ids))

    return on_tokens
