"""Many rows in flat arrays: before they are encoded, with their ids, and with their trained flags.

In: `PlannedRows`, a few groups of them. Out: `FlatRows`, `Tokens`, `EncodedRows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from instruct_fmt.common.ragged import Ragged, offsets_of, taken
from instruct_fmt.types import Bools, Ints, PlannedRows


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Encoded rows: row i is `ids[offsets[i]:offsets[i + 1]]`, and `trained` likewise.

    Attributes:
        ids: int32.
        sizes: for each id the bytes of the text that it stands for.
        trained: one flag for each id.
        offsets: int64, an entry more than rows.
        places: the rows' places in their batch, ascending; the rows of one place, in the order of their groups.
        groups: for each row the number of its group.
        left_out: for each row how many of its turns are left out because its ids do not break at their ends.
        apart: for each row whether its last turn is encoded apart from its prompt.
        weights: what each trained id counts in the loss, float32; None where all of them count once.
    """

    ids: npt.NDArray[np.int32]
    sizes: Ints
    trained: Bools
    offsets: Ints
    places: Ints
    groups: Ints
    left_out: Ints
    apart: Bools
    weights: npt.NDArray[np.float32] | None = None

    def take(self, rows: Ints) -> EncodedRows:
        """Some of the rows, in the order asked for."""
        places, offsets = taken(self.offsets, rows)
        return EncodedRows(
            self.ids[places],
            self.sizes[places],
            self.trained[places],
            offsets,
            self.places[rows],
            self.groups[rows],
            self.left_out[rows],
            self.apart[rows],
            None if self.weights is None else self.weights[places],
        )

    def keeping(self, kept: Bools) -> EncodedRows:
        """The same rows with some of their ids; one flag for each."""
        counts = np.concatenate([[0], np.cumsum(kept)])
        ids, sizes, trained = self.ids[kept], self.sizes[kept], self.trained[kept]
        weights = None if self.weights is None else self.weights[kept]
        return replace(self, ids=ids, sizes=sizes, trained=trained, offsets=counts[self.offsets], weights=weights)

    def between(self, ends: Sequence[tuple[Sequence[int], Sequence[int]]], eos_weights: Sequence[float]) -> EncodedRows:
        """The same rows with the ids of their group in front, and others behind, trained, which count so much."""
        if not any(before or behind for before, behind in ends):
            return self
        before, behind = (np.array([len(pair[side]) for pair in ends])[self.groups] for side in (0, 1))
        lengths = np.diff(self.offsets)
        offsets = offsets_of(before + lengths + behind)
        ids, sizes = np.zeros(offsets[-1], np.int32), np.zeros(offsets[-1], self.sizes.dtype)
        trained = np.zeros(offsets[-1], np.bool_)
        places = np.arange(len(self.ids)) + np.repeat(offsets[:-1] + before - self.offsets[:-1], lengths)
        ids[places], sizes[places], trained[places] = self.ids, self.sizes, self.trained
        weights = None if self.weights is None else np.ones(offsets[-1], np.float32)
        if weights is not None:
            weights[places] = self.weights
        for number, (front, back) in enumerate(ends):
            rows = np.flatnonzero(self.groups == number)
            for at, id in enumerate(front):
                ids[offsets[rows] + at] = id
            for at, id in enumerate(back):
                place = offsets[rows + 1] - len(back) + at
                ids[place], trained[place] = id, weights is None or eos_weights[number] != 0
                if weights is not None:
                    weights[place] = eos_weights[number]
        return replace(self, ids=ids, sizes=sizes, trained=trained, offsets=offsets, weights=weights)

    @classmethod
    def none(cls) -> EncodedRows:
        """No rows."""
        none = np.zeros(0, np.int64)
        flags = np.zeros(0, np.bool_)
        return cls(np.zeros(0, np.int32), none, flags, np.zeros(1, np.int64), none, none, none, flags)

    @classmethod
    def merged(cls, parts: Sequence[EncodedRows]) -> EncodedRows:
        """Rows of several encodings, in the order of the batch; rows of one place in the order of their groups."""
        if len(parts) == 1:
            return parts[0]
        found = cls.joined(parts)
        return found.take(np.lexsort((found.groups, found.places)))

    @classmethod
    def joined(cls, parts: Sequence[EncodedRows]) -> EncodedRows:
        """Rows of several encodings, one behind the other."""
        sizes = np.concatenate([np.diff(part.offsets) for part in parts])
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.sizes for part in parts]),
            np.concatenate([part.trained for part in parts]),
            offsets_of(sizes),
            np.concatenate([part.places for part in parts]),
            np.concatenate([part.groups for part in parts]),
            np.concatenate([part.left_out for part in parts]),
            np.concatenate([part.apart for part in parts]),
            _together([part.weights for part in parts], [len(part.ids) for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class FlatRows:
    """All groups together, in the order of the batch.

    Attributes:
        trained: ranges, and the turn of each.
        seams: ends of turns, and the number of the tail in front of each; -1 where a field of the row is in it.
        control: where control tokens end, and their ids.
        spoken: what the model's messages wrote.
        tails: the ids of literal texts.
        ends: for each group the ids that are put in front of a row's, and those behind, which are trained.
        weighted: what of the trained text does not count once, and the number of its weight.
        weights: the weights.
        eos_weights: for each group what an id behind counts.
    """

    texts: pa.Array
    trained: Ragged
    cuts: Ragged
    seams: Ragged
    control: Ragged
    spoken: Ragged
    places: Ints
    groups: Ints
    tails: tuple[tuple[int, ...], ...]
    ends: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    weighted: Ragged
    weights: tuple[float, ...]
    eos_weights: tuple[float, ...]

    @classmethod
    def of(cls, groups: Sequence[PlannedRows]) -> FlatRows:
        control = [
            np.stack([rows.control, np.broadcast_to(rows.control_ids, rows.control.shape)], axis=-1) for rows in groups
        ]
        tails = dict.fromkeys(tail for rows in groups for tail in rows.tails if tail is not None)
        numbers: dict[tuple[int, ...] | None, int] = {None: -1, **{tail: number for number, tail in enumerate(tails)}}
        trained = [_beside(rows.trained, rows.seam_of) for rows in groups]
        weights = {
            weight: number for number, weight in enumerate(sorted({one for rows in groups for one in rows.weights}))
        }
        weighted = [
            _beside(rows.weighted.reshape(len(rows.places), -1, 2), [weights[one] for one in rows.weights])
            for rows in groups
        ]
        seams = [
            _beside(rows.seams.reshape(len(rows.places), len(rows.tails), 1), [numbers[tail] for tail in rows.tails])
            for rows in groups
        ]
        places = np.concatenate([rows.places for rows in groups])
        found = cls(
            pa.concat_arrays([rows.texts for rows in groups]) if len(groups) > 1 else groups[0].texts,
            Ragged.of(trained),
            Ragged.of([rows.cuts for rows in groups]),
            Ragged.of(seams),
            Ragged.of(control),
            Ragged.of([rows.spoken for rows in groups]),
            places,
            np.repeat(np.arange(len(groups)), [len(rows.places) for rows in groups]),
            tuple(tails),
            tuple(rows.ends for rows in groups),
            Ragged.of(weighted),
            tuple(weights),
            tuple(rows.eos_weight for rows in groups),
        )
        return found if len(groups) == 1 else found.take(np.argsort(places, kind="stable"))

    def take(self, rows: Ints) -> FlatRows:
        return FlatRows(
            self.texts.take(pa.array(rows)),
            self.trained.take(rows),
            self.cuts.take(rows),
            self.seams.take(rows),
            self.control.take(rows),
            self.spoken.take(rows),
            self.places[rows],
            self.groups[rows],
            self.tails,
            self.ends,
            self.weighted.take(rows),
            self.weights,
            self.eos_weights,
        )

    @property
    def starts(self) -> Ints:
        """Where each text begins in the buffer of texts, and where the last one ends, in bytes."""
        return bytes_of(self.texts)[1]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Rows with their ids: the bytes that each id stands for, and where it ends in the buffer of texts."""

    rows: FlatRows
    ids: npt.NDArray[np.int32]
    offsets: Ints
    sizes: Ints
    ends: Ints


def only(rows: EncodedRows, right: Bools) -> EncodedRows:
    """Some of the rows."""
    if right.all():
        return rows
    return rows.take(np.flatnonzero(right))


def _together(parts: Sequence[npt.NDArray[np.float32] | None], sizes: Sequence[int]) -> npt.NDArray[np.float32] | None:
    """Weights of several encodings; None where all ids count once."""
    if all(part is None for part in parts):
        return None
    filled = (np.ones(size, np.float32) if part is None else part for part, size in zip(parts, sizes, strict=True))
    return np.concatenate(list(filled))


def _beside(values: Ints, numbers: Ints | Sequence[int]) -> Ints:
    """Values of a group of rows, each with its number; shape (rows, values, … + 1)."""
    column = np.broadcast_to(np.asarray(numbers, np.int64)[:, None], (*values.shape[:2], 1))
    return np.concatenate([values, column], axis=-1)


def bytes_of(texts: pa.Array) -> tuple[npt.NDArray[np.uint8], Ints]:
    """The buffer of texts, and where each begins in it, and the last one ends; no text is cut off before the first."""
    edges: Ints = np.frombuffer(texts.buffers()[1], np.int64)[: len(texts) + 1]
    return np.frombuffer(texts.buffers()[2] or b"", np.uint8)[: edges[-1]], edges


def stretches_of(texts: pa.Array, edges: Ints) -> pa.Array:
    """The pieces of all rows, in order, over the same buffer."""
    buffers = texts.buffers()
    return pa.Array.from_buffers(pa.large_string(), len(edges) - 1, [None, pa.py_buffer(edges), buffers[2]])
