"""Plans: what a template prints for every row of one shape, as columns.

In: a marked symbolic render and its guards. Out: a `Plan`, which tells for whole columns at once which rows it holds
for, their texts, and what of them is trained, without a Python object for each row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.template.symbolic import BLANKS, PLACEHOLDER, Expression, Guard, Recorder
from instruct_fmt.template.traced import Field
from instruct_fmt.types import Bools, Ints, Marked, PlannedRows

Columns = Mapping[Field, pa.Array]
Place = tuple[int, int]

_TRIM = {"both": pc.utf8_trim, "left": pc.utf8_ltrim, "right": pc.utf8_rtrim}
_ASK = {
    "contains": lambda column, value: pc.match_substring(column, value),
    "starts": lambda column, value: pc.starts_with(column, value),
    "ends": lambda column, value: pc.ends_with(column, value),
    "equals": lambda column, value: pc.equal(column, pa.scalar(value, pa.large_string())),
    "filled": lambda column, value: pc.greater(pc.binary_length(column), 0),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a template prints for one shape of rows.

    Attributes:
        parts: literals and expressions, in order.
        guards: what must hold of a row.
        spoken: fields that must hold more than blanks: the last that is printed of each message of the model's,
            because its turn ends behind it.
        trained: ranges between places; a place is a part's number and an offset inside it, in bytes.
        cuts: places where the text is encoded apart.
        marked: the symbolic render, for what does not depend on the row.
    """

    parts: tuple[str | Expression, ...]
    guards: tuple[Guard, ...]
    spoken: tuple[Field, ...]
    trained: tuple[tuple[Place, Place], ...]
    cuts: tuple[Place, ...]
    marked: Marked

    def holds(self, columns: Columns) -> Bools:
        """For each row whether its text is this plan's."""
        answers = [
            pc.equal(_ASK[guard.question](_value(guard.subject, columns), guard.value), guard.answer)
            for guard in self.guards
        ]
        trimmed = [pc.utf8_trim(columns[field], BLANKS) for field in self.spoken]
        answers += [pc.greater(pc.binary_length(column), 0) for column in trimmed]
        size = len(next(iter(columns.values())))
        if not answers:
            return np.ones(size, np.bool_)
        found: Bools = reduce(pc.and_, answers).to_numpy(zero_copy_only=False)
        return found

    def render(self, columns: Columns) -> PlannedRows:
        """The texts of rows for which the plan holds, and their trained ranges in bytes."""
        size = len(next(iter(columns.values())))
        values = {part: _value(part, columns) for part in self.parts if isinstance(part, Expression)}
        pieces = [pa.scalar(part, pa.large_string()) if isinstance(part, str) else values[part] for part in self.parts]
        texts = pc.binary_join_element_wise(*pieces, pa.scalar("", pa.large_string()))
        starts = np.zeros((len(self.parts) + 1, size), np.int64)
        for number, part in enumerate(self.parts):
            if isinstance(part, str):
                starts[number + 1] = starts[number] + len(part.encode())
            else:
                starts[number + 1] = starts[number] + pc.binary_length(values[part]).to_numpy()
        ranges = np.empty((size, len(self.trained), 2), np.int64)
        for number, (left, right) in enumerate(self.trained):
            ranges[:, number, 0] = _at(left, starts)
            ranges[:, number, 1] = _at(right, starts)
        cuts = [_at(cut, starts) for cut in self.cuts]
        return PlannedRows(
            texts, ranges, np.stack(cuts, axis=1) if cuts else np.zeros((size, 0), np.int64), self.marked
        )


def make_plan(marked: Marked, recorder: Recorder, speaking: Collection[int]) -> Plan | None:
    """The plan of a symbolic render; None where it cannot stand for other rows.

    Args:
        marked: the render, its text full of placeholders.
        recorder: what was recorded on the way.
        speaking: the messages, or columns, that the model writes.
    """
    if recorder.refused or not _whole(marked, recorder):
        return None
    expressions = recorder.expressions()
    parts: list[str | Expression] = []
    places: dict[int, Place] = {}
    at = 0
    for match in PLACEHOLDER.finditer(marked.text):
        _literal(marked.text[at : match.start()], at, parts, places)
        places[match.start()] = (len(parts), 0)
        parts.append(expressions[match[0]])
        at = match.end()
        places[at] = (len(parts), 0)
    _literal(marked.text[at:], at, parts, places)
    places[len(marked.text)] = (len(parts), 0)
    edges = {edge for part in marked.trained for edge in part} | set(marked.cuts)
    if not parts or any(edge not in places for edge in edges):
        return None
    return Plan(
        tuple(parts),
        tuple(recorder.guards),
        tuple({part.field.place: part.field for part in parts if _is_spoken(part, speaking)}.values()),
        tuple((places[left], places[right]) for left, right in marked.trained),
        tuple(places[cut] for cut in marked.cuts if 0 < cut < len(marked.text)),
        marked,
    )


def _is_spoken(part: str | Expression, speaking: Collection[int]) -> TypeGuard[Expression]:
    return isinstance(part, Expression) and part.field.place in speaking


def _literal(text: str, start: int, parts: list[str | Expression], places: dict[int, Place]) -> None:
    if not text:
        return
    size = 0
    for number, char in enumerate(text):
        places[start + number] = (len(parts), size)
        size += len(char.encode())
    parts.append(text)


def _whole(marked: Marked, recorder: Recorder) -> bool:
    """Whether all text of the row is whole placeholders that are known: nothing lost its expression on the way."""
    known = recorder.expressions()
    found = {(match.start(), match.end()) for match in PLACEHOLDER.finditer(marked.text) if match[0] in known}
    return found == {(start, end) for start, end, _ in marked.from_row}


def _value(expression: Expression, columns: Columns) -> pa.Array:
    column = columns[expression.field]
    for side, characters in expression.strips:
        column = _TRIM[side](column, characters)
    return column


def _at(place: Place, starts: Ints) -> Ints:
    found: Ints = starts[place[0]] + place[1]
    return found
