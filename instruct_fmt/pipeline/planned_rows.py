"""Rows that have a plan: shapes with their columns in, a finished block of the output out.

The other rows' way is `other_rows.py`; a test holds that both give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from instruct_fmt.emit import empty_table, table_of
from instruct_fmt.encode.flat import EncodedRows, only
from instruct_fmt.errors import Rejection
from instruct_fmt.pipeline.batch import Block, counted
from instruct_fmt.pipeline.dataset_stages import DatasetStages
from instruct_fmt.pipeline.unread import of_plans
from instruct_fmt.template.plan.shape_group import ShapeGroup
from instruct_fmt.types import Bools, Ints, PlannedRows


def run_planned(stages: DatasetStages, shapes: Sequence[ShapeGroup], numbers: Ints) -> Block:
    """Encode the rows that have a plan.

    Args:
        stages: the stages for these rows.
        shapes: rows of plain shape.
        numbers: the numbers of all rows in the dataset, of those in no shape, too; shape (rows,).
    """
    left, tried = np.ones(len(numbers), np.bool_), np.zeros(len(numbers), np.bool_)
    encoder = stages.encoder(stages.kind) if shapes else None
    groups = stages.planner.group(shapes) if encoder is not None and encoder.planned.able else []
    if encoder is None or not groups:
        return Block(numbers[:0], empty_table(), Counter(), left, tried)
    for group in groups:
        tried[group.places] = True
    rows, rejected = _fitted(stages, encoder.planned.encode(groups), numbers, left)
    left[rows.places] = False
    table = table_of(rows.ids, rows.trained, rows.offsets)
    unread = list(of_plans(groups, shapes, stages.settings.columns, numbers))
    counts = _counts(rows, groups, encoder.backend)
    return Block(numbers[rows.places], table, counts, left, tried, rejected, unread)


def _fitted(
    stages: DatasetStages, rows: EncodedRows, numbers: Ints, left: Bools
) -> tuple[EncodedRows, list[Rejection]]:
    """The rows that are short enough. The others are rejected, or left to be shortened one by one."""
    fitting, sizes = stages.stages.fitting, np.diff(rows.offsets)
    long = fitting.is_long(sizes)
    if not long.any():
        return rows, []
    rejected: list[Rejection] = []
    if fitting.overlength == "drop":
        left[rows.places[long]] = False
        found = zip(numbers[rows.places[long]].tolist(), sizes[long].tolist(), strict=True)
        rejected = [Rejection.from_error(fitting.too_long(size), number) for number, size in found]
    return only(rows, ~long), rejected


def _counts(rows: EncodedRows, groups: Sequence[PlannedRows], backend: str) -> Counter[str]:
    """Numbers of the rows for the report."""
    trained = int(np.count_nonzero(rows.trained))
    counts = Counter(counted("plan", backend, len(rows.places), len(rows.ids), trained))
    for group, times in zip(groups, np.bincount(rows.groups, minlength=len(groups)).tolist(), strict=True):
        counts.update({name: count * times for name, count in group.counts.items()})
    left_out, apart = int(rows.left_out.sum()), int(np.count_nonzero(rows.apart))
    counts.update({"trained_turns": -left_out, "turns_skipped:seam": left_out, "encoded_apart": apart})
    return counts
