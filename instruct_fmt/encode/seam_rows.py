"""Whether a text's ids break where a server's do.

In: a part of a row's text with its ids, and a place in it. Out: whether the ids in front of the place are those of the
text in front of it. The place is *clean* then: a prompt that ends there has these ids, whatever follows.

Added tokens cut a text apart before anything else does, so that only the stretch since the last one
matters. The same for whole columns is `seam_columns.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from instruct_fmt.encode.control import Occurrence
from instruct_fmt.types import Ints


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a row's text that is encoded in one piece.

    Attributes:
        start: where it begins in the row's text, in characters.
        text: the stretch.
        continues: whether it goes on from text in front of it; no dummy prefix then.
        forbidden: stretches of it that look like control tokens and are ordinary text.
        safely: whether it goes through the engine that keeps control tokens apart, `forbidden` or not.
    """

    start: int
    text: str
    continues: bool
    forbidden: tuple[Occurrence, ...] = ()
    safely: bool = False

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    def cut(self, start: int, end: int, *, continues: bool) -> Part:
        """A stretch of it."""
        inside = [(a - start, b - start, id) for a, b, id in self.forbidden if start <= a and b <= end]
        return Part(self.start + start, self.text[start:end], continues, tuple(inside), self.safely)


@dataclass(frozen=True, slots=True)
class Placed:
    """A part with its ids.

    Attributes:
        part: the part.
        ids: int32.
        starts, ends: where each id begins and ends, from the part's start; a control token ends where it begins,
            because it may swallow blanks.
        in_bytes: whether they count bytes instead of characters.
        control: the places of control tokens among the ids.
    """

    part: Part
    ids: npt.NDArray[np.int32]
    starts: Ints
    ends: Ints
    in_bytes: bool
    control: Ints

    def units(self, at: int) -> int:
        """A place in the part's text as the ids count."""
        return len(self.part.text[:at].encode()) if self.in_bytes else at

    def characters(self, at: int) -> int:
        """The other way round."""
        return len(self.part.text.encode()[:at].decode()) if self.in_bytes else at


def is_clean(placed: Placed, cut: int, encode: Callable[[Part], Sequence[int]]) -> bool:
    """Whether the ids in front of `cut`, a place in the row's text, are those of the text in front of it.

    Args:
        placed: the part that the place lies in.
        cut: the place, in characters of the row.
        encode: encodes a part as if nothing followed it.
    """
    part, at = placed.part, cut - placed.part.start
    if not 0 < at < len(part.text):
        return True
    place = placed.units(at)
    before = int(np.searchsorted(placed.starts, place, side="left"))
    if before and placed.ends[before - 1] > place:
        return False
    known = int(np.searchsorted(placed.control, before, side="left"))
    # A stretch that begins with an added token needs nothing in front of it; the first one is as its part is.
    first = int(placed.control[known - 1]) if known else 0
    start = placed.characters(int(placed.starts[first])) if known else 0
    alone = encode(part.cut(start, at, continues=part.continues and not known))
    return bool(placed.ids[first:before].tolist() == list(alone))
