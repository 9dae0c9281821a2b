"""Fields of a shape that its plan does not print: twin of `unread` in `label/coverage.py`, which asks it of a row."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import NamedTuple

from instruct_fmt.common.reasoning import REASONING
from instruct_fmt.template.label.coverage import is_printed, unread_inside, unread_value
from instruct_fmt.template.plan.recorder import Expression
from instruct_fmt.template.plan.shape import leaves
from instruct_fmt.template.trace.origins import TOOLS, VARIABLES, Field
from instruct_fmt.types import Conversation, Printed, Record

THOUGHT = "<reasoning>"
"""In a path: the block of reasoning with which a content begins."""

REMEMBERED = 4096
"""So many tools are remembered with what is not printed of them."""


class Unprinted(NamedTuple):
    """A field that no row of a shape has in its text.

    Attributes:
        calls: where it says which call a result answers, those calls.
        is_object: whether it is the arguments of a call, which say what the texts inside say.
        aside: what is not printed of it, where it is a list or an object that a message has beside what it says.
        always: whether it says something in every row.
    """

    field: Field
    calls: tuple[Field, ...] = ()
    is_object: bool = False
    aside: Aside | None = None
    always: bool = False


def unprinted_leaves(example: Conversation | Record, printed: Printed, mentioned: Collection[str]) -> list[Unprinted]:
    """The fields of a shape that are not printed, as `unread` tells it of a row.

    Args:
        example: a row of the shape.
        printed: what is printed of it.
        mentioned: the names that the template uses.
    """
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
        value = values[field]
        if isinstance(value, bool | int | float):
            found += [Unprinted(field, always=True)] if name not in mentioned else []
            continue
        is_aside = len(field.path) == 1 and field.place >= 0 and not isinstance(value, str)
        aside = Aside(field, mentioned) if is_aside else None
        found.append(Unprinted(field, tuple(calls), not isinstance(value, str), aside))
    variables = example.template_kwargs if isinstance(example, Conversation) else {}
    return [*found, *(Unprinted(Field(VARIABLES, (one,)), always=True) for one in variables if one not in mentioned)]


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


class Aside:
    """What is not printed of a list or an object that a message has beside what it says.

    Args:
        field: where it is.
        mentioned: the names that the template uses.
    """

    def __init__(self, field: Field, mentioned: Collection[str]) -> None:
        self.field = field
        self._is_mentioned = field.path[-1] in mentioned
        self._known: dict[str, tuple[Field, ...]] = {}

    def of(self, text: str) -> tuple[Field, ...]:
        """The fields that are not printed of the value with this JSON."""
        known = self._known
        if text not in known:
            if len(known) >= REMEMBERED:
                self._known = known = {}
            place, path = self.field
            leaves = unread_value(json.loads(text), place, path, is_mentioned=self._is_mentioned)
            known[text] = tuple(leaf.field for leaf in leaves)
        return known[text]


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
