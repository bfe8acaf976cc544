"""A metric of one's own: whether an answer that was asked for JSON is JSON."""

import json

from trainer.own_metrics import Answered


class IsJson:
    """1 where the answer parses, 0 where it does not; nothing is said of answers that were not asked for JSON."""

    higher_is_better = True

    def measure(self, answered: Answered) -> float | None:
        """Of one answer: a number, or None where it has none."""
        if "json" not in str(answered.asked[-1]["content"]).lower():
            return None
        try:
            json.loads(answered.answer.strip().removeprefix("```json").removesuffix("```"))
        except ValueError:
            return 0.0
        return 1.0
