"""Which rows of several datasets make a result, and in which order.

In: how many rows each dataset has, and how they are to be mixed. Out: numbers of rows, in order; a row may be there
more than once. The same seed gives the same rows on any machine and with any NumPy: of the generator only the raw
numbers are used, which never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Literal

import numpy as np
import numpy.typing as npt

from instruct_fmt.common.ragged import offsets_of
from instruct_fmt.types import Bools, Ints

Interleave = Literal["first_exhausted", "all_exhausted"]


def shuffled(count: int, seed: int, *purpose: int) -> Ints:
    """The numbers below `count` in a random order, another one for each purpose.

    >>> sorted(shuffled(5, 7).tolist()), shuffled(5, 7).tolist() == shuffled(5, 7).tolist()
    ([0, 1, 2, 3, 4], True)
    """
    raw = np.random.PCG64(np.random.SeedSequence([seed, *purpose])).random_raw(count)
    found: Ints = np.argsort(np.asarray(raw, np.uint64), kind="stable")
    return found


def apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """`total` in parts as these weights are, each within one of its exact share: the largest remainders are rounded up.

    >>> apportioned(10, [1, 1, 1])
    [4, 3, 3]
    """
    exact = [Fraction(weight) for weight in weights]
    shares = [total * weight / sum(exact) for weight in exact]
    found = [floor(share) for share in shares]
    by_remainder = sorted(range(len(found)), key=lambda place: (found[place] - shares[place], place))
    for place in by_remainder[: total - sum(found)]:
        found[place] += 1
    return found


def quotas(sizes: Sequence[int], weights: Sequence[float] | None, interleave: Interleave | None) -> list[int]:
    """How many rows each dataset gives.

    Args:
        sizes: how many rows each dataset has, its epochs counted.
        weights: how many rows of each are wanted for how many of the others; None for as many of each.
        interleave: whether the first dataset that is used up ends the mix, or the last one, the others repeated; None
            takes all rows, whatever the weights.

    >>> quotas([100, 30], [2, 1], "first_exhausted"), quotas([100, 30], [2, 1], "all_exhausted")
    ([60, 30], [100, 50])
    """
    if interleave is None:
        return list(sizes)
    exact = [Fraction(weight) for weight in weights or [1] * len(sizes)]
    totals = [size * sum(exact) / weight for size, weight in zip(sizes, exact, strict=True)]
    total = floor(min(totals)) if interleave == "first_exhausted" else ceil(max(totals))
    return apportioned(total, [float(weight) for weight in exact])


def taken_rows(size: int, count: int, *, seed: int | None, purpose: int = 0) -> Ints:
    """`count` of `size` rows: whole passes through them, and a part of one; each in an order of its own with a seed.

    >>> taken_rows(3, 7, seed=None).tolist()
    [0, 1, 2, 0, 1, 2, 0]
    """
    passes = -(-count // size) if size else 0
    if seed is None:
        return np.tile(np.arange(size, dtype=np.int64), passes)[:count]
    found = [shuffled(size, seed, purpose, number) for number in range(passes)]
    return np.concatenate([np.zeros(0, np.int64), *found])[:count]


def evenly(counts: Sequence[int]) -> Ints:
    """The order in which parts of these sizes are spread evenly through one another, as numbers of their rows, the
    parts counted one behind the other.

    >>> evenly([4, 2]).tolist()
    [0, 4, 1, 2, 5, 3]
    """
    places = [(np.arange(count) + 0.5) / count for count in counts if count]
    found: Ints = np.argsort(np.concatenate([np.zeros(0), *places]), kind="stable")
    return found


def together(*keys: npt.NDArray[np.generic]) -> Ints:
    """For each row the first one that it belongs with: rows with an equal key do, and rows that both belong with a
    third.

    >>> together(np.array([1, 1, 2, 3]), np.array([7, 8, 8, 9])).tolist()
    [0, 0, 0, 3]
    """
    numbered = [np.unique(key, return_inverse=True)[1].reshape(-1) for key in keys]
    found: Ints = np.arange(len(numbered[0]))
    while True:
        before = found
        for number in numbered:
            least = np.full(number.max(initial=-1) + 1, len(found))
            np.minimum.at(least, number, found)
            found = least[number]
        if np.array_equal(found, before):
            return found


def held_out(groups: Ints, parts: Sequence[int], wanted: int | float, seed: int) -> Bools:
    """The rows that are kept for validation, as many of each part as is its share; a group stays whole.

    Args:
        groups: for each row the first one that it belongs with; shape (rows,).
        parts: how many rows each part has, one behind the other.
        wanted: a number of rows, or a share of them below 1.
        seed: which ones.
    """
    size = len(groups)
    total = floor(Fraction(wanted).limit_denominator(10**9) * size + Fraction(1, 2)) if wanted < 1 else int(wanted)
    kept = np.zeros(size, np.bool_)
    first, counts = np.unique(groups, return_counts=True)
    offsets = offsets_of(np.asarray(parts, np.int64))
    missing = 0
    for part, share in enumerate(apportioned(min(total, size), parts)):
        here = np.flatnonzero((first >= offsets[part]) & (first < offsets[part + 1]))
        order = here[shuffled(len(here), seed, part)]
        chosen, left = _up_to(counts[order], share + missing)
        kept |= np.isin(groups, first[order[chosen]])
        missing = left
    return kept


def _up_to(counts: Ints, most: int) -> tuple[Ints, int]:
    """The first groups that have so many rows together, those that would be too many passed over; and what lacks."""
    sums = np.cumsum(counts)
    whole = int(np.searchsorted(sums, most, side="right"))
    chosen, left = list(range(whole)), most - (int(sums[whole - 1]) if whole else 0)
    for place in range(whole, len(counts)):
        if not left:
            break
        if counts[place] <= left:
            chosen.append(place)
            left -= int(counts[place])
    return np.array(chosen, np.int64), left
