"""Ids and trained flags to the output table. -100 is written here and nowhere else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from instruct_fmt.common.ragged import unfilled
from instruct_fmt.types import Bools, Ints

UNTRAINED = -100


WEIGHTS = "loss_weights"
UNTRAINED_VALUES = {"labels": UNTRAINED, WEIGHTS: 0}
"""What columns have where nothing is trained."""


def table_of(
    ids: npt.NDArray[np.int32], trained: Bools, offsets: Ints, weights: npt.NDArray[np.float32] | None = None
) -> pa.Table:
    """`input_ids` and `labels`: lists of int32, `labels` a copy of the ids with -100 where nothing is trained.

    With weights also `loss_weights`: lists of float32, what each id counts in the loss, 0 where nothing is trained.
    """
    labels = labels_of(ids, trained)
    columns = {"input_ids": _lists(offsets, ids), "labels": _lists(offsets, labels)}
    if weights is not None:
        columns[WEIGHTS] = _lists(offsets, np.where(trained, weights, np.float32(0)))
    return pa.table(columns)


def labels_of(ids: npt.NDArray[np.int32], trained: Bools) -> npt.NDArray[np.int32]:
    """A copy of the ids with -100 where nothing is trained."""
    labels = unfilled(len(ids), np.int32)
    labels.fill(UNTRAINED)
    np.copyto(labels, ids, where=trained)
    return labels


def empty_table(*, weighted: bool) -> pa.Table:
    """No rows."""
    weights = np.zeros(0, np.float32) if weighted else None
    return table_of(np.zeros(0, np.int32), np.zeros(0, np.bool_), np.zeros(1, np.int64), weights)


def _lists(offsets: Ints, values: npt.NDArray[np.int32] | npt.NDArray[np.float32]) -> pa.Array:
    if offsets[-1] > np.iinfo(np.int32).max:
        return pa.LargeListArray.from_arrays(offsets, values)
    return pa.ListArray.from_arrays(offsets.astype(np.int32), values)
