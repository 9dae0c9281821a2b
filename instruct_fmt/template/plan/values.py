"""The columns of rows, and the expressions on them that guards and texts ask for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.template.plan.recorder import BLANKS, Expression, Guard
from instruct_fmt.template.plan.unprinted import Unprinted
from instruct_fmt.template.trace.origins import Field
from instruct_fmt.types import Bools, Ints

Columns = Mapping[Field, pa.Array]


_TRIM = {"both": pc.utf8_trim, "left": pc.utf8_ltrim, "right": pc.utf8_rtrim}


_ASK = {
    "contains": lambda column, value: pc.match_substring(column, value),
    "starts": lambda column, value: pc.starts_with(column, value),
    "ends": lambda column, value: pc.ends_with(column, value),
    "matches": lambda column, value: pc.match_substring_regex(column, value),
    "equals": lambda column, value: pc.equal(column, pa.scalar(value, pa.large_string())),
}


class Values:
    """The columns of rows, and the expressions on them that were asked for."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._texts: dict[Expression, pa.Array] = {}
        self._sizes: dict[Expression, Ints] = {}
        self.rows = len(next(iter(columns.values())))

    def text(self, expression: Expression) -> pa.Array:
        """The values of an expression, large_string."""
        if not expression.strips:
            return self._columns[expression.field]
        if expression not in self._texts:
            *before, (side, characters) = expression.strips
            inner = self.text(Expression(expression.field, tuple(before)))
            self._texts[expression] = _TRIM[side](inner, characters)
        return self._texts[expression]

    def mentions(self, expression: Expression, value: str) -> bool:
        """Whether any of the rows may hold a text: one search through all of them is faster than one in each."""
        column = self.text(expression)
        offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset :][: self.rows + 1]
        data = column.buffers()[2]
        return data is not None and value.encode() in data.slice(offsets[0], offsets[-1] - offsets[0]).to_pybytes()

    def sizes(self, expression: Expression) -> Ints:
        """Their lengths in bytes."""
        if expression not in self._sizes:
            column = self.text(expression)
            offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset :][: self.rows + 1]
            self._sizes[expression] = np.diff(offsets)
        return self._sizes[expression]


def says_something(values: Values, field: Field) -> Bools:
    """For each row whether a field holds more than blanks."""
    return values.sizes(Expression(field, (("both", BLANKS),))) > 0


def unread_in(values: Values, found: Unprinted) -> Bools:
    """For each row whether a field that is not printed says something that no call says."""
    said = says_something(values, found.field)
    for call in found.calls:
        said &= ~pc.equal(values.text(Expression(found.field)), values.text(Expression(call))).to_numpy(False)
    return said


def asked(guard: Guard, values: Values) -> Bools:
    """For each row whether a guard's question has the answer that it had when the plan was made."""
    if guard.question == "filled":
        return np.equal(values.sizes(guard.subject) > 0, guard.answer)
    if guard.question == "contains" and not values.mentions(guard.subject, guard.value):
        return np.full(values.rows, not guard.answer)
    answers: Bools = _ASK[guard.question](values.text(guard.subject), guard.value).to_numpy(zero_copy_only=False)
    return np.equal(answers, guard.answer)
