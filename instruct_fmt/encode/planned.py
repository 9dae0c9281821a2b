"""Rows that plans rendered to ids and trained flags, all at once.

In: `PlannedRows`, a few groups of them. Out: an `EncodedRows`, flat arrays in the order of the batch, without the rows
that must go one by one: those that hold control tokens of their own, those whose tokens byte lengths cannot place, and
those with nothing to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.encode.backends import Backend
from instruct_fmt.encode.ragged import Ragged, taken, unfilled
from instruct_fmt.encode.vocabulary import Vocabulary
from instruct_fmt.types import Bools, Ints, PlannedRows

_BEYOND_ASCII = 0x80
# Text of the first code point that a normaliser may join to what is before it, U+0300, begins with this byte.
_COMBINING = 0xCC
# U+2000 to U+2FFF begin with this byte, and none of them has a longer canonical form but U+2ADC.
_PUNCTUATION, _FORKING = 0xE2, 0xAB


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Encoded rows: row i is `ids[offsets[i]:offsets[i + 1]]`, and `trained` likewise.

    Attributes:
        ids: int32.
        trained: one flag for each id.
        offsets: int64, an entry more than rows.
        places: the rows' places in their batch, ascending.
        groups: for each row the number of its group.
    """

    ids: npt.NDArray[np.int32]
    trained: Bools
    offsets: Ints
    places: Ints
    groups: Ints


@dataclass(frozen=True, slots=True)
class _Rows:
    """All groups together, in the order of the batch."""

    texts: pa.Array
    trained: Ragged
    cuts: Ragged
    control: Ragged
    places: Ints
    groups: Ints

    @classmethod
    def of(cls, groups: Sequence[PlannedRows]) -> _Rows:
        control = [
            np.stack([rows.control, np.broadcast_to(rows.control_ids, rows.control.shape)], axis=-1) for rows in groups
        ]
        places = np.concatenate([rows.places for rows in groups])
        found = cls(
            pa.concat_arrays([rows.texts for rows in groups]) if len(groups) > 1 else groups[0].texts,
            Ragged.of([rows.trained for rows in groups]),
            Ragged.of([rows.cuts for rows in groups]),
            Ragged.of(control),
            places,
            np.repeat(np.arange(len(groups)), [len(rows.places) for rows in groups]),
        )
        return found if len(groups) == 1 else found.take(np.argsort(places, kind="stable"))

    def take(self, rows: Ints) -> _Rows:
        return _Rows(
            self.texts.take(pa.array(rows)),
            self.trained.take(rows),
            self.cuts.take(rows),
            self.control.take(rows),
            self.places[rows],
            self.groups[rows],
        )

    @property
    def starts(self) -> Ints:
        """Where each text begins in the buffer of texts, and where the last one ends, in bytes."""
        return _bytes(self.texts)[1]


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Rows with their ids, and where each id ends in the buffer of texts, in bytes."""

    rows: _Rows
    ids: npt.NDArray[np.int32]
    offsets: Ints
    ends: Ints


class PlannedEncoder:
    """Encodes planned rows.

    Args:
        vocabulary: the tokenizer.
        backend: the engine.
        guarded: whether rows must not write control tokens.
        split: whether the two sides of a cut are encoded apart.
    """

    def __init__(self, vocabulary: Vocabulary, backend: Backend, *, guarded: bool, split: bool) -> None:
        self.vocabulary, self.backend = vocabulary, backend
        self._guarded, self._split = guarded, split
        self.able = vocabulary.has_lengths and (not split or vocabulary.continuation is vocabulary.backend)

    def encode(self, groups: Sequence[PlannedRows]) -> EncodedRows:
        """The rows that can be encoded together; the others must be encoded on their own."""
        tokens = self._placed(_Rows.of(groups))
        if self._guarded:
            tokens = self._only(tokens, self._as_written(tokens))
        first, behind = _tokens_of(tokens)
        filled = first < behind
        trained = _flags(first[filled], behind[filled], len(tokens.ids))
        if self.vocabulary.has_empty:
            trained &= self.vocabulary.lengths(tokens.ids) > 0
        learns = np.zeros(len(tokens.rows.places), np.bool_)
        learns[tokens.rows.trained.rows[filled]] = True
        rows = tokens.rows
        return only(EncodedRows(tokens.ids, trained, tokens.offsets, rows.places, rows.groups), learns)

    def _placed(self, rows: _Rows) -> _Tokens:
        """The rows whose ids stand for as many bytes as each piece of them has, with their ids."""
        starts = edges = rows.starts
        pieces = np.arange(len(starts))
        if self._split and len(rows.cuts.values):
            cuts = rows.cuts.values + starts[rows.cuts.rows]
            edges = np.append(np.sort(np.concatenate([starts[:-1], cuts])), starts[-1])
            pieces = pieces + rows.cuts.offsets
        ids, offsets = self.backend.encode(_pieces(rows.texts, edges))
        sums = self._sums(ids, int(starts[-1]))
        fits = np.diff(sums[offsets]) == np.diff(edges)
        right = np.logical_and.reduceat(fits, pieces[:-1]) & self._unchanged(rows)
        return self._only(_Tokens(rows, ids, offsets[pieces], sums[1:]), right)

    def _sums(self, ids: npt.NDArray[np.int32], size: int) -> Ints:
        """The bytes in front of each id, and behind the last; `size` is how many they should be."""
        sums = unfilled(len(ids) + 1, np.int32 if 2 * size <= np.iinfo(np.int32).max else np.int64)
        sums[0] = 0
        np.cumsum(self.vocabulary.lengths(ids), out=sums[1:], dtype=sums.dtype)
        return sums

    def _only(self, tokens: _Tokens, right: Bools) -> _Tokens:
        """The rows that are right."""
        if right.all():
            return tokens
        chosen = np.flatnonzero(right)
        places, offsets = taken(tokens.offsets, chosen)
        rows, ids = tokens.rows.take(chosen), tokens.ids[places]
        return _Tokens(rows, ids, offsets, self._sums(ids, int(rows.starts[-1]))[1:])

    def _as_written(self, tokens: _Tokens) -> Bools:
        """Rows whose control tokens are the template's own: these ids at these places, and no others."""
        rows = tokens.rows
        found = self.vocabulary.shown(tokens.ids)
        at, ids = tokens.ends[found], tokens.ids[found]
        wanted_at = rows.control.values[:, 0] + rows.starts[rows.control.rows]
        wanted = rows.control.values[:, 1]
        if np.array_equal(at, wanted_at) and np.array_equal(ids, wanted):
            return np.ones(len(rows.places), np.bool_)
        counts = np.searchsorted(found, tokens.offsets)
        right: Bools = np.diff(counts) == np.diff(rows.control.offsets)
        for row in np.flatnonzero(right).tolist():
            here, there = slice(*counts[row : row + 2]), slice(*rows.control.offsets[row : row + 2])
            right[row] = np.array_equal(at[here], wanted_at[there]) and np.array_equal(ids[here], wanted[there])
        return right

    def _unchanged(self, rows: _Rows) -> Bools:
        """Rows that no normaliser changes so that byte lengths agree by accident: longer here, shorter there."""
        right = np.ones(len(rows.places), np.bool_)
        if not self.vocabulary.normalises:
            return right
        normalizer = self.vocabulary.backend.normalizer
        if type(normalizer).__name__ == "NFC":
            suspects = _composable(rows)
            right[suspects] = ~_composed(rows.texts.take(pa.array(suspects)))
            return right
        suspects = np.flatnonzero(~pc.string_is_ascii(rows.texts).to_numpy(zero_copy_only=False))
        if len(suspects):
            found = rows.texts.take(pa.array(suspects)).to_pylist()
            right[suspects] = [normalizer.normalize_str(text) == text for text in found]
        return right


def _tokens_of(tokens: _Tokens) -> tuple[Ints, Ints]:
    """For each trained range its first token, and the one behind its last."""
    ends, rows = tokens.ends, tokens.rows.trained.rows
    starts = tokens.rows.starts
    left, right = (tokens.rows.trained.values + starts[rows][:, None]).astype(ends.dtype).T
    first = np.searchsorted(ends, left, side="right")
    behind = tokens.offsets[rows + 1]  # where a range ends with its row; there are many
    inner = np.flatnonzero(right < starts[rows + 1])
    # A token begins where the one before it ends.
    behind[inner] = np.minimum(np.searchsorted(ends, right[inner], side="left") + 1, len(ends))
    return first, np.where(left < right, behind, first)


def _flags(first: Ints, behind: Ints, size: int) -> Bools:
    """So many flags, true in ranges that are not empty and in order; two of them may share a token."""
    edges = np.empty((len(first), 2), np.int64)
    edges[:, 1] = np.maximum.accumulate(behind)
    edges[:, 0] = np.maximum(first, np.concatenate([[0], edges[:-1, 1]])) if len(first) else first
    counts = np.diff(edges.reshape(-1), prepend=0, append=size)
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts)


def only(rows: EncodedRows, right: Bools) -> EncodedRows:
    """Some of the rows."""
    if right.all():
        return rows
    chosen = np.flatnonzero(right)
    places, offsets = taken(rows.offsets, chosen)
    return EncodedRows(rows.ids[places], rows.trained[places], offsets, rows.places[chosen], rows.groups[chosen])


def _bytes(texts: pa.Array) -> tuple[npt.NDArray[np.uint8], Ints]:
    """The buffer of texts, and where each begins in it, and the last one ends; no text is cut off before the first."""
    edges: Ints = np.frombuffer(texts.buffers()[1], np.int64)[: len(texts) + 1]
    return np.frombuffer(texts.buffers()[2] or b"", np.uint8)[: edges[-1]], edges


def _composable(rows: _Rows) -> Ints:
    """Rows that NFC may make longer in a place."""
    text, edges = _bytes(rows.texts)
    return np.unique(np.searchsorted(edges, _longer(text), side="right") - 1)


def _longer(text: npt.NDArray[np.uint8]) -> Ints:
    """The places of characters that NFC may make longer: those neither below U+0300 nor among punctuation."""
    places = np.flatnonzero(text >= _COMBINING)
    second = text[np.minimum(places + 1, len(text) - 1)]
    found: Ints = places[(text[places] != _PUNCTUATION) | (second == _FORKING)]
    return found


def _composed(texts: pa.Array) -> Bools:
    """For each text whether NFC changes it in a stretch where it may make a character longer.

    What NFC makes of a character depends on its neighbours, but never reaches beyond the next ASCII character, nor
    before the last one.
    """
    text, edges = _bytes(texts)
    changed = np.zeros(len(texts), np.bool_)
    places, beyond = _longer(text), text >= _BEYOND_ASCII
    turns = np.flatnonzero(beyond[1:] != beyond[:-1])
    cuts = np.union1d(turns + ~beyond[turns + 1], edges)  # the ASCII character in front belongs to a stretch
    stretches = np.unique(np.searchsorted(cuts, places, side="right") - 1)
    found = _pieces(texts, cuts).take(pa.array(stretches))
    same = pc.equal(pc.utf8_normalize(found, "NFC"), found).to_numpy(zero_copy_only=False)
    changed[np.searchsorted(edges, cuts[stretches[~same]], side="right") - 1] = True
    return changed


def _pieces(texts: pa.Array, edges: Ints) -> pa.Array:
    """The pieces of all rows, in order, over the same buffer."""
    buffers = texts.buffers()
    return pa.Array.from_buffers(pa.large_string(), len(edges) - 1, [None, pa.py_buffer(edges), buffers[2]])
