"""Rows of one shape, their fields as columns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from instruct_fmt.template.plan.shape import leaf_text, leaves
from instruct_fmt.template.plan.values import Columns
from instruct_fmt.types import Example, Ints


@dataclass(frozen=True, slots=True)
class ShapeGroup:
    """Rows of one shape.

    Attributes:
        places: the rows' places in the batch, ascending.
        columns: their fields.
        example: the way to each of them as an example.
        kind: what examples they are.
    """

    shape: Hashable
    places: Ints
    columns: Columns
    example: Callable[[int], Example]
    kind: type[Example]

    def only(self, rows: Ints) -> Columns:
        """The columns of some of the rows, which ascend."""
        if len(rows) == len(self.places):
            return self.columns
        chosen = pa.array(rows)
        return {field: column.take(chosen) for field, column in self.columns.items()}

    def part(self, rows: Ints) -> ShapeGroup:
        """Some of the rows, which ascend, as a group of their own."""
        if len(rows) == len(self.places):
            return self
        return ShapeGroup(
            self.shape, self.places[rows], self.only(rows), lambda place: self.example(int(rows[place])), self.kind
        )


def getter_of(examples: Sequence[Any]) -> Callable[[int], Example]:
    return lambda place: examples[place]


def columns_of(examples: Sequence[Any]) -> Columns | None:
    """The fields of examples of one shape as columns; None where a text is none that Arrow can hold."""
    fields = [field for field, _ in leaves(examples[0])]
    rows = [[leaf_text(value) for _, value in leaves(example)] for example in examples]
    columns = zip(fields, zip(*rows, strict=True), strict=True)
    try:
        return {field: pa.array(list(column), pa.large_string()) for field, column in columns}
    except UnicodeEncodeError:
        return None
