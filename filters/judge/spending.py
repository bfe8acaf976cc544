"""What judging costs: calls and tokens counted as they are spent, and a budget that is not overrun."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Any

from filters.judge.plan import Budget
from trainer.conversation import Message, content_text
from trainer.errors import Stopped

_LOOK = 0.2  # seconds between two looks whether the work is to stop


class BudgetReached(Stopped):
    """The budget is used up. What was judged is kept, and the same command with a larger one goes on."""


@dataclass
class Usage:
    """What was spent. `estimated` calls are those whose server told no tokens; they count by their length."""

    calls: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    estimated: int = 0
    cost: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For events and reports."""
        return asdict(self)


@dataclass(frozen=True)
class Reservation:
    """The most that a call may come to, set aside while it is under way."""

    prompt_tokens: int
    reply_tokens: int


class Spending:
    """Counts what calls cost, from many threads, and refuses a call that could overrun the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._settled = threading.Condition()
        self._under_way: list[Reservation] = []
        self.usage = Usage()
        self.exhausted: str | None = None
        """Which limit is used up, in words; None while none is."""

    def take(self, reservation: Reservation, stopping: threading.Event) -> bool:
        """Set the call aside, or say False: a limit is reached, and `exhausted` tells which, or work is to stop.

        Where only what is set aside for calls under way leaves no room, it waits for them: most take less.
        """
        with self._settled:
            while not stopping.is_set() and self.exhausted is None:
                lacking = self._lacking(reservation)
                if lacking is None:
                    self._under_way.append(reservation)
                    self.usage.calls += 1
                    return True
                if not self._under_way or self._calls_used:
                    self.exhausted = lacking
                    self._settled.notify_all()
                else:
                    self._settled.wait(_LOOK)
            return False

    def settle(self, reservation: Reservation, tokens: tuple[int | None, int | None] | None) -> None:
        """Put what a call took (prompt, reply) in the place of what was set aside; None where it cannot have cost any.

        A count that is None is not known, as after a timeout or of a server that tells none: what was set aside counts.
        """
        with self._settled:
            self._under_way.remove(reservation)
            self._settled.notify_all()
            if tokens is None:
                return
            prompt, reply = tokens
            if prompt is None or reply is None:
                prompt, reply = reservation.prompt_tokens, reservation.reply_tokens
                self.usage.estimated += 1
            self.usage.prompt_tokens += prompt
            self.usage.reply_tokens += reply
            self.usage.cost = self._budget.price(self.usage.prompt_tokens, self.usage.reply_tokens)

    @property
    def _calls_used(self) -> bool:
        return self._budget.calls is not None and self.usage.calls >= self._budget.calls

    def _lacking(self, reservation: Reservation) -> str | None:
        """The limit that has no room for the call beside those under way, in words."""
        budget = self._budget
        prompt = self.usage.prompt_tokens + sum(r.prompt_tokens for r in [*self._under_way, reservation])
        reply = self.usage.reply_tokens + sum(r.reply_tokens for r in [*self._under_way, reservation])
        if self._calls_used:
            return f"{budget.calls:,} call{'s' * (budget.calls != 1)}"
        if budget.tokens is not None and prompt + reply > budget.tokens:
            return f"{budget.tokens:,} tokens"
        if budget.cost is not None and budget.price(prompt, reply) > budget.cost:
            return f"a cost of {budget.cost:g}"
        return None


def reserve(messages: list[Message], max_reply_tokens: int) -> Reservation:
    """The most that a call with `messages` may take. Tokens are guessed from bytes, rather too many than too few."""
    return Reservation(sum(estimated_tokens(content_text(m["content"])) for m in messages), max_reply_tokens)


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has: one for three bytes, and a few for the template around it."""
    return len(text.encode("utf-8", "replace")) // 3 + 8
