"""Rows that are too long.

In: the ids, the trained flags and the characters of one row. Out: the places of the tokens that stay, or none. A cut
falls between characters: tokens that share one stay together. The twin of `long_rows.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from instruct_fmt.types import Bools, Ints, Range

Overlength = Literal["drop", "drop_turns", "truncate_prompt", "truncate", "error"]


def truncate(starts: Ints, ends: Ints, max_length: int) -> Ints:
    """The first `max_length` tokens, fewer where the cut would fall inside a character.

    What ends an answer stays only if the whole answer does, because the cut removes everything behind it.
    """
    kept = max_length
    while 0 < kept < len(starts) and starts[kept] < ends[kept - 1]:
        kept -= 1
    return np.arange(kept)


def truncate_prompt(
    starts: Ints, ends: Ints, trained: Bools, removable: Sequence[Range], max_length: int
) -> Ints | None:
    """Every token but the oldest ones inside `removable` text, as many as are too much; None if that is not enough.

    Headers, terminators and answers stay, so the format is that of any other row.
    """
    excess = len(starts) - max_length
    inside = ~trained & (starts < ends)
    if len(removable):
        edges = np.asarray(sorted(removable), np.int64)
        at = np.searchsorted(edges[:, 0], starts, side="right") - 1
        inside &= (at >= 0) & (ends <= edges[np.maximum(at, 0), 1])
    else:
        inside[:] = False
    # Tokens of one character have one number; it is free if they all are.
    number = np.concatenate([[0], np.cumsum(starts[1:] >= ends[:-1])])
    inside &= ~np.isin(number, number[~inside])
    free = np.flatnonzero(inside)
    if len(free) < excess:
        return None
    while excess < len(free) and number[free[excess]] == number[free[excess - 1]]:
        excess += 1
    keep = np.ones(len(starts), np.bool_)
    keep[free[:excess]] = False
    return np.flatnonzero(keep)
