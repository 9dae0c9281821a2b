"""Prepared rows as packed sequences.

In: tables of `input_ids` and `labels`. Out: tables of sequences, with the lengths of the rows in each. No row is split,
and none can see another: the lengths make `position_ids` and `cu_seq_lens`. The first token of a row is trained by
nothing, as ever: in front of it stands another row's end, behind which no server asks for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from instruct_fmt.common.ragged import offsets_of
from instruct_fmt.emit import UNTRAINED_VALUES
from instruct_fmt.errors import DataError
from instruct_fmt.fit.pack import Packs, best_fit
from instruct_fmt.run.encoded import EncodedTables
from instruct_fmt.types import Ints

LENGTHS = "seq_lengths"
TOKENS = 4_000_000
"""So many tokens are put together at a time."""


@dataclass(frozen=True, slots=True)
class Packing:
    """What becomes of rows.

    Attributes:
        lengths: how many tokens each row has.
        packs: which rows make a sequence.
        capacity: how many tokens a sequence may have.
    """

    lengths: Ints
    packs: Packs
    capacity: int

    @property
    def share(self) -> float:
        """How much of the sequences is filled, from 0 to 1."""
        return (
            float(self.lengths[self.packs.rows].sum() / (len(self.packs) * self.capacity)) if len(self.packs) else 0.0
        )


def plan_packing(lengths: Ints, capacity: int, numbers: Ints | None = None) -> Packing:
    """Which rows make a sequence.

    Args:
        lengths: how many tokens each row has; shape (rows,).
        capacity: how many tokens a sequence may have.
        numbers: the rows that are wanted, in their order, some perhaps more than once; None for all of them.

    Raises:
        DataError: a row is longer than a sequence.
    """
    long = np.flatnonzero(lengths > capacity)
    if len(long):
        raise DataError(
            f"row {long[0]}",
            f"{len(long):,} of {len(lengths):,} rows longer than a packed sequence of {capacity:,} tokens, this one of "
            f"{lengths[long[0]]:,}",
            "rows that fit into one",
            f"compile(…, max_length={capacity}), which decides what becomes of them, or pack to {lengths.max()} tokens",
        )
    if numbers is None:
        return Packing(lengths, best_fit(lengths, capacity), capacity)
    packs = best_fit(lengths[numbers], capacity)
    return Packing(lengths, replace(packs, rows=numbers[packs.rows]), capacity)


def packed_features(features: datasets.Features) -> datasets.Features:
    """The columns of sequences of rows with these columns."""
    return datasets.Features({**features, LENGTHS: datasets.List(datasets.Value("int32"))})


def packed(rows: EncodedTables, packing: Packing) -> Iterator[pa.Table]:
    """The sequences, some megabytes at a time."""
    packs = packing.packs
    ends = np.cumsum(packing.lengths[packs.rows])
    start = 0
    while start < len(packs):
        begin = packs.offsets[start]
        limit = (ends[begin - 1] if begin else 0) + TOKENS
        stop = max(start + 1, bisect_right(packs.offsets, int(np.searchsorted(ends, limit, "right"))) - 1)
        yield _sequences(rows, packing, start, stop)
        start = stop


def _sequences(rows: EncodedTables, packing: Packing, start: int, stop: int) -> pa.Table:
    """The sequences from `start` to `stop`."""
    edges = packing.packs.offsets[start : stop + 1]
    chosen = packing.packs.rows[edges[0] : edges[-1]]
    sizes = packing.lengths[chosen]
    found = rows.take(chosen)
    begins, counts = offsets_of(sizes), edges - edges[0]
    columns = {}
    for name in found.column_names:
        values = found.column(name).combine_chunks().values.to_numpy()
        if name in UNTRAINED_VALUES:
            values = values.copy()
            values[begins[:-1][sizes > 0]] = UNTRAINED_VALUES[name]
        columns[name] = _lists(begins[counts], values)
    return pa.table({**columns, LENGTHS: _lists(counts, sizes.astype(np.int32))})


def _lists(offsets: Ints, values: npt.NDArray[Any]) -> pa.Array:
    return pa.ListArray.from_arrays(offsets.astype(np.int32), values)
