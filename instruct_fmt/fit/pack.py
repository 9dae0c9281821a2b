"""Rows put together into sequences of a fixed length, best fit decreasing, none of them split.

In: lengths. Out: which rows make a sequence. The longest row that is left goes where the least space is left behind it;
see D. S. Johnson, "Near-optimal bin packing algorithms" (1973), and for language models H. Ding et al., "Fewer
Truncations Improve Language Modeling" (2024). Rows of one length are interchangeable, and so are sequences with the
same space: both are placed as many at a time, so that the time depends on how many different lengths there are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np

from instruct_fmt.types import Ints


@dataclass(frozen=True, slots=True)
class Packs:
    """Rows in the order in which they are put together.

    Attributes:
        rows: the numbers of the rows, those of a sequence one behind the other, in the order of the dataset.
        offsets: sequence i has the rows `rows[offsets[i]:offsets[i + 1]]`; sequences are in the order of their first
            rows.
    """

    rows: Ints
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1


def best_fit(lengths: Ints, capacity: int) -> Packs:
    """Pack rows, none longer than a sequence.

    Args:
        lengths: how many tokens each row has, from 1 to `capacity`; shape (rows,).
        capacity: how many tokens a sequence may have.

    >>> packs = best_fit(np.array([3, 6, 5, 4, 2]), 8)
    >>> [packs.rows[a:b].tolist() for a, b in zip(packs.offsets, packs.offsets[1:])]
    [[0, 2], [1, 4], [3]]
    """
    order = np.argsort(-lengths, kind="stable")
    sequence = np.empty(len(order), np.int64)
    spaces = _Spaces(capacity)
    sizes, numbers = np.unique(lengths, return_counts=True)
    placed = 0
    for size, number in zip(sizes[::-1].tolist(), numbers[::-1].tolist(), strict=True):
        end = placed + number
        while placed < end:
            chosen = spaces.take(size, end - placed)
            sequence[placed : placed + len(chosen)] = chosen
            placed += len(chosen)
    found = np.empty(len(order), np.int64)
    found[order] = sequence
    return _in_order(found, spaces.made)


def _in_order(sequence: Ints, made: int) -> Packs:
    """Sequences in the order of their first rows; `sequence` is the number of each row's."""
    first = np.full(made, len(sequence), np.int64)
    np.minimum.at(first, sequence, np.arange(len(sequence)))
    rank = np.empty(made, np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(made)
    place = rank[sequence]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=made))])
    return Packs(np.argsort(place, kind="stable"), offsets)


class _Spaces:
    """Open sequences by the space that is left in them."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._sorted: list[int] = []
        self._open: dict[int, list[Ints]] = {}
        self.made = 0

    def take(self, size: int, number: int) -> Ints:
        """The sequences that the next rows of a size go to, as many as one kind of sequence can take, `number` at most.

        A sequence takes as many of them as fit: what is left in it is the best fit for the next one.
        """
        place = bisect_left(self._sorted, size)
        space = self._sorted[place] if place < len(self._sorted) else self._capacity
        each = space // size
        sequences = self._pop(space) if space < self._capacity else self._new(-(-number // each))
        full = min(len(sequences), number // each)
        self._push(space - each * size, sequences[:full])
        found = np.repeat(sequences[:full], each)
        rest = sequences[full:]
        some = min(number - full * each, each)
        if len(rest) and some:  # the last one takes fewer
            found = np.concatenate([found, np.repeat(rest[:1], some)])
            self._push(space - some * size, rest[:1])
            rest = rest[1:]
        self._push(space, rest)
        return found

    def _new(self, number: int) -> Ints:
        self.made += number
        return np.arange(self.made - number, self.made)

    def _pop(self, space: int) -> Ints:
        del self._sorted[bisect_left(self._sorted, space)]
        return np.concatenate(self._open.pop(space))

    def _push(self, space: int, sequences: Ints) -> None:
        if not space or not len(sequences):
            return
        if space not in self._open:
            insort(self._sorted, space)
        self._open.setdefault(space, []).append(sequences)
