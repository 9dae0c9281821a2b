"""From spans of text to trained tokens, for many rows at once.

In: the start and end of each token, and the trained ranges, on one common axis. Out: one boolean for each token. A
token is trained if it holds a trained byte.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from instruct_fmt.errors import RowError
from instruct_fmt.types import Bools, Ints, Range


def overlaps(starts: Ints, ends: Ints, ranges: Sequence[Range] | Ints) -> Bools:
    """Whether each token `[start, end)` shares a byte with a range; ranges are sorted and apart."""
    edges = np.asarray(ranges, np.int64).reshape(-1, 2)
    if not len(edges):
        return np.zeros(len(starts), np.bool_)
    place = np.searchsorted(edges[:, 0], ends, side="left") - 1
    reach = np.where(place >= 0, edges[np.maximum(place, 0), 1], -1)
    return np.asarray((reach > starts) & (ends > starts))


def byte_ranges(text: str, ranges: Sequence[Range]) -> list[Range]:
    """Ranges in characters as ranges in UTF-8 bytes."""
    if text.isascii():
        return list(ranges)
    found, at, size = [], 0, 0
    for start, end in ranges:
        left = size + len(text[at:start].encode())
        right = left + len(text[start:end].encode())
        found.append((left, right))
        at, size = end, right
    return found


def check_offsets(offsets: Sequence[Range], text: str) -> None:
    """The self-test of a tokenizer's offsets: in order, inside the text, and nothing but blanks left out.

    Raises:
        RowError: the offsets cannot be trusted.
    """
    reached, problem = 0, ""
    previous = 0
    for start, end in offsets:
        if start < previous or end < start or end > len(text):
            problem = f"offsets ({start}, {end}) behind ({previous}, …)"
            break
        if start > reached and not _left_out(text, previous, reached, start):
            problem = f"no token for {text[reached:start][:40]!r}"
            break
        previous, reached = start, max(reached, end)
    if not problem and not _left_out(text, previous, reached, len(text)):
        problem = f"no token for {text[reached:][:40]!r}"
    if problem:
        raise RowError(
            "offsets",
            "$",
            problem,
            "tokens that cover the text in order",
            "the tokenizer changes the text; remove the characters, or use another tokenizer",
        )


def _left_out(text: str, token: int, start: int, end: int) -> bool:
    """Whether no token need cover `[start, end)`: blanks, or characters that a normaliser joins to the token before."""
    gap = text[start:end]
    joined = unicodedata.normalize("NFKC", text[token:end])
    return not gap.strip() or len(joined) < end - token
