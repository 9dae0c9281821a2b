"""Rows that plans rendered to ids and trained flags, all at once.

In: `PlannedRows`, a few groups of them. Out: an `EncodedRows`, flat arrays in the order of the batch, without the rows
that must go one by one: those that hold control tokens of their own, those whose tokens byte lengths cannot place, and
those with nothing to learn.
Their way is `row_encoder.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.encode.composed import composable, composed
from instruct_fmt.encode.engines.backend import Backend
from instruct_fmt.encode.flat import EncodedRows, FlatRows, Tokens, only, stretches_of
from instruct_fmt.encode.ragged import taken, unfilled
from instruct_fmt.encode.seam_columns import clean_ends, missing_cuts
from instruct_fmt.tokenizer.vocabulary import Vocabulary
from instruct_fmt.types import Bools, Ints, PlannedRows


class ColumnEncoder:
    """Encodes planned rows.

    Args:
        vocabulary: the tokenizer.
        backend: the engine.
        guarded: whether rows must not write control tokens.
    """

    def __init__(self, vocabulary: Vocabulary, backend: Backend, *, guarded: bool) -> None:
        self.vocabulary, self.backend = vocabulary, backend
        self._guarded = guarded
        self._continues = vocabulary.continuation is vocabulary.backend  # the engine of a text is that of its parts
        self.able = vocabulary.has_lengths

    def encode(self, groups: Sequence[PlannedRows]) -> EncodedRows:
        """The rows that can be encoded together; the others must be encoded on their own."""
        found, rows = [], FlatRows.of(groups)
        while len(rows.places):
            tokens = self._placed(rows)
            if self._guarded:
                tokens = self._only(tokens, self._as_written(tokens))
            clean = np.zeros(0, np.bool_)
            if len(tokens.rows.seams.values):
                clean = clean_ends(tokens, self.vocabulary.lengths, self.backend)
            cuts, crossed = missing_cuts(tokens.rows.seams, tokens.rows.cuts, clean)
            found.append(self._encoded(self._only(tokens, ~crossed), clean[~crossed[tokens.rows.seams.rows]]))
            again = np.flatnonzero(crossed)
            rows = replace(tokens.rows.take(again), cuts=cuts.take(again))
        return EncodedRows.merged(found) if found else EncodedRows.none()

    def _encoded(self, tokens: Tokens, clean: Bools) -> EncodedRows:
        """Rows whose last turns stand behind the ids of their prompts."""
        rows = tokens.rows
        turns: Bools = np.logical_and(clean[::2], clean[1::2])
        left_out = np.bincount(rows.seams.rows[::2][~turns], minlength=len(rows.places))
        first, behind = _tokens_of(tokens, turns)
        filled = first < behind
        trained = _flags(first[filled], behind[filled], len(tokens.ids))
        if self.vocabulary.has_empty:
            trained &= self.vocabulary.lengths(tokens.ids) > 0
        learns = np.zeros(len(rows.places), np.bool_)
        learns[rows.trained.rows[filled]] = True
        apart = (np.diff(rows.cuts.offsets) > 0) & (np.diff(rows.seams.offsets) > 0)
        encoded = EncodedRows(tokens.ids, trained, tokens.offsets, rows.places, rows.groups, left_out, apart)
        return only(encoded, learns)

    def _placed(self, rows: FlatRows) -> Tokens:
        """The rows whose ids stand for as many bytes as each piece of them has, with their ids."""
        starts = edges = rows.starts
        pieces = np.arange(len(starts))
        if len(rows.cuts.values):
            cuts = rows.cuts.values + starts[rows.cuts.rows]
            edges = np.append(np.sort(np.concatenate([starts[:-1], cuts])), starts[-1])
            pieces = pieces + rows.cuts.offsets
        ids, offsets = self.backend.encode(stretches_of(rows.texts, edges))
        sums = self._sums(ids, int(starts[-1]))
        fits = np.diff(sums[offsets]) == np.diff(edges)
        right = np.logical_and.reduceat(fits, pieces[:-1]) & self._unchanged(rows)
        if self.vocabulary.has_empty and len(rows.seams.values):  # an id of no byte has no place
            nothing = np.flatnonzero(np.diff(sums) == 0)
            right[np.searchsorted(offsets[pieces], nothing, side="right") - 1] = False
        if not self._continues:  # a part of a row wants an engine of its own
            right &= np.diff(rows.cuts.offsets) == 0
        return self._only(Tokens(rows, ids, offsets[pieces], sums[1:]), right)

    def _sums(self, ids: npt.NDArray[np.int32], size: int) -> Ints:
        """The bytes in front of each id, and behind the last; `size` is how many they should be."""
        sums = unfilled(len(ids) + 1, np.int32 if 2 * size <= np.iinfo(np.int32).max else np.int64)
        sums[0] = 0
        np.cumsum(self.vocabulary.lengths(ids), out=sums[1:], dtype=sums.dtype)
        return sums

    def _only(self, tokens: Tokens, right: Bools) -> Tokens:
        """The rows that are right."""
        if right.all():
            return tokens
        chosen = np.flatnonzero(right)
        places, offsets = taken(tokens.offsets, chosen)
        rows, ids = tokens.rows.take(chosen), tokens.ids[places]
        return Tokens(rows, ids, offsets, self._sums(ids, int(rows.starts[-1]))[1:])

    def _as_written(self, tokens: Tokens) -> Bools:
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

    def _unchanged(self, rows: FlatRows) -> Bools:
        """Rows that no normaliser changes so that byte lengths agree by accident: longer here, shorter there."""
        right = np.ones(len(rows.places), np.bool_)
        if not self.vocabulary.normalises:
            return right
        normalizer = self.vocabulary.backend.normalizer
        if type(normalizer).__name__ == "NFC":
            suspects = composable(rows.texts)
            right[suspects] = ~composed(rows.texts.take(pa.array(suspects)))
            return right
        suspects = np.flatnonzero(~pc.string_is_ascii(rows.texts).to_numpy(zero_copy_only=False))
        if len(suspects):
            found = rows.texts.take(pa.array(suspects)).to_pylist()
            right[suspects] = [normalizer.normalize_str(text) == text for text in found]
        return right


def _tokens_of(tokens: Tokens, turns: Bools) -> tuple[Ints, Ints]:
    """For each trained range its first token, and the one behind its last; the same for those of turns left out."""
    ends, rows = tokens.ends, tokens.rows.trained.rows
    starts = tokens.rows.starts
    left, right = (tokens.rows.trained.values[:, :2] + starts[rows][:, None]).astype(ends.dtype).T
    first = np.searchsorted(ends, left, side="right")
    behind = tokens.offsets[rows + 1]  # where a range ends with its row; there are many
    inner = np.flatnonzero(right < starts[rows + 1])
    # A token begins where the one before it ends.
    behind[inner] = np.minimum(np.searchsorted(ends, right[inner], side="left") + 1, len(ends))
    there = left < right
    if not turns.all():
        number = tokens.rows.trained.values[:, 2]
        there[number >= 0] &= turns[(tokens.rows.seams.offsets[rows] // 2 + number)[number >= 0]]
    return first, np.where(there, behind, first)


def _flags(first: Ints, behind: Ints, size: int) -> Bools:
    """So many flags, true in ranges that are not empty and in order; two of them may share a token."""
    edges = np.empty((len(first), 2), np.int64)
    edges[:, 1] = np.maximum.accumulate(behind)
    edges[:, 0] = np.maximum(first, np.concatenate([[0], edges[:-1, 1]])) if len(first) else first
    counts = np.diff(edges.reshape(-1), prepend=0, append=size)
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts)
