"""Columns of text in Unicode's composed form, NFC, where a tokenizer makes that of all text anyway."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_COMBINING = 0xCC
"""No character below U+0300, whose bytes begin with this one, is changed by NFC unless such a one follows."""
_SIGNS, _SPACES, _QUOTES = 0xE2, 0x80, 0x82
"""Most punctuation beyond ASCII is U+2002 to U+203F, and stays as it is."""


def composed_column(column: pa.Array) -> pa.Array:
    """The texts in NFC; the same array where all of them are.

    >>> composed_column(pa.array(["e\\u0301", "e"], pa.large_string())).to_pylist() == ["\\u00e9", "e"]
    True
    """
    rows = _suspects(column)
    if not len(rows):
        return column
    chosen = column.take(pa.array(rows))
    made = pc.utf8_normalize(chosen, "NFC")
    if made.equals(chosen):
        return column
    mask = np.zeros(len(column), np.bool_)
    mask[rows] = True
    return pc.replace_with_mask(column, mask, made)


def _suspects(column: pa.Array) -> npt.NDArray[np.int64]:
    """Rows with a character that NFC may change, or join to the one in front."""
    edges = np.frombuffer(column.buffers()[1], np.int64)[column.offset :][: len(column) + 1]
    data = column.buffers()[2]
    if data is None or edges[0] == edges[-1]:
        return np.zeros(0, np.int64)
    text = np.frombuffer(data, np.uint8)[edges[0] : edges[-1]]
    places = np.flatnonzero(text >= _COMBINING)
    second, third = (text[np.minimum(places + by, len(text) - 1)] for by in (1, 2))
    quotes = (text[places] == _SIGNS) & (second == _SPACES) & (third >= _QUOTES)
    return np.unique(np.searchsorted(edges - edges[0], places[~quotes], side="right") - 1)
