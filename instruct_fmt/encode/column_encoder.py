"""Rows that plans rendered to ids and trained flags, all at once.

In: `PlannedRows`, a few groups of them. Out: an `EncodedRows`, flat arrays in the order of the batch, without the rows
that must go one by one: those that hold control tokens of their own, those whose tokens byte lengths cannot place, and
those with nothing to learn.
Their way is `row_encoder.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.common.loss_weights import NO_WEIGHTS, LossWeights
from instruct_fmt.common.ragged import offsets_of, stretches, taken, unfilled
from instruct_fmt.encode.composed import composable, composed
from instruct_fmt.encode.engines.backend import Backend, Flat
from instruct_fmt.encode.flat import EncodedRows, FlatRows, Tokens, bytes_of, only, stretches_of
from instruct_fmt.encode.seam_columns import clean_ends, missing_cuts
from instruct_fmt.tokenizer.vocabulary import Vocabulary
from instruct_fmt.types import Bools, Ints, PlannedRows

BLANK = ord(" ")
# Whether a blank of its own stands in front of a stretch depends on where that begins, and so on those before it.
DUMMY_ROUNDS = 4


class ColumnEncoder:
    """Encodes planned rows.

    Args:
        vocabulary: the tokenizer.
        backend: the engine.
        continued: the engine of a part that continues a row.
        free: added tokens that the model's messages may write; None where rows may write all of them.
        loss: what counts more or less than once.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        backend: Backend,
        continued: Backend,
        free: Collection[int] | None,
        loss: LossWeights = NO_WEIGHTS,
    ) -> None:
        self._loss = loss
        self.vocabulary, self.backend, self._continued = vocabulary, backend, continued
        self._free = None if free is None else np.array(sorted(free), np.int64)
        self._has_empty = vocabulary.has_empty or vocabulary.dummies is not None
        self.able = vocabulary.has_lengths

    def encode(self, groups: Sequence[PlannedRows]) -> EncodedRows:
        """The rows that can be encoded together; the others must be encoded on their own."""
        found, rows = [], FlatRows.of(groups)
        while len(rows.places):
            tokens = self._placed(rows)
            if self._free is not None:
                tokens = self._only(tokens, self._as_written(tokens))
            clean = np.zeros(0, np.bool_)
            if len(tokens.rows.seams.values):
                clean = clean_ends(tokens, self.vocabulary.lengths, self.backend, self._continued)
            cuts, crossed = missing_cuts(tokens.rows.seams, tokens.rows.cuts, clean)
            found.append(self._encoded(self._only(tokens, ~crossed), clean[~crossed[tokens.rows.seams.rows]]))
            again = np.flatnonzero(crossed)
            rows = replace(tokens.rows.take(again), cuts=cuts.take(again))
        return EncodedRows.merged(found).between(rows.ends, rows.eos_weights) if found else EncodedRows.none()

    def _encoded(self, tokens: Tokens, clean: Bools) -> EncodedRows:
        """Rows whose last turns stand behind the ids of their prompts."""
        rows = tokens.rows
        turns: Bools = np.logical_and(clean[::2], clean[1::2])
        left_out = np.bincount(rows.seams.rows[::2][~turns], minlength=len(rows.places))
        first, behind = _tokens_of(tokens, turns)
        filled = first < behind
        trained = _flags(first[filled], behind[filled], len(tokens.ids))
        if self._has_empty:
            trained &= tokens.sizes > 0
        learns = np.array([bool(behind) for _, behind in rows.ends])[rows.groups]
        learns[rows.trained.rows[filled]] = True
        apart = (np.diff(rows.cuts.offsets) > 0) & (np.diff(rows.seams.offsets) > 0)
        weights = self._weights(tokens) if self._loss else None
        if weights is not None:
            trained &= weights != 0
            counted = np.concatenate([[0], np.cumsum(trained)])[tokens.offsets]
            eos = [
                bool(behind) and weight != 0 for (_, behind), weight in zip(rows.ends, rows.eos_weights, strict=True)
            ]
            learns = (np.diff(counted) > 0) | np.array(eos)[rows.groups]
        encoded = EncodedRows(
            tokens.ids, tokens.sizes, trained, tokens.offsets, rows.places, rows.groups, left_out, apart, weights
        )
        return only(encoded, learns)

    def _weights(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """What each id counts: by the last part that it touches, and over that by the last match of a pattern.

        Added tokens are one thing, whatever their text: they count as the part, or the match, in which they begin.
        """
        rows, found = tokens.rows, np.ones(len(tokens.ids), np.float32)
        parts = rows.weighted.values[:, :2] + rows.starts[rows.weighted.rows][:, None]
        values = np.array(rows.weights, np.float32)[rows.weighted.values[:, 2]]
        if self._loss.patterns:
            matched, others = _matched(self._loss, rows)
            parts, values = np.concatenate([parts, matched]), np.concatenate([values, others])
        _paint(found, tokens, parts, values)
        control = self.vocabulary.shown(tokens.ids)
        begins = tokens.ends[control] - self.vocabulary.lengths(tokens.ids[control])
        found[control] = _beginning_in(begins, parts, values)
        return found

    def _placed(self, rows: FlatRows) -> Tokens:
        """The rows whose ids stand for as many bytes as each piece of them has, with their ids."""
        starts = edges = rows.starts
        pieces = np.arange(len(starts))
        if len(rows.cuts.values):
            cuts = rows.cuts.values + starts[rows.cuts.rows]
            edges = np.append(np.sort(np.concatenate([starts[:-1], cuts])), starts[-1])
            pieces = pieces + rows.cuts.offsets
        ids, offsets = self._ids(stretches_of(rows.texts, edges), pieces)
        sizes = self._sizes(rows, ids, offsets, pieces)
        sums = _sums(sizes, int(starts[-1]))
        fits = np.diff(sums[offsets]) == np.diff(edges)
        right = np.logical_and.reduceat(fits, pieces[:-1]) & self._unchanged(rows)
        if self._has_empty and len(rows.seams.values):  # an id of no byte has no place
            nothing = np.flatnonzero(np.diff(sums) == 0)
            right[np.searchsorted(offsets[pieces], nothing, side="right") - 1] = False
        return self._only(Tokens(rows, ids, offsets[pieces], sizes, sums[1:]), right)

    def _ids(self, stretches: pa.Array, pieces: Ints) -> Flat:
        """The ids of stretches; `pieces` are the numbers of those that begin a row, and how many there are."""
        if self._continued is self.backend or len(pieces) == len(stretches) + 1:
            return self.backend.encode(stretches)
        begins = np.zeros(len(stretches), np.bool_)
        begins[pieces[:-1]] = True
        found = [
            engine.encode(stretches.filter(pa.array(mask)))
            for engine, mask in ((self.backend, begins), (self._continued, ~begins))
        ]
        ids = np.concatenate([ids for ids, _ in found])
        offsets = offsets_of(np.concatenate([np.diff(offsets) for _, offsets in found]))
        order = np.empty(len(stretches), np.int64)
        order[np.concatenate([np.flatnonzero(begins), np.flatnonzero(~begins)])] = np.arange(len(stretches))
        places, offsets = taken(offsets, order)
        return ids[places], offsets

    def _sizes(self, rows: FlatRows, ids: npt.NDArray[np.int32], offsets: Ints, pieces: Ints) -> Ints:
        """The bytes that each id stands for, less the blanks that the engine writes of its own.

        Args:
            rows: the rows.
            ids, offsets: the ids of stretches.
            pieces: the numbers of the stretches that begin a row, and how many there are.
        """
        sizes, dummies = self.vocabulary.lengths(ids), self.vocabulary.dummies
        if dummies is None or not len(ids):
            return sizes
        begins = np.zeros(len(offsets) - 1, np.bool_)
        begins[pieces[:-1]] = offsets[pieces[:-1]] < offsets[pieces[:-1] + 1]
        added, stops = np.zeros(len(ids) + 1, np.bool_), np.zeros(len(ids) + 1, np.bool_)
        added[self.vocabulary.shown(ids)], stops[offsets[1:]] = True, True
        behind = np.flatnonzero(added[:-1] & np.repeat(begins, np.diff(offsets))) + 1
        first, behind = offsets[:-1][begins], behind[~stops[behind]]
        places = np.concatenate([first, behind])
        kinds = np.repeat([0, 1], [len(first), len(behind)])[~added[places]]
        places = places[~added[places]]
        more = np.array(dummies, np.int64)  # by where, and by whether a blank follows
        extra, data = more[kinds, 0], bytes_of(rows.texts)[0]
        found: Ints = sizes.astype(np.int64)
        for _ in range(DUMMY_ROUNDS):
            found = sizes.astype(np.int64)
            found[places] -= extra
            at = np.concatenate([[0], np.cumsum(found)])[places]
            blank = data[np.minimum(at, max(len(data) - 1, 0))] == BLANK
            better = more[kinds, blank.astype(np.int64)]
            if np.array_equal(better, extra):
                break
            extra = better
        return found

    def _only(self, tokens: Tokens, right: Bools) -> Tokens:
        """The rows that are right."""
        if right.all():
            return tokens
        chosen = np.flatnonzero(right)
        places, offsets = taken(tokens.offsets, chosen)
        rows, ids, sizes = tokens.rows.take(chosen), tokens.ids[places], tokens.sizes[places]
        return Tokens(rows, ids, offsets, sizes, _sums(sizes, int(rows.starts[-1]))[1:])

    def _as_written(self, tokens: Tokens) -> Bools:
        """Rows whose control tokens are the template's own, these ids at these places, and such as a row may write."""
        rows = tokens.rows
        found = self.vocabulary.shown(tokens.ids)
        at, ids = tokens.ends[found], tokens.ids[found]
        wanted_at = rows.control.values[:, 0] + rows.starts[rows.control.rows]
        wanted = rows.control.values[:, 1]
        if np.array_equal(at, wanted_at) and np.array_equal(ids, wanted):
            return np.ones(len(rows.places), np.bool_)
        right = np.ones(len(rows.places), np.bool_)
        place = np.minimum(np.searchsorted(at, wanted_at), max(len(at) - 1, 0))
        there = (at[place] == wanted_at) & (ids[place] == wanted) if len(at) else np.zeros(len(wanted), np.bool_)
        right[rows.control.rows[~there]] = False
        others = np.ones(len(at), np.bool_)
        others[place[there]] = False
        others[others] = ~self._may_write(tokens, at[others], ids[others])
        right[np.searchsorted(tokens.offsets, found[others], side="right") - 1] = False
        return right

    def _may_write(self, tokens: Tokens, at: Ints, ids: npt.NDArray[np.int32]) -> Bools:
        """For each of some control tokens, which end here, whether it is one that a row may write, where it may."""
        assert self._free is not None
        spoken = tokens.rows.spoken.values + tokens.rows.starts[tokens.rows.spoken.rows][:, None]
        if not len(spoken):
            return np.zeros(len(at), np.bool_)
        starts = at - self.vocabulary.lengths(ids)
        number = np.maximum(np.searchsorted(spoken[:, 0], starts, side="right") - 1, 0)
        inside: Bools = (spoken[number, 0] <= starts) & (at <= spoken[number, 1])
        return inside & np.isin(ids, self._free)

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


def _paint(weights: npt.NDArray[np.float32], tokens: Tokens, ranges: Ints, values: npt.NDArray[np.float32]) -> None:
    """Give the ids that touch ranges of bytes their weights, the later ones over the earlier."""
    filled = ranges[:, 0] < ranges[:, 1]
    left, right = ranges[filled].astype(tokens.ends.dtype).T
    first = np.searchsorted(tokens.ends, left, side="right")
    behind = np.minimum(np.searchsorted(tokens.ends, right, side="left") + 1, len(weights))
    places, _ = stretches(first, behind)
    weights[places] = np.repeat(values[filled], behind - first)


def _beginning_in(begins: Ints, ranges: Ints, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The weights of ids that begin at these places, by the last range in which each does."""
    found = np.ones(len(begins), np.float32)
    first, behind = (np.searchsorted(begins, ranges[:, side]) for side in (0, 1))
    places, _ = stretches(first, np.maximum(behind, first))
    found[places] = np.repeat(values, np.maximum(behind - first, 0))
    return found


def _matched(loss: LossWeights, rows: FlatRows) -> tuple[Ints, npt.NDArray[np.float32]]:
    """What patterns match in the trained text of rows: ranges in bytes, pattern by pattern in each, and weights."""
    data, starts = bytes_of(rows.texts)
    found: list[tuple[int, int, float]] = []
    ranges = rows.trained.values[:, :2] + starts[rows.trained.rows][:, None]
    ranges = ranges[rows.trained.values[:, 2] >= -1]  # an appended EOS is no text of the row
    for left, right in ranges.tolist():
        text = data[left:right].tobytes().decode()
        for start, end, weight in loss.matched(text):
            begin = left + len(text[:start].encode())
            found.append((begin, begin + len(text[start:end].encode()), weight))
    edges = np.array([part[:2] for part in found], np.int64).reshape(-1, 2)
    return edges, np.array([part[2] for part in found], np.float32)


def _sums(sizes: Ints, size: int) -> Ints:
    """The bytes in front of each id, and behind the last; `size` is how many they should be."""
    sums = unfilled(len(sizes) + 1, np.int32 if 2 * size <= np.iinfo(np.int32).max else np.int64)
    sums[0] = 0
    np.cumsum(sizes, out=sums[1:], dtype=sums.dtype)
    return sums


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
