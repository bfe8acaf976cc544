"""The wipe-out guard: a filter or deduplicator that takes too much stops, and a person decides.

Too much is more than the step's `max_drop` of its input, or every row of one source, category or prompt language.
One wrong threshold otherwise empties a data set without a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from filters.errors import Wipeout
from filters.remaining import Remaining
from filters.step import Drop, Row, Score, Step

SMALLEST_GROUP = 5  # a group with fewer rows may well vanish by chance: that does not stop a run
SHOWN_REASONS = 3
WHAT_TO_DO = "Look at what falls; if it is what you want, {} in the recipe, or run with --allow-wipeout."

Languages = Callable[[Sequence[Row]], Sequence[Score]]


def guard(step: Step[Any], where: str, left: Remaining, drops: Sequence[Drop], languages: Languages) -> None:
    """Raise `Wipeout` if `drops` are more than `step` may take from `left`, which still holds them.

    `languages` scores rows with the language of their prompt as label. It is asked only about dropped rows and
    as many others as it takes to see that each language lives on.
    """
    if step.max_drop is None or not drops:
        return
    reasons = Counter(drop.reason for drop in drops).most_common(SHOWN_REASONS)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons)
    share = len(drops) / len(left)
    if share > step.max_drop:
        raise Wipeout(
            f"it would drop {len(drops)} of {len(left)} rows ({share:.0%}; {why}); max_drop is {step.max_drop:g}",
            where=where,
            do=WHAT_TO_DO.format(f"raise max_drop of {step.name}"),
        )
    if step.max_drop >= 1:
        return
    dropped = left.mask([drop.id for drop in drops])
    groups = left.emptied_groups(dropped, SMALLEST_GROUP)
    groups = groups or _emptied_languages(left.read(dropped), left.surviving(dropped), languages)
    if groups:
        kind, name, rows = groups[0]
        raise Wipeout(
            f"it would drop all {rows} rows of {kind} {name!r} ({why})",
            where=where,
            do=WHAT_TO_DO.format(f"set max_drop: 1 for {step.name}"),
        )


def _emptied_languages(
    falling: Iterable[list[Row]], staying: Iterable[list[Row]], languages: Languages
) -> list[tuple[str, str, int]]:
    counts: Counter[str] = Counter()
    for batch in falling:
        counts.update(score.label for score in languages(batch) if score.label)
    at_stake = {name: count for name, count in counts.items() if count >= SMALLEST_GROUP}
    for batch in staying:
        if not at_stake:
            break
        for score in languages(batch):
            at_stake.pop(score.label or "", None)
    return [("language", name, count) for name, count in sorted(at_stake.items())]
