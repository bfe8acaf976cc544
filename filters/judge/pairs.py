"""Two answers to one prompt, judged in both orders: what changes with the order is no preference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from filters.judge.calls import ask_all
from filters.judge.endpoint import Asker, Reply
from filters.judge.local import LocalJudge
from filters.judge.material import PREFERENCE_FORM, preference_request
from filters.judge.question import SHARES
from filters.judge.reply import preference
from filters.judge.rubric import Rubric
from trainer.conversation import Message


@dataclass(frozen=True)
class Pair:
    """Two answers to the same prompt (all messages before the answer); `key` is the caller's name for it."""

    key: str
    prompt: Sequence[Message]
    first: str
    second: str


@dataclass(frozen=True)
class Verdict:
    """Which answer of a pair is better. `share` is that of the first one over both orders, from 0 to 1.

    `flipped`: the order decided, so it is a tie. `failure` says why there is no verdict; then all else is None.
    """

    winner: Literal["first", "second", "tie"] | None = None
    share: float | None = None
    flipped: bool | None = None
    failure: str | None = None


def judge_pairs(
    asker: Asker, rubric: Rubric, pairs: Iterable[Pair], wants_stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Pair, Verdict]]:
    """Verdicts of an endpoint as they come: two calls a pair. Raises as `ask_all`."""

    def prefer(pair: Pair, first: str, second: str) -> Reply | None:
        request = preference_request(rubric, pair.prompt, first, second)
        return asker.ask(request.messages, lambda text: preference(text) is not None, PREFERENCE_FORM)

    def judged(pair: Pair) -> Verdict | None:
        shares = []
        for first, second in ((pair.first, pair.second), (pair.second, pair.first)):
            reply = prefer(pair, first, second)
            if reply is None:
                return None
            said = preference(reply.text)
            if reply.failure or said is None:
                return Verdict(failure=reply.failure or "malformed")
            shares.append(SHARES[said])
        return verdict(shares[0], 1 - shares[1])

    yield from ask_all(asker, pairs, judged, wants_stop)


def judge_pairs_here(judge: LocalJudge, rubric: Rubric, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Verdict]]:
    """Verdicts of a model in this process."""
    for pair in pairs:
        forward, why = judge.prefer(rubric, pair.prompt, pair.first, pair.second)
        backward, why_not = judge.prefer(rubric, pair.prompt, pair.second, pair.first)
        if forward is None or backward is None:
            yield pair, Verdict(failure=why or why_not)
        else:
            yield pair, verdict(forward, 1 - backward)


def verdict(in_order: float, reversed_order: float) -> Verdict:
    """Of the first answer's share when it stood first, and its share when it stood second."""
    flipped = (in_order - 0.5) * (reversed_order - 0.5) < 0
    share = (in_order + reversed_order) / 2
    if flipped or share == 0.5:
        return Verdict("tie", share, flipped)
    return Verdict("first" if share > 0.5 else "second", share, flipped)
