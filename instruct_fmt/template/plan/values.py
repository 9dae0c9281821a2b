"""The columns of rows, and the expressions on them that guards and texts ask for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.template.plan.recorder import SAME, Expression, Guard
from instruct_fmt.template.plan.steps import BLANKS, THOUGHTS, answers, stepped_column
from instruct_fmt.template.plan.unprinted import Aside, InsideTool, Unprinted
from instruct_fmt.template.trace.origins import Field
from instruct_fmt.types import Bools, Ints

Columns = Mapping[Field, pa.Array]


class Values:
    """The columns of rows, and the expressions on them that were asked for."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._texts: dict[Expression, pa.Array] = {}
        self._sizes: dict[Expression, Ints] = {}
        self.rows = len(next(iter(columns.values())))

    def text(self, expression: Expression) -> pa.Array:
        """The values of an expression, large_string."""
        if not expression.steps:
            return self._columns[expression.field]
        if expression not in self._texts:
            *before, last = expression.steps
            inner = self.text(Expression(expression.field, tuple(before)))
            self._texts[expression] = stepped_column(inner, last)
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
    return values.sizes(Expression(field).then("strip", "both", BLANKS)) > 0


def unread_in(values: Values, found: Unprinted) -> Bools:
    """For each row whether a field that is not printed says something that no call says."""
    if found.always:
        return np.ones(values.rows, np.bool_)
    if found.is_object:
        return answers("speaks", values.text(Expression(found.field)), None)
    said = says_something(values, found.field)
    for call in found.calls:
        said &= ~pc.equal(values.text(Expression(found.field)), values.text(Expression(call))).to_numpy(False)
    return said


def unread_thought(values: Values, content: Field, texts: pa.Array) -> Bools:
    """For each row whether the reasoning inside a content says something that its text does not."""
    thoughts, said = values.text(Expression(content, (THOUGHTS,))), np.zeros(values.rows, np.bool_)
    for row in np.flatnonzero(pc.binary_length(thoughts).to_numpy(zero_copy_only=False)).tolist():
        said[row] = thoughts[row].as_py() not in texts[row].as_py()
    return said


def unread_inside(values: Values, inside: InsideTool | Aside) -> dict[Field, Bools]:
    """For each field inside a tool, or of something aside, that is not printed, which rows have it."""
    encoded = values.text(Expression(inside.field)).dictionary_encode()
    numbers = encoded.indices.to_numpy()
    found: dict[Field, list[int]] = {}
    for number, text in enumerate(encoded.dictionary.to_pylist()):
        for field in inside.of(text):
            found.setdefault(field, []).append(number)
    return {field: np.isin(numbers, these) for field, these in found.items()}


def asked(guard: Guard, values: Values) -> Bools:
    """For each row whether a guard's question has the answer that it had when the plan was made."""
    if guard.question == SAME:
        same: Bools = pc.equal(values.text(guard.subject), values.text(guard.value)).to_numpy(zero_copy_only=False)
        return np.equal(same, guard.answer)
    if guard.question == "filled":
        return np.equal(values.sizes(guard.subject) > 0, guard.answer)
    if guard.question == "contains" and not values.mentions(guard.subject, guard.value):
        return np.full(values.rows, not guard.answer)
    return np.equal(answers(guard.question, values.text(guard.subject), guard.value), guard.answer)
