"""The characters that ids stand for.

In: a text in UTF-8 and the bytes of each id. Out: `Characters`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from instruct_fmt.types import Ints

_CONTINUES, _MASK = 0x80, 0xC0


@dataclass(frozen=True, slots=True)
class Characters:
    """The places of ids in a text, in characters, half-open; ids of one character share it.

    Attributes:
        starts, ends: int64; shape (ids,).
    """

    starts: Ints
    ends: Ints


def spans_of_bytes(text: bytes, sizes: Ints) -> Characters:
    """The characters of ids that stand for so many bytes each, which together are the text's.

    >>> found = spans_of_bytes("é!".encode(), np.array([1, 1, 1]))
    >>> found.starts.tolist(), found.ends.tolist()
    ([0, 0, 1], [1, 1, 2])
    """
    number = characters_of_bytes(text)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    first = number[starts]
    return Characters(first, np.where(sizes > 0, number[np.maximum(ends - 1, 0)] + 1, first))


def characters_of_bytes(text: bytes) -> Ints:
    """The character that each byte belongs to, and how many there are; int64, shape (bytes + 1,)."""
    raw: npt.NDArray[np.uint8] = np.frombuffer(text, np.uint8)
    begins = (raw & _MASK) != _CONTINUES
    return np.append(np.cumsum(begins) - 1, np.count_nonzero(begins)).astype(np.int64)
