"""Texts that NFC may change so that byte lengths add up by accident: longer here, shorter there.

In: texts in one buffer. Out: which of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.encode.flat import bytes_of, stretches_of
from instruct_fmt.types import Bools, Ints

_BEYOND_ASCII = 0x80
# Text of the first code point that a normaliser may join to what is before it, U+0300, begins with this byte.
_COMBINING = 0xCC
# U+2000 to U+2FFF begin with this byte, and none of them has a longer canonical form but U+2ADC.
_PUNCTUATION, _FORKING = 0xE2, 0xAB


def composable(texts: pa.Array) -> Ints:
    """Rows that NFC may make longer in a place."""
    text, edges = bytes_of(texts)
    return np.unique(np.searchsorted(edges, _longer(text), side="right") - 1)


def _longer(text: npt.NDArray[np.uint8]) -> Ints:
    """The places of characters that NFC may make longer: those neither below U+0300 nor among punctuation."""
    places = np.flatnonzero(text >= _COMBINING)
    second = text[np.minimum(places + 1, len(text) - 1)]
    found: Ints = places[(text[places] != _PUNCTUATION) | (second == _FORKING)]
    return found


def composed(texts: pa.Array) -> Bools:
    """For each text whether NFC changes it in a stretch where it may make a character longer.

    What NFC makes of a character depends on its neighbours, but never reaches beyond the next ASCII character, nor
    before the last one.
    """
    text, edges = bytes_of(texts)
    changed = np.zeros(len(texts), np.bool_)
    places, beyond = _longer(text), text >= _BEYOND_ASCII
    turns = np.flatnonzero(beyond[1:] != beyond[:-1])
    cuts = np.union1d(turns + ~beyond[turns + 1], edges)  # the ASCII character in front belongs to a stretch
    stretches = np.unique(np.searchsorted(cuts, places, side="right") - 1)
    found = stretches_of(texts, cuts).take(pa.array(stretches))
    same = pc.equal(pc.utf8_normalize(found, "NFC"), found).to_numpy(zero_copy_only=False)
    changed[np.searchsorted(edges, cuts[stretches[~same]], side="right") - 1] = True
    return changed
