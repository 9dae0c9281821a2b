"""Fields of a shape that its plan does not print: twin of `unread` in `label/coverage.py`, which asks it of a row."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import NamedTuple

from instruct_fmt.common.reasoning import REASONING
from instruct_fmt.template.label.coverage import is_printed, unread_inside
from instruct_fmt.template.plan.recorder import Expression
from instruct_fmt.template.plan.shape import leaves
from instruct_fmt.template.trace.origins import TOOLS, Field
from instruct_fmt.types import Conversation, Printed, Record

THOUGHT = "<reasoning>"
"""In a path: the block of reasoning with which a content begins."""

REMEMBERED = 4096
"""So many tools are remembered with what is not printed of them."""


class Unprinted(NamedTuple):
    """A field that no row of a shape has in its text.

    Attributes:
        calls: where it says which call a result answers, those calls.
        is_object: whether it is an object, which says what the texts inside say.
    """

    field: Field
    calls: tuple[Field, ...] = ()
    is_object: bool = False


def unprinted_leaves(example: Conversation | Record, printed: Printed) -> list[Unprinted]:
    """The fields of a shape that are not printed, as `unread` tells it of a row."""
    prefixes = {(place, path[:size]) for place, path in printed for size in range(len(path) + 1)}
    values = dict(leaves(example))
    fields, found = list(values), []
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
        found.append(Unprinted(field, tuple(calls), not isinstance(values[field], str)))
    return found


class InsideTool:
    """What is not printed of a tool of which a template prints members, or parts that run as a whole.

    Args:
        field: the tool.
        parts: the expressions that are printed of it.
    """

    def __init__(self, field: Field, parts: Sequence[Expression]) -> None:
        self.field = field
        first = [part.steps[0] for part in parts]
        self._members = [(*field.path, *step.args[0]) for step in first if step.name == "member"]
        self._made = [step.args[0] for step in first if step.name == "made"]
        self._known: dict[str, tuple[Field, ...]] = {}

    def of(self, text: str) -> tuple[Field, ...]:
        """The fields that are not printed of the tool with this JSON."""
        known = self._known  # threads share it, and one may put another in its place
        if text in known:
            return known[text]
        if len(known) >= REMEMBERED:
            self._known = known = {}
        printed = frozenset(self._members).union(*(made.printed(text) for made in self._made))
        found = tuple(leaf.field for leaf in unread_inside(json.loads(text), self.field, printed))
        return known.setdefault(text, found)


def inside_tools(parts: Sequence[str | Expression]) -> tuple[InsideTool, ...]:
    """The tools of a plan that are not printed as a whole."""
    tools: dict[Field, list[Expression]] = {}
    for part in parts:
        if isinstance(part, Expression) and part.field.place == TOOLS:
            tools.setdefault(part.field, []).append(part)
    return tuple(
        InsideTool(field, found)
        for field, found in tools.items()
        if all(part.steps and part.steps[0].name in ("member", "made") for part in found)
    )


def _has_first(fields: Collection[Field], field: Field) -> bool:
    return Field(field.place, (REASONING[0],)) in fields
