"""Rows that have a plan: shapes with their columns in, a finished block of the output out.

The other rows' way is `other_rows.py`; a test holds that both give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from instruct_fmt.common.ragged import taken
from instruct_fmt.emit import empty_table, table_of
from instruct_fmt.encode.flat import EncodedRows, bytes_of, only
from instruct_fmt.errors import Rejection, RowError
from instruct_fmt.fit.fitting import Fitting
from instruct_fmt.fit.long_rows import LongRows
from instruct_fmt.pipeline.batch import Block, counted
from instruct_fmt.pipeline.dataset_stages import DatasetStages
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
    groups = stages.planner.group(shapes) if encoder is not None and encoder.planned.able else []
    if encoder is None or not groups:
        return Block(numbers[:0], empty_table(), Counter(), left, tried)
    wanted = _times([group.places for group in groups], len(numbers))
    tried |= wanted > 0
    encoded = encoder.planned.encode(groups)
    whole = _times([encoded.places], len(numbers)) == wanted  # a row of several turns comes out with all of them
    fitted = _fitted(stages, only(encoded, whole[encoded.places]), groups, numbers)
    gone = [place for place, _ in fitted.rejected]
    whole = tried & (_times([fitted.rows.places, np.array(gone, np.int64)], len(numbers)) == wanted)
    left = ~whole
    rows = only(fitted.rows, whole[fitted.rows.places])
    table = table_of(rows.ids, rows.trained, rows.offsets)
    unread = list(of_plans(groups, shapes, stages.settings.columns, numbers, left))
    counts = _counts(rows, groups, encoder.backend) + fitted.counts
    rejected = [rejection for place, rejection in fitted.rejected if whole[place]]
    return Block(numbers[rows.places], table, counts, left, tried, rejected, unread)


def _times(places: Sequence[Ints], size: int) -> Ints:
    """How many rows of the output each place of the batch has."""
    return np.bincount(np.concatenate(places), minlength=size)


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Rows that are short enough, those that are left out with their places in the batch, and what was counted."""

    rows: EncodedRows
    rejected: list[tuple[int, Rejection]]
    counts: Counter[str]


def _fitted(stages: DatasetStages, rows: EncodedRows, groups: Sequence[PlannedRows], numbers: Ints) -> _Fitted:
    """The rows within `max_length`, cut where that is asked for; others are rejected, or lack: they go one by one."""
    fitting, sizes = stages.stages.fitting, np.diff(rows.offsets)
    long = fitting.is_long(sizes)
    if not long.any():
        return _Fitted(rows, [], Counter())
    if fitting.overlength in ("error", "drop_turns"):  # they go one by one; the first of them stops the run, or is cut
        return _Fitted(only(rows, ~long), [], Counter())
    if fitting.overlength == "drop":
        gone = zip(rows.places[long].tolist(), sizes[long].tolist(), strict=True)
        rejected = [(place, Rejection.from_error(fitting.too_long(size), int(numbers[place]))) for place, size in gone]
        return _Fitted(only(rows, ~long), rejected, Counter())
    return _cut(fitting, rows, groups, numbers)


def _cut(fitting: Fitting, rows: EncodedRows, groups: Sequence[PlannedRows], numbers: Ints) -> _Fitted:
    """The rows, those that are too long without the ids that `overlength` takes out of them."""
    sizes = np.diff(rows.offsets)
    long = fitting.is_long(sizes)
    kept, stays = np.ones(len(rows.ids), np.bool_), ~long
    errors: dict[int, RowError] = {}
    for number, group in enumerate(groups):
        chosen = np.flatnonzero(long & (rows.groups == number))
        if not len(chosen):
            continue
        places, offsets = taken(rows.offsets, chosen)
        trained = rows.trained[places]
        keep, enough = fitting.cut(_long_rows(rows, group, chosen))
        learns = np.add.reduceat(keep & trained, offsets[:-1]) > 0
        kept[places], stays[chosen] = keep, enough & learns
        errors |= {place: fitting.too_long(int(sizes[place])) for place in chosen[~enough].tolist()}
        errors |= {place: fitting.unlearnable(int(sizes[place])) for place in chosen[enough & ~learns].tolist()}
    at = rows.places.tolist()
    rejected = [(at[row], Rejection.from_error(errors[row], int(numbers[at[row]]))) for row in sorted(errors)]
    cut = int(np.count_nonzero(long & stays))
    counts = Counter({f"shortened:{fitting.overlength}": cut} if cut else {})
    return _Fitted(only(rows.keeping(kept), stays), rejected, counts)


def _long_rows(rows: EncodedRows, group: PlannedRows, chosen: Ints) -> LongRows:
    """Some rows of a group, with the places of their tokens in their texts."""
    places, offsets = taken(rows.offsets, chosen)
    here = np.searchsorted(group.places, rows.places[chosen])
    text, starts = bytes_of(group.texts.take(pa.array(here)))
    sizes = rows.sizes[places].astype(np.int64)
    ends = np.cumsum(sizes)
    removable = (group.removable[here] + starts[:-1, None, None]).reshape(-1, 2)
    filled = removable[removable[:, 0] < removable[:, 1]]
    return LongRows(text, ends - sizes, ends, rows.trained[places], offsets, filled)


def _counts(rows: EncodedRows, groups: Sequence[PlannedRows], backend: str) -> Counter[str]:
    """Numbers of the rows for the report."""
    trained = int(np.count_nonzero(rows.trained))
    counts = Counter(counted("plan", backend, len(rows.places), len(rows.ids), trained))
    for group, times in zip(groups, np.bincount(rows.groups, minlength=len(groups)).tolist(), strict=True):
        counts.update({name: count * times for name, count in group.counts.items()})
    left_out, apart = int(rows.left_out.sum()), int(np.count_nonzero(rows.apart))
    counts.update({"trained_turns": -left_out, "turns_skipped:seam": left_out, "encoded_apart": apart})
    return counts
