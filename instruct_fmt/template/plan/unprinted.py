"""Fields of a shape that its plan does not print: twin of `unread` in `label/coverage.py`, which asks it of a row."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from instruct_fmt.common.reasoning import REASONING
from instruct_fmt.template.label.coverage import is_printed
from instruct_fmt.template.plan.shape import leaves
from instruct_fmt.template.trace.origins import Field
from instruct_fmt.types import Conversation, Printed, Record


class Unprinted(NamedTuple):
    """A field that no row of a shape has in its text; where it says which call a result answers, those calls."""

    field: Field
    calls: tuple[Field, ...]


def unprinted_leaves(example: Conversation | Record, printed: Printed) -> list[Unprinted]:
    """The fields of a shape that are not printed, as `unread` tells it of a row."""
    prefixes = {(place, path[:size]) for place, path in printed for size in range(len(path) + 1)}
    fields = [field for field, _ in leaves(example)]
    found = []
    for field in fields:
        name = field.path[-1]
        if is_printed(field, printed, prefixes) or (name in REASONING[1:] and _has_first(fields, field)):
            continue
        if field.path[:1] == ("tool_calls",) and name == "type":
            continue
        calls = [
            call
            for call in fields
            if field.path in (("name",), ("tool_call_id",))
            and 0 <= call.place < field.place
            and call.path[:1] == ("tool_calls",)
            and call.path[2:] == (("function", "name") if name == "name" else ("id",))
        ]
        found.append(Unprinted(field, tuple(calls)))
    return found


def _has_first(fields: Collection[Field], field: Field) -> bool:
    return Field(field.place, (REASONING[0],)) in fields
