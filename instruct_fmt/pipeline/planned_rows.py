"""Rows that have a plan: shapes with their columns in, a finished block of the output out.

The other rows' way is `other_rows.py`; a test holds that both give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from instruct_fmt.emit import empty_table, table_of
from instruct_fmt.encode.flat import EncodedRows, only
from instruct_fmt.pipeline.batch import Block, counted
from instruct_fmt.pipeline.dataset_stages import DatasetStages
from instruct_fmt.pipeline.planned_fit import fit
from instruct_fmt.pipeline.unread import of_plans
from instruct_fmt.template.plan.shape_group import ShapeGroup
from instruct_fmt.types import Ints, PlannedRows


def run_planned(stages: DatasetStages, shapes: Sequence[ShapeGroup], numbers: Ints) -> Block:
    """Encode the rows that have a plan.

    Args:
        stages: the stages for these rows.
        shapes: rows of plain shape.
        numbers: the numbers of all rows in the dataset, of those in no shape, too; shape (rows,).
    """
    left, tried = np.ones(len(numbers), np.bool_), np.zeros(len(numbers), np.bool_)
    kind = shapes[0].kind if shapes else None  # rows of another kind among them go one by one
    shapes = [shape for shape in shapes if shape.kind is kind]
    encoder = None if kind is None else stages.encoder(kind)
    grouped = stages.planner.group(shapes) if encoder is not None and encoder.planned.able else []
    if encoder is None or not grouped:
        return Block(numbers[:0], empty_table(weighted=stages.stages.weighted), Counter(), left, tried)
    groups = [group for _, group in grouped]
    wanted = _times([group.places for group in groups], len(numbers))
    tried |= wanted > 0
    encoded = encoder.planned.encode(groups)
    whole = _times([encoded.places], len(numbers)) == wanted  # a row of several turns comes out with all of them
    fitted = fit(stages, encoder.planned, only(encoded, whole[encoded.places]), grouped, numbers)
    gone = [place for place, _ in fitted.rejected]
    whole = tried & (_times([fitted.rows.places, np.array(gone, np.int64)], len(numbers)) == wanted)
    left = ~whole
    fitted = fitted.only(whole[fitted.rows.places])
    rows = fitted.rows
    table = table_of(rows.ids, rows.trained, rows.offsets, rows.weights if stages.stages.weighted else None)
    unread = list(of_plans(groups, shapes, stages.settings.columns, numbers, left))
    counts = _counts(rows, fitted.groups, encoder.backend) + fitted.counts(stages.stages.fitting.overlength)
    rejected = [rejection for place, rejection in fitted.rejected if whole[place]]
    return Block(numbers[rows.places], table, counts, left, tried, rejected, unread)


def _times(places: Sequence[Ints], size: int) -> Ints:
    """How many rows of the output each place of the batch has."""
    return np.bincount(np.concatenate(places), minlength=size)


def _counts(rows: EncodedRows, groups: Sequence[PlannedRows], backend: str) -> Counter[str]:
    """Numbers of the rows for the report."""
    trained = int(np.count_nonzero(rows.trained))
    counts = Counter(counted("plan", backend, len(rows.places), len(rows.ids), trained))
    for group, times in zip(groups, np.bincount(rows.groups, minlength=len(groups)).tolist(), strict=True):
        counts.update({name: count * times for name, count in group.counts.items()})
    left_out, apart = int(rows.left_out.sum()), int(np.count_nonzero(rows.apart))
    counts.update({"trained_turns": -left_out, "turns_skipped:seam": left_out, "encoded_apart": apart})
    return counts
