"""Rows one by one: read, rendered by the template itself, labelled, encoded together, fitted.

In: plain Python rows. Out: a `Batch` with them; a row that cannot be encoded becomes a `Rejection`, never a guess. Rows
among them that have a plan go the way of `planned_rows.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from instruct_fmt.adapt.rows.plain import plain_row
from instruct_fmt.encode.row_encoder import EncodedRow, RowEncoder
from instruct_fmt.errors import RowError, shown
from instruct_fmt.fit.turns import exchanges, fewest, without_oldest
from instruct_fmt.pipeline.batch import Batch
from instruct_fmt.pipeline.dataset_stages import DatasetStages
from instruct_fmt.pipeline.planned_rows import run_planned
from instruct_fmt.pipeline.unread import of_row
from instruct_fmt.template.label.marked import speaks
from instruct_fmt.types import Bools, Conversation, Example, Ints, Marked, Unread

Row = Mapping[str, Any]
Explain = Callable[[RowError, Row, Sequence[str]], RowError]
"""An error about a row with the fixes that cure it."""


def admitted(batch: Batch, rows: Sequence[Row], numbers: Ints) -> tuple[list[Row], Ints]:
    """The rows that are plain data of a reasonable size, and their places; the others are rejected."""
    kept: list[Row] = []
    places: list[int] = []
    for place, row in enumerate(rows):
        try:
            kept.append(plain_row(row))
            places.append(place)
        except RowError as error:
            batch.reject(error, int(numbers[place]))
    return kept, np.asarray(places, np.int64)


def run_rows(
    stages: DatasetStages, explain: Explain, batch: Batch, rows: Sequence[Row], numbers: Ints, tried: Bools
) -> None:
    """Encode Python rows, those with a plan together, the others one by one.

    Args:
        stages: the stages for these rows.
        explain: finds the fixes for a row's error.
        batch: what the rows are added to.
        rows: the rows, admitted.
        numbers: their numbers in the dataset; shape (rows,).
        tried: for each whether it had a plan that did not do; shape (rows,).
    """
    examples = [_read(stages, explain, batch, row, number) for row, number in zip(rows, numbers.tolist(), strict=True)]
    chances = [
        None if was_tried or example is None or any(stages.adapter.said_in(row, example)) else example
        for row, example, was_tried in zip(rows, examples, tried.tolist(), strict=True)
    ]
    block = run_planned(stages, stages.planner.shapes(chances), numbers)
    batch.add_block(block, in_order=False)
    for place in np.flatnonzero(block.left).tolist():
        example = examples[place]
        if example is not None:
            _add(
                stages,
                explain,
                batch,
                rows[place],
                example,
                int(numbers[place]),
                tried=bool(tried[place] or block.tried[place]),
            )


def encode_one(stages: DatasetStages, row: Row) -> list[EncodedRow]:
    """Encode a single row, its errors without a look for cures; with `history="expand"` it makes several.

    Raises:
        RowError: the row cannot be encoded.
    """
    example = stages.read(row)
    encoder = stages.encoder(type(example))
    found, _ = shortened(stages, example, stages.planner.some(example) or stages.mark(example))
    rows = []
    for marked, encoded in zip(found, encoder.encode(found), strict=True):
        if isinstance(encoded, RowError):
            raise stages.in_dataset(encoded, example)
        rows.append(fitted(stages, 0, encoder, marked, encoded))
    return rows


def fitted(stages: DatasetStages, number: int, encoder: RowEncoder, marked: Marked, row: EncodedRow) -> EncodedRow:
    """The row within `max_length`, and with something to learn; see `Fitting.kept`."""
    places = stages.stages.fitting.kept(row.trained, lambda: encoder.characters(marked), marked.removable, number)
    if places is None:
        return row
    policy = stages.stages.fitting.overlength
    counts = {**row.counts, f"shortened:{'truncate_prompt' if policy == 'drop_turns' else policy}": 1}
    weights = None if row.weights is None else row.weights[places]
    return replace(row, ids=row.ids[places], trained=row.trained[places], counts=counts, weights=weights)


def shortened(
    stages: DatasetStages, example: Example, found: Sequence[Marked]
) -> tuple[Sequence[Marked], Sequence[Marked]]:
    """The texts of a row, those that are too long without their oldest exchanges, if that is asked for.

    Returns:
        The texts, and those that tell what is printed of the row: the ones of the whole conversation.
    """
    fitting = stages.stages.fitting
    if fitting.overlength != "drop_turns" or not isinstance(example, Conversation):
        return found, found
    encoder = stages.encoder(Conversation)

    def is_long(marked: Marked) -> bool:
        encoded = encoder.encode([marked])[0]
        return not isinstance(encoded, RowError) and bool(fitting.is_long(np.array([len(encoded.ids)]))[0])

    wholes = stages.rows_of(example)
    if len(wholes) != len(found):  # some of its turns make no row, and which they are is not said
        return found, found
    return [
        _without_oldest(stages, whole, marked, is_long) if is_long(marked) else marked
        for whole, marked in zip(wholes, found, strict=True)
    ], found


def _without_oldest(
    stages: DatasetStages, whole: Conversation, marked: Marked, is_long: Callable[[Marked], bool]
) -> Marked:
    """A row's text with as few of the oldest exchanges left out as must be; as it is where that cannot be told."""
    starts = exchanges(whole)
    made: dict[int, Marked | None] = {0: marked}

    def without(number: int) -> Marked | None:
        if number not in made:
            shorter = without_oldest(whole, starts, number)
            try:
                made[number] = stages.planner.one(shorter) or stages.mark_one(shorter)
            except RowError:  # of the whole row there is none
                made[number] = None
        return made[number]

    if len(starts) < 2:
        return marked
    number = fewest(lambda number: (one := without(number)) is None or not is_long(one), len(starts) - 1)
    one = without(number)
    if one is None:
        return marked
    lost = sum(speaks(message) for message in whole.messages[starts[0] : starts[number]])
    counts = {**one.counts, "shortened:drop_turns": 1, "turns_dropped": lost}
    return replace(one, counts=counts)


def _read(stages: DatasetStages, explain: Explain, batch: Batch, row: Row, number: int) -> Example | None:
    """A row as an example; None for one that is rejected."""
    try:
        example = stages.read(row, batch.counts)
    except RowError as error:
        batch.reject(explain(error, row, stages.columns), number)
        return None
    if isinstance(example, Conversation):
        for path, value in dict(example.unread).items():
            batch.note(path, Unread(1, number, shown(value)))
    return example


def _add(
    stages: DatasetStages, explain: Explain, batch: Batch, row: Row, example: Example, number: int, *, tried: bool
) -> None:
    """Mark a row, to be encoded with the others that have no plan, or had one and must be encoded on their own."""
    try:
        filled = stages.planner.filled(example) if tried else None
        composed = filled or stages.planner.composed(example)
        found, printed = shortened(stages, example, composed or stages.mark(example))
    except RowError as error:
        batch.reject(explain(error, row, stages.columns), number)
        return
    if composed is None and (why := stages.planner.missing(example)):
        batch.counts[f"plan_missing:{why}"] += 1
    explained = partial(_explained, stages, explain, row, example)
    path = "plan" if filled else "pieces" if composed else "jinja"
    for marked in found:
        batch.add(number, stages.encoder(type(example)), marked, explained, path)
    for name, value in stages.adapter.said_in(row, example):
        batch.note(f"$.{name}", Unread(1, number, shown(value)))
    for path, unread in of_row(example, printed, stages.source, stages.settings.columns, number):
        batch.note(path, unread)


def _explained(stages: DatasetStages, explain: Explain, row: Row, example: Example, error: RowError) -> RowError:
    """An error about a row that waited to be encoded."""
    return explain(stages.in_dataset(error, example), row, stages.columns)
