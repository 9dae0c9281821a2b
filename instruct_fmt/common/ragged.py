"""Rows of different lengths in flat arrays: row i is `values[offsets[i]:offsets[i + 1]]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from instruct_fmt.types import Ints


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of numbers, or of pairs of them; `values` is flat, `offsets` has an entry more than there are rows."""

    values: Ints
    offsets: Ints

    @classmethod
    def of(cls, groups: Sequence[Ints]) -> Ragged:
        """From groups of rows, one behind the other; the rows of a group are of one length, its second axis."""
        counts = [np.full(len(group), group.shape[1]) for group in groups]
        values = [group.reshape(-1, *group.shape[2:]) for group in groups]
        return cls(np.concatenate(values), offsets_of(np.concatenate(counts)))

    @property
    def rows(self) -> Ints:
        """The row of each value."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def take(self, rows: Ints) -> Ragged:
        """Some of the rows, in the order asked for."""
        places, offsets = taken(self.offsets, rows)
        return Ragged(self.values[places], offsets)


def unfilled(size: int, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array to be filled. Its memory is Arrow's, which is kept when it is freed; NumPy's goes back to the system."""
    dtype = np.dtype(kind)
    return np.frombuffer(pa.allocate_buffer(size * dtype.itemsize), dtype)


def offsets_of(counts: Ints) -> Ints:
    """Offsets of rows of these lengths."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def stretches(first: Ints, behind: Ints) -> tuple[Ints, Ints]:
    """The numbers of stretches, one behind the other, and where each begins among them.

    >>> stretches(np.array([3, 0]), np.array([5, 1]))[0].tolist()
    [3, 4, 0]
    """
    offsets = offsets_of(behind - first)
    return np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], behind - first), offsets


def taken(offsets: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """The places of the values of some rows, in the order asked for, and their offsets."""
    counts = np.diff(offsets)[rows]
    found = offsets_of(counts)
    return np.arange(found[-1]) + np.repeat(offsets[rows] - found[:-1], counts), found
