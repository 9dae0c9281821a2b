"""The columns beside messages: tools, template variables, and what must be empty."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.adapt.columns.distinct import Distinct, read_distinct
from instruct_fmt.adapt.extras import template_variables
from instruct_fmt.adapt.tools import tools
from instruct_fmt.errors import RowError
from instruct_fmt.types import Bools, Ints


class Beneath:
    """The columns beside messages.

    Args:
        rows: how many there are.
        tools: the column of tools, or None.
        variables: for each row a number that is the same where the template variables are, negative for those that
            cannot be planned; None without such a column.
        empty: columns that must be null in a row.

    Attributes:
        plain: for each row whether nothing is there but tools and variables that can be read.
        groups: for each row a number that is the same where the number of tools and the variables are.
    """

    def __init__(self, rows: int, tools: pa.Array | None, variables: Ints | None, empty: Sequence[pa.Array]) -> None:
        self.plain: Bools = np.ones(rows, np.bool_)
        for column in empty:
            self.plain &= _mask(pc.is_null(column))
        self.groups: Ints = np.zeros(rows, np.int64)
        self._tools = None if tools is None else _tools(tools)
        self._counts = self.groups
        if self._tools is not None:
            sizes = [-1, *(-1 if value is None else len(value) for value in self._tools.values)]
            self._counts = np.array(sizes)[self._tools.codes + 1]
            self.plain &= self._counts >= 0
            self.groups = self._counts
        if variables is not None:
            self.plain &= variables >= 0
            self.groups = self.groups * (variables.max(initial=0) + 1) + variables

    def tools_of(self, places: Ints) -> Distinct | None:
        """The tools of rows that have the same number of them; None for none."""
        return self._tools.take(places) if self._tools is not None and self._counts[places[0]] > 0 else None


def _tools(child: pa.Array) -> Distinct:
    """The tools of all rows; None among the values is for those that cannot be read."""
    return read_distinct(child, lambda value, path: tools(value, path) or [])


def variable_groups(column: pa.Array, shape: Callable[[Mapping[str, Any]], Hashable | None]) -> Ints:
    """For each row a number that is the same where the template variables are; negative where they are not plain.

    Args:
        column: the template variables.
        shape: what variables have in common that may share a plan; None for those that have none.
    """
    known: dict[Hashable, int] = {}
    shapes = []
    for row in table_rows(pa.table({"value": column})):
        try:
            shapes.append(shape(template_variables(row["value"], "")))
        except RowError:  # the row's adapter says what is wrong with it
            shapes.append(None)
    return np.array([-1 if found is None else known.setdefault(found, len(known)) for found in shapes], np.int64)


def _mask(array: pa.Array) -> Bools:
    mask: Bools = array.to_numpy(zero_copy_only=False)
    return mask
