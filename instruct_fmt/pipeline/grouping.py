"""Rows of plain shape, straight from the columns of a table to the columns of plans.

In: a table, and what reads one of its rows. Out: groups of rows of one shape, with a column for each of their fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.adapt.columns.distinct import column_of
from instruct_fmt.adapt.columns.find import find_shapes
from instruct_fmt.adapt.columns.reasoned import reasoned_rows
from instruct_fmt.adapt.columns.shaped import Planned, ShapedRows
from instruct_fmt.template.plan.shape import (
    PLANNED_ROLES,
    calls_shape,
    example_shape,
    leaf_text,
    leaves,
    variables_shape,
)
from instruct_fmt.template.plan.shape_group import ShapeGroup
from instruct_fmt.template.trace.origins import TOOLS, Field
from instruct_fmt.types import Conversation, Example, Ints, TemplateSource

Read = Callable[[Mapping[str, Any]], Example]


def shape_groups(
    table: pa.Table, source: TemplateSource, asked: Asked, read: Read, reasoning: str
) -> Iterator[ShapeGroup]:
    """The rows of plain shapes that more than one row has: a row alone costs less as a Python object.

    Args:
        table: the rows.
        source: the template.
        asked: what the user says about the rows.
        read: reads a row, its reasoning as it is wanted.
        reasoning: how it is wanted.
    """
    for rows in find_shapes(table, source, asked, Planned(PLANNED_ROLES, calls_shape, variables_shape)):
        if len(rows.places) == 1:
            continue
        for part in reasoned_rows(rows, _answers(table, rows, read) if reasoning != "keep" else (), reasoning):
            group = _group(part, partial(_example, table, part.places, read))
            if group is not None:
                yield group


def _answers(table: pa.Table, rows: ShapedRows, read: Read) -> Sequence[int]:
    """The messages of rows of one shape that are the assistant's."""
    example = _example(table, rows.places, read, 0)
    messages = example.messages if isinstance(example, Conversation) else ()
    return [place for place, message in enumerate(messages) if message.get("role") == "assistant"]


def _group(rows: ShapedRows, example: Callable[[int], Example]) -> ShapeGroup | None:
    """Rows of one shape with a column for each field of theirs; None where the shape cannot be planned."""
    first = example(0)
    shape = example_shape(first)
    columns: dict[Field, pa.Array] = {}
    for field, _ in leaves(first) if shape is not None else ():
        objects = rows.tools if field.place == TOOLS else rows.calls.get(field.place)
        path = field.path if field.place == TOOLS else field.path[1:]
        if objects is not None and (field.place == TOOLS or field.path[0] == "tool_calls"):
            columns[field] = column_of(objects, path, leaf_text)
        elif len(field.path) == 1 and (field.place, field.path[0]) in rows.texts:
            columns[field] = rows.texts[field.place, str(field.path[0])]
        else:
            return None
    return ShapeGroup(shape, rows.places, columns, example, type(first)) if columns else None


def _example(table: pa.Table, places: Ints, read: Read, place: int) -> Example:
    return read(table_rows(table.slice(int(places[place]), 1))[0])
