"""Conversations that make a row of each trained turn, `history="expand"`: the same columns, cut behind each turn.

In: rows of one shape. Out: for each of their turns a group of rows that end with it, to be planned like any others; and
what is not printed of a row, which is what none of its turns prints.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from instruct_fmt.template.label.marker import until
from instruct_fmt.template.plan.shape import example_shape
from instruct_fmt.template.plan.shape_group import ShapeGroup
from instruct_fmt.template.plan.unprinted import unprinted_leaves
from instruct_fmt.template.plan.values import Values, unread_in, unread_inside
from instruct_fmt.template.trace.origins import Field
from instruct_fmt.types import Bools, Conversation, Ints, PlannedRows

Path = tuple[int, tuple[str | int, ...]]


def turn_groups(rows: ShapeGroup, ends: Sequence[int]) -> list[ShapeGroup]:
    """The conversations as rows that end with each of these messages."""
    return [_cut(rows, end) for end in ends]


def _cut(rows: ShapeGroup, end: int) -> ShapeGroup:
    example = partial(_example, rows, end)
    columns = {field: column for field, column in rows.columns.items() if field.place <= end}
    return ShapeGroup(example_shape(example(0)), rows.places, columns, example, Conversation)


def _example(rows: ShapeGroup, end: int, place: int) -> Conversation:
    example = rows.example(place)
    assert isinstance(example, Conversation)
    return until(example, end)


def told_once(
    rows: ShapeGroup, ends: Sequence[int], turns: Sequence[Sequence[PlannedRows]], mentioned: Collection[str]
) -> list[PlannedRows]:
    """The groups of all turns, in order, of which those of the last turn tell what is not printed of a row.

    Args:
        rows: the conversations.
        ends: the messages that the turns end with.
        turns: the groups of each turn, which have the same rows.
        mentioned: the names that the template uses.
    """
    size = len(rows.places)
    missing: dict[Path, Ints] = {}
    for groups in turns:
        for group in groups:
            here = np.searchsorted(rows.places, group.places)
            for field, said in group.unread.items():
                missing.setdefault(field, np.zeros(size, np.int64))[here] += said
    unread = {field: times == sum(end >= field[0] for end in ends) for field, times in missing.items()}
    unread.update(_behind(rows, ends[-1], mentioned).items())
    *earlier, last = ([replace(group, unread={}) for group in groups] for groups in turns)
    found = [group for groups in earlier for group in groups]
    for group in last:
        here = np.searchsorted(rows.places, group.places)
        found.append(replace(group, unread={field: said[here] for field, said in unread.items() if said[here].any()}))
    return found


def _behind(rows: ShapeGroup, end: int, mentioned: Collection[str]) -> dict[Field, Bools]:
    """What the messages behind the last turn say, which no row has."""
    fields = {field: column for field, column in rows.columns.items() if field.place > end}
    if not fields:
        return {}
    example = rows.example(0)
    assert isinstance(example, Conversation)
    values = Values(fields)
    said: dict[Field, Bools] = {}
    for found in unprinted_leaves(example, frozenset(), mentioned):
        if found.field.place > end and found.aside is not None:
            said |= unread_inside(values, found.aside)
        elif found.field.place > end and not found.calls:
            said[found.field] = unread_in(values, found)
    return said
