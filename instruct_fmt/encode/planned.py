"""Rows that plans rendered to ids and trained flags, all at once.

In: `PlannedRows`, a few groups of them. Out: an `EncodedRows`, flat arrays in the order of the batch, without the rows
that must go one by one: those that hold control tokens of their own, those whose tokens byte lengths cannot place, and
those with nothing to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.encode.backends import Backend
from instruct_fmt.encode.ragged import Ragged, taken
from instruct_fmt.encode.vocabulary import Vocabulary
from instruct_fmt.types import Bools, Ints, PlannedRows

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
        found: Ints = np.frombuffer(self.texts.buffers()[1], np.int64)[self.texts.offset :][: len(self.texts) + 1]
        return found


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Rows with their ids, and where each id ends in the buffer of texts, in bytes.

    `index` is `ids` once more, as NumPy wants it for a look-up: it would be made anew for each.
    """

    rows: _Rows
    ids: npt.NDArray[np.int32]
    index: npt.NDArray[np.intp]
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
        ids, ends = tokens.ids, tokens.ends
        first, behind = _tokens_of(tokens.rows, ends)
        filled = first < behind
        steps = np.zeros(len(ids) + 1, np.int8)
        np.add.at(steps, first[filled], 1)
        np.add.at(steps, behind[filled], -1)
        trained = np.cumsum(steps[:-1], dtype=np.int8) > 0  # two ranges may share a token
        if self.vocabulary.has_empty:
            trained &= self.vocabulary.lengths(tokens.index) > 0
        learns = np.zeros(len(tokens.rows.places), np.bool_)
        learns[tokens.rows.trained.rows[filled]] = True
        return only(EncodedRows(ids, trained, tokens.offsets, tokens.rows.places, tokens.rows.groups), learns)

    def _placed(self, rows: _Rows) -> _Tokens:
        """The rows whose ids stand for as many bytes as each piece of them has, with their ids."""
        starts = edges = rows.starts
        pieces = np.arange(len(starts))
        if self._split and len(rows.cuts.values):
            cuts = rows.cuts.values + starts[rows.cuts.rows]
            edges = np.append(np.sort(np.concatenate([starts[:-1], cuts])), starts[-1])
            pieces = pieces + rows.cuts.offsets
        ids, offsets = self.backend.encode(_pieces(rows.texts, edges))
        index = ids.astype(np.intp)
        sums = self._sums(index, starts)
        fits = np.diff(sums[offsets]) == np.diff(edges)
        right = np.logical_and.reduceat(fits, pieces[:-1]) & self._unchanged(rows)
        return self._only(_Tokens(rows, ids, index, offsets[pieces], sums[1:]), right)

    def _sums(self, ids: npt.NDArray[np.intp], starts: Ints) -> Ints:
        """The bytes in front of each id, counted from the first text's beginning, and behind the last."""
        kind = np.int32 if starts[-1] <= np.iinfo(np.int32).max else np.int64
        sums: npt.NDArray[Any] = np.empty(len(ids) + 1, kind)
        sums[0] = starts[0]
        lengths = self.vocabulary.lengths(ids)
        if len(ids):
            lengths[0] += starts[0]
        np.cumsum(lengths, out=sums[1:], dtype=sums.dtype)
        return sums

    def _only(self, tokens: _Tokens, right: Bools) -> _Tokens:
        """The rows that are right."""
        if right.all():
            return tokens
        chosen = np.flatnonzero(right)
        places, offsets = taken(tokens.offsets, chosen)
        rows, index = tokens.rows.take(chosen), tokens.index[places]
        return _Tokens(rows, tokens.ids[places], index, offsets, self._sums(index, rows.starts)[1:])

    def _as_written(self, tokens: _Tokens) -> Bools:
        """Rows whose control tokens are the template's own: these ids at these places, and no others."""
        rows = tokens.rows
        found = np.flatnonzero(self.vocabulary.shows(tokens.index))
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
        composes = type(normalizer).__name__ == "NFC"
        suspects = _composable(rows) if composes else _beyond_ascii(rows)
        if len(suspects):
            found = rows.texts.take(pa.array(suspects))
            if composes:
                right[suspects] = pc.equal(pc.utf8_normalize(found, "NFC"), found).to_numpy(zero_copy_only=False)
            else:
                right[suspects] = [normalizer.normalize_str(text) == text for text in found.to_pylist()]
        return right


def _tokens_of(rows: _Rows, ends: Ints) -> tuple[Ints, Ints]:
    """For each trained range its first token, and the one behind its last."""
    ranges = (rows.trained.values + rows.starts[rows.trained.rows][:, None]).astype(ends.dtype)
    first = np.searchsorted(ends, ranges[:, 0], side="right")
    # A token begins where the one before it ends.
    behind = np.minimum(np.searchsorted(ends, ranges[:, 1], side="left") + 1, len(ends))
    return first, np.where(ranges[:, 0] < ranges[:, 1], behind, first)


def only(rows: EncodedRows, right: Bools) -> EncodedRows:
    """Some of the rows."""
    if right.all():
        return rows
    chosen = np.flatnonzero(right)
    places, offsets = taken(rows.offsets, chosen)
    return EncodedRows(rows.ids[places], rows.trained[places], offsets, rows.places[chosen], rows.groups[chosen])


def _bytes(rows: _Rows) -> tuple[npt.NDArray[np.uint8], int]:
    """The text of all rows, and where it begins in their buffer."""
    starts = rows.starts
    return np.frombuffer(rows.texts.buffers()[2] or b"", np.uint8)[starts[0] : starts[-1]], int(starts[0])


def _beyond_ascii(rows: _Rows) -> Ints:
    found: Ints = np.flatnonzero(~pc.string_is_ascii(rows.texts).to_numpy(zero_copy_only=False))
    return found


def _composable(rows: _Rows) -> Ints:
    """Rows that NFC may make longer in a place: they hold a character neither below U+0300 nor among punctuation."""
    text, start = _bytes(rows)
    places = np.flatnonzero(text >= _COMBINING)
    second = text[np.minimum(places + 1, len(text) - 1)]
    places = places[(text[places] != _PUNCTUATION) | (second == _FORKING)]
    return np.unique(np.searchsorted(rows.starts, places + start, side="right") - 1)


def _pieces(texts: pa.Array, edges: Ints) -> pa.Array:
    """The pieces of all rows, in order, over the same buffer."""
    buffers = texts.buffers()
    return pa.Array.from_buffers(pa.large_string(), len(edges) - 1, [None, pa.py_buffer(edges), buffers[2]])
