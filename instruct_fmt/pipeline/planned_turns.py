"""Conversations that have a plan and are too long, without their oldest exchanges: the same columns, fewer of them.

In: encoded rows, and the rows of one shape that each is among. Out: the shorter conversations, encoded. How many
exchanges go is searched for all rows at once, as `other_rows.shortened` does it for one; a test holds that both give
the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from instruct_fmt.encode.column_encoder import ColumnEncoder
from instruct_fmt.encode.flat import EncodedRows
from instruct_fmt.fit import turns
from instruct_fmt.fit.fitting import Fitting
from instruct_fmt.template.label.marked import speaks
from instruct_fmt.template.plan.planner import Planner
from instruct_fmt.template.plan.shape import example_shape
from instruct_fmt.template.plan.shape_group import ShapeGroup
from instruct_fmt.types import Bools, Conversation, Ints, PlannedRows


@dataclass(frozen=True, slots=True)
class Later:
    """Shorter conversations.

    Attributes:
        of: for each row that went in whether it was too long and has exchanges to lose; shape (rows,).
        rows: what is left of those rows, and may be too long still; their places are their numbers among them. Those
            lack that have no plan without some of their exchanges.
        groups: what their numbers of groups mean.
        turns: for each of those rows the model's turns that went; shape (those rows,).
    """

    of: Bools
    rows: EncodedRows
    groups: Sequence[PlannedRows]
    turns: Ints


def without_oldest(
    planner: Planner, encoder: ColumnEncoder, fitting: Fitting, rows: EncodedRows, sources: Sequence[ShapeGroup]
) -> Later:
    """The rows that are too long, without as few of their oldest exchanges as must be.

    Args:
        planner: finds the plans of shorter conversations.
        encoder: encodes them.
        fitting: says what is too long.
        rows: encoded rows.
        sources: for each of their groups the rows that it is among.
    """
    long = fitting.is_long(np.diff(rows.offsets))
    needed = set(rows.groups[long].tolist())
    starts = [_starts(source) if number in needed else [] for number, source in enumerate(sources)]
    of = long & (np.array([len(found) for found in starts]) > 1)[rows.groups]
    units = rows.take(np.flatnonzero(of))
    most = np.array([len(found) - 1 for found in starts])[units.groups]
    low, high, last = np.ones_like(most), most.copy(), np.full_like(most, -1)
    waiting, at = np.ones(len(most), np.bool_), np.zeros(len(most), np.int64)
    parts, groups, rows_before = [EncodedRows.none()], list[PlannedRows](), 0
    while waiting.any():
        numbers = np.where(waiting, (low + high) // 2, 0)
        shorter = _merged(_shorter(units, sources, starts, numbers))
        grouped = [group for _, group in planner.group_whole(shorter)]
        encoded = encoder.encode(grouped) if grouped else EncodedRows.none()
        found, fits = encoded.places, ~fitting.is_long(np.diff(encoded.offsets))
        best = fits | (low[found] == high[found])  # where nothing fits, as few as can be are left
        high[found[fits]] = numbers[found[fits]]
        low[found[~best]] = numbers[found[~best]] + 1
        last[found[best]], at[found[best]] = numbers[found[best]], rows_before + np.flatnonzero(best)
        parts.append(replace(encoded, groups=encoded.groups + len(groups)))
        groups += grouped
        rows_before += len(found)
        lacks = waiting.copy()
        lacks[found] = False
        last[lacks] = -1
        waiting &= ~lacks & ((low < high) | (last != high))
    done = np.flatnonzero(last >= 0)
    lost = [
        [sum(map(speaks, _messages(source)[found[0] : start])) for start in found]
        for source, found in zip(sources, starts, strict=True)
    ]
    gone = [lost[group][max(number, 0)] for group, number in zip(units.groups.tolist(), last.tolist(), strict=True)]
    return Later(of, EncodedRows.joined(parts).take(at[done]), groups, np.array(gone, np.int64))


def _messages(source: ShapeGroup) -> Sequence[dict[str, object]]:
    example = source.example(0)
    return list(example.messages) if isinstance(example, Conversation) else ()


def _starts(source: ShapeGroup) -> list[int]:
    example = source.example(0)
    return turns.exchanges(example) if isinstance(example, Conversation) else []


def _shorter(
    units: EncodedRows, sources: Sequence[ShapeGroup], starts: Sequence[Sequence[int]], numbers: Ints
) -> list[ShapeGroup]:
    """Rows without so many of their oldest exchanges each; those of which none is to go are left out."""
    found = []
    for group, source in enumerate(sources):
        here = units.groups == group
        for number in np.unique(numbers[here & (numbers > 0)]).tolist():
            chosen = np.flatnonzero(here & (numbers == number))
            rows = source.part(np.searchsorted(source.places, units.places[chosen]))
            found.append(_later(replace(rows, places=chosen), starts[group], number))
    return found


def _later(rows: ShapeGroup, starts: Sequence[int], number: int) -> ShapeGroup:
    """Rows of one shape without so many of their oldest exchanges."""

    def example(place: int) -> Conversation:
        whole = rows.example(place)
        assert isinstance(whole, Conversation)
        return turns.without_oldest(whole, starts, number)

    first = rows.example(0)
    assert isinstance(first, Conversation)
    kept = {place: new for new, place in enumerate(turns.kept_messages(first, starts, number))}
    columns = {
        field if field.place < 0 else field._replace(place=kept[field.place]): column
        for field, column in rows.columns.items()
        if field.place < 0 or field.place in kept
    }
    return ShapeGroup(example_shape(example(0)), rows.places, columns, example, Conversation)


def _merged(groups: Sequence[ShapeGroup]) -> list[ShapeGroup]:
    """The same rows, those of one shape together."""
    of_shape: dict[Hashable, list[ShapeGroup]] = {}
    for group in groups:
        of_shape.setdefault(group.shape, []).append(group)
    return [parts[0] if len(parts) == 1 else _together(parts) for parts in of_shape.values()]


def _together(parts: Sequence[ShapeGroup]) -> ShapeGroup:
    places = np.concatenate([part.places for part in parts])
    order = np.argsort(places)
    taken = pa.array(order)
    columns = {
        field: pa.concat_arrays([part.columns[field] for part in parts]).take(taken) for field in parts[0].columns
    }
    sizes = np.cumsum([0, *(len(part.places) for part in parts)])

    def example(place: int) -> Conversation:
        row = int(order[place])
        part = int(np.searchsorted(sizes, row, side="right")) - 1
        found = parts[part].example(row - int(sizes[part]))
        assert isinstance(found, Conversation)
        return found

    return ShapeGroup(parts[0].shape, places[order], columns, example, Conversation)
