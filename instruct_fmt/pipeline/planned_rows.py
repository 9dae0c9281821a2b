"""Rows that have a plan: shapes with their columns in, a finished block of the output out.

The other rows' way is `other_rows.py`; a test holds that both give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from instruct_fmt.emit import empty_table, table_of
from instruct_fmt.encode.flat import EncodedRows, only
from instruct_fmt.encode.spans import characters_of_bytes, spans_of_bytes
from instruct_fmt.errors import Rejection, RowError
from instruct_fmt.fit.fitting import Fitting
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
    unwritten = stages.stages.vocabulary.dummies is not None or any(any(group.ends) for group in groups)
    if fitting.overlength in ("error", "drop") or unwritten:  # ids that stand for no text of the row
        rejected = []
        if fitting.overlength == "drop":
            gone = zip(rows.places[long].tolist(), sizes[long].tolist(), strict=True)
            rejected = [
                (place, Rejection.from_error(fitting.too_long(size), int(numbers[place]))) for place, size in gone
            ]
        return _Fitted(only(rows, ~long), rejected, Counter())
    return _cut(stages, rows, groups, numbers)


def _cut(stages: DatasetStages, rows: EncodedRows, groups: Sequence[PlannedRows], numbers: Ints) -> _Fitted:
    """The rows, those that are too long without the ids that `overlength` takes out of them."""
    fitting, long = stages.stages.fitting, stages.stages.fitting.is_long(np.diff(rows.offsets))
    vocabulary, kept, stays = stages.stages.vocabulary, np.ones(len(rows.ids), np.bool_), ~long
    rejected: list[tuple[int, Rejection]] = []
    for place in np.flatnonzero(long).tolist():
        here = slice(rows.offsets[place], rows.offsets[place + 1])
        group = groups[rows.groups[place]]
        index = int(np.searchsorted(group.places, rows.places[place]))
        number = int(numbers[rows.places[place]])
        try:
            found = _kept(fitting, rows.trained[here], vocabulary.lengths(rows.ids[here]), group, index)
        except RowError as error:
            rejected.append((int(rows.places[place]), Rejection.from_error(error, number)))
            continue
        stays[place] = True
        kept[here] = False
        kept[rows.offsets[place] + found] = True
    cut = int(np.count_nonzero(long & stays))
    counts = Counter({f"shortened:{fitting.overlength}": cut} if cut else {})
    return _Fitted(only(rows.keeping(kept), stays), rejected, counts)


def _kept(fitting: Fitting, trained: Bools, sizes: Ints, group: PlannedRows, index: int) -> Ints:
    """The places of the ids that stay of a row that is too long.

    Raises:
        RowError: none do.
    """
    text = group.texts[index].as_py().encode()
    number = characters_of_bytes(text)
    removable = number[group.removable[index]].tolist()
    filled = [(start, end) for start, end in removable if start < end]
    places = fitting.kept(trained, lambda: spans_of_bytes(text, sizes), filled, 0)
    assert places is not None
    return places


def _counts(rows: EncodedRows, groups: Sequence[PlannedRows], backend: str) -> Counter[str]:
    """Numbers of the rows for the report."""
    trained = int(np.count_nonzero(rows.trained))
    counts = Counter(counted("plan", backend, len(rows.places), len(rows.ids), trained))
    for group, times in zip(groups, np.bincount(rows.groups, minlength=len(groups)).tolist(), strict=True):
        counts.update({name: count * times for name, count in group.counts.items()})
    left_out, apart = int(rows.left_out.sum()), int(np.count_nonzero(rows.apart))
    counts.update({"trained_turns": -left_out, "turns_skipped:seam": left_out, "encoded_apart": apart})
    return counts
