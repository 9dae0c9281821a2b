"""Encoded rows in many tables, such as the parts of a run, read where they lie.

In: tables, or the files of the parts. Out: what is to be known of each row, and tables of some of them in any order.
Rows are counted through all tables, in their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from instruct_fmt.common.ragged import offsets_of
from instruct_fmt.emit import UNTRAINED
from instruct_fmt.run.work import Job, Part, data_file, numbers_file
from instruct_fmt.types import Ints

_DIGEST = 16
TOKENS = 4_000_000
"""So many tokens are put together at a time."""


class EncodedTables:
    """Encoded rows of tables, one table behind the other.

    Args:
        tables: tables with `input_ids` and `labels`, lists of int32.
    """

    def __init__(self, tables: Sequence[pa.Table]) -> None:
        self.batches = [batch for table in tables for batch in table.to_batches() if batch.num_rows]
        self._firsts = offsets_of(np.array([batch.num_rows for batch in self.batches], np.int64))

    def __len__(self) -> int:
        return int(self._firsts[-1])

    @cached_property
    def lengths(self) -> Ints:
        """How many tokens each row has; shape (rows,)."""
        found = [np.diff(_offsets(batch)) for batch in self.batches]
        return np.concatenate([np.zeros(0, np.int64), *found])

    @cached_property
    def trained(self) -> Ints:
        """How many of them are trained; shape (rows,)."""
        found = [np.zeros(0, np.int64)]
        for batch in self.batches:
            sums = offsets_of((_values(batch, "labels") != UNTRAINED).astype(np.int64))
            found.append(np.diff(sums[_offsets(batch)]))
        return np.concatenate(found)

    @cached_property
    def texts(self) -> npt.NDArray[np.void]:
        """16 bytes that rows with the same ids share; shape (rows,)."""
        return self._digests(("input_ids",))

    @cached_property
    def contents(self) -> npt.NDArray[np.void]:
        """16 bytes that rows with the same ids and labels share; shape (rows,)."""
        return self._digests(("input_ids", "labels"))

    def _digests(self, names: Sequence[str]) -> npt.NDArray[np.void]:
        found = bytearray()
        for batch in self.batches:
            offsets = _offsets(batch).tolist()
            columns = [_values(batch, name).data for name in names]
            for start, stop in pairwise(offsets):
                digest = hashlib.blake2b(digest_size=_DIGEST)
                for column in columns:
                    digest.update(column[start:stop])
                found += digest.digest()
        return np.frombuffer(bytes(found), np.dtype((np.void, _DIGEST)))

    def tables(self, numbers: Ints) -> Iterator[pa.Table]:
        """Rows in the order asked for, some megabytes at a time."""
        ends = np.cumsum(self.lengths[numbers])
        start = 0
        while start < len(numbers):
            limit = (ends[start - 1] if start else 0) + TOKENS
            stop = max(start + 1, int(np.searchsorted(ends, limit, "right")))
            yield self.take(numbers[start:stop])
            start = stop

    def take(self, numbers: Ints) -> pa.Table:
        """Rows in the order asked for, as one table."""
        of_batch = np.searchsorted(self._firsts, numbers, "right") - 1
        order = np.argsort(of_batch, kind="stable")
        edges = np.searchsorted(of_batch[order], np.arange(len(self.batches) + 1))
        found = []
        for batch, (start, stop) in enumerate(pairwise(edges.tolist())):
            if start < stop:
                here = numbers[order[start:stop]] - self._firsts[batch]
                found.append(self.batches[batch].take(pa.array(here)))
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return pa.Table.from_batches(found).combine_chunks().take(pa.array(back))


class EncodedParts(EncodedTables):
    """Encoded rows of the parts of a run.

    Args:
        job: the run, whose parts are IPC streams and have the numbers of their rows.
        parts: its parts.

    Attributes:
        sources: for each row the number of its dataset; shape (rows,).
        conversations: for each row a number that it shares with those of the same row of its dataset; shape (rows,).
    """

    def __init__(self, job: Job, parts: Sequence[Part]) -> None:
        filled = [part for part in parts if data_file(job.folder, part).exists()]
        tables = [opened(job, part) for part in filled]
        super().__init__(tables)
        of_parts = np.array([part.source for part in filled], np.int64)
        self.sources: Ints = np.repeat(of_parts, [table.num_rows for table in tables])
        numbers = [np.load(numbers_file(job.folder, part)) for part in filled]
        starts = offsets_of(np.array([len(source.dataset) for source in job.sources], np.int64))
        self.conversations: Ints = np.concatenate([np.zeros(0, np.int64), *numbers]) + starts[self.sources]


def opened(job: Job, part: Part) -> pa.Table:
    """The rows of a part, mapped."""
    return pa.ipc.open_stream(pa.memory_map(str(data_file(job.folder, part)))).read_all()


def _offsets(batch: pa.RecordBatch) -> Ints:
    offsets: Ints = batch.column("input_ids").offsets.to_numpy().astype(np.int64)
    return offsets


def _values(batch: pa.RecordBatch, name: str) -> npt.NDArray[np.int32]:
    values: npt.NDArray[np.int32] = batch.column(name).values.to_numpy()
    return values
