"""What batching costs: positions that a step computes and nobody trains on, with rows padded or packed.

All of it is arithmetic over lengths in tokens. A share is of the positions in the batch: 0.25 means that a quarter of
what is computed is filling.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence


def padded_waste(lengths: Sequence[int], batch: int) -> float:
    """The share of filling where `batch` rows at a time, in their order, are padded to the longest of them."""
    positions = sum(
        max(group) * len(group) for group in (lengths[i : i + batch] for i in range(0, len(lengths), batch))
    )
    return _share(positions, lengths)


def packed_waste(lengths: Sequence[int], limit: int) -> float:
    """The share of filling where rows are packed into sequences of `limit` tokens, none of them cut.

    Best fit, longest first (Johnson 1973), as packing trainers do it. No length may be above `limit`.
    """
    room: Counter[int] = Counter()  # sequences by the room that is left in them
    sizes: list[int] = []  # its keys, ascending
    opened = 0
    for length in sorted(lengths, reverse=True):
        at = bisect_left(sizes, length)
        if at == len(sizes):
            opened += 1
            rest = limit - length
        else:
            best = sizes[at]
            room[best] -= 1
            if not room[best]:
                del sizes[at], room[best]
            rest = best - length
        if rest:
            if not room[rest]:
                insort(sizes, rest)
            room[rest] += 1
    return _share(opened * limit, lengths)


def _share(positions: int, lengths: Sequence[int]) -> float:
    return 1 - sum(lengths) / positions if positions else 0.0
