"""What is known of each token, kept small: a row may have 100,000 tokens, and few of them are ever looked at."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import overload


@dataclass(frozen=True, slots=True)
class Ranges(Sequence[tuple[int, int]]):
    """(start, end) of each token, kept as two arrays of equal length: tuples take over ten times the space."""

    starts: array[int]
    ends: array[int]

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Ranges:
        """`pairs` as ranges."""
        both = array("i", chain.from_iterable(pairs))
        return cls(both[::2], both[1::2])

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.ends, strict=True)

    @overload
    def __getitem__(self, at: int) -> tuple[int, int]: ...

    @overload
    def __getitem__(self, at: slice) -> Ranges: ...

    def __getitem__(self, at: int | slice) -> tuple[int, int] | Ranges:
        if isinstance(at, slice):
            return Ranges(self.starts[at], self.ends[at])
        return self.starts[at], self.ends[at]


@dataclass(frozen=True, slots=True)
class Runs(Sequence[str]):
    """A word for each token where neighbours mostly share theirs: run i of `words` ends before token `ends[i]`.

    No run is empty, and no word follows itself, so equal sequences have equal runs.
    """

    words: tuple[str, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, borders: Iterable[tuple[str, int]]) -> Runs:
        """From words, each with the token before which it ends, in order; what is empty or goes on is put together."""
        words: list[str] = []
        ends = [0]
        for word, end in borders:
            if end <= ends[-1]:
                continue
            if words and words[-1] == word:
                ends[-1] = end
            else:
                words.append(word)
                ends.append(end)
        return cls(tuple(words), tuple(ends[1:]))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __iter__(self) -> Iterator[str]:
        starts = (0, *self.ends)
        lengths = (end - start for start, end in zip(starts, self.ends, strict=False))
        return chain.from_iterable(map(repeat, self.words, lengths))

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> Runs: ...

    def __getitem__(self, at: int | slice) -> str | Runs:
        places = range(len(self))[at]  # an index from the end, or past it, means what it means in a list
        if isinstance(places, int):
            return self.words[bisect_right(self.ends, places)]
        words = [self.words[bisect_right(self.ends, place)] for place in places]
        ends = range(1, len(words) + 1)
        return Runs.of(zip(words, ends, strict=True))
