"""Many rows that are too long, cut all at once; the twin of `length.py`.

In: their tokens in flat arrays. Out: which tokens stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from instruct_fmt.types import Bools, Ints

_CONTINUES, _MASK = 0x80, 0xC0


@dataclass(frozen=True, slots=True)
class LongRows:
    """Rows that are too long: row i has the tokens `offsets[i]:offsets[i + 1]`.

    Attributes:
        text: the bytes of all rows.
        starts, ends: where each token stands in them.
        trained: one flag for each token.
        offsets: an entry more than rows.
        removable: text of the prompts that may be cut into, in bytes, in order; shape (ranges, 2).
    """

    text: npt.NDArray[np.uint8]
    starts: Ints
    ends: Ints
    trained: Bools
    offsets: Ints
    removable: Ints

    @property
    def rows(self) -> Ints:
        """The row of each token."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def begins(self) -> Bools:
        """Which tokens begin with a character, not inside of one."""
        inner = self.starts < len(self.text)
        found = np.ones(len(self.starts), np.bool_)
        found[inner] = (self.text[self.starts[inner]] & _MASK) != _CONTINUES
        return found


def first_tokens(rows: LongRows, max_length: int) -> Bools:
    """The first `max_length` tokens of each row, fewer where the cut would fall inside a character."""
    begins, first = rows.begins(), rows.offsets[:-1]
    kept = np.full(len(first), max_length)
    while (inside := ~begins[first + kept] & (kept > 0)).any():
        kept -= inside
    stays: Bools = np.arange(len(rows.starts)) < (first + kept)[rows.rows]
    return stays


def without_prompts(rows: LongRows, max_length: int) -> tuple[Bools, Bools]:
    """Every token but the oldest ones inside removable text, as many as are too much; for each row whether they are
    enough."""
    row = rows.rows
    inside: Bools = ~rows.trained & (rows.starts < rows.ends)
    if len(rows.removable):
        at = np.searchsorted(rows.removable[:, 0], rows.starts, side="right") - 1
        inside &= (at >= 0) & (rows.ends <= rows.removable[np.maximum(at, 0), 1])
    else:
        inside[:] = False
    number: Ints = np.cumsum(rows.begins())  # tokens of one character have one number
    inside &= ~_has(number, ~inside)
    excess = np.diff(rows.offsets) - max_length
    before = np.concatenate([[0], np.cumsum(inside)])
    first = before[rows.offsets[:-1]]
    oldest: Bools = inside & (before[1:] - first[row] <= excess[row])
    return ~(inside & _has(number, oldest)), before[rows.offsets[1:]] - first >= excess


def _has(number: Ints, chosen: Bools) -> Bools:
    """For each token whether one with its number is chosen."""
    found = np.zeros(int(number[-1]) + 1 if len(number) else 1, np.bool_)
    found[number[chosen]] = True
    there: Bools = found[number]
    return there
