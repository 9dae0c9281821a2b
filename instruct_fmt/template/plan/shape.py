"""What rows of one plan share, and how their values become columns and symbols.

In: conversations and records. Out: a *shape*, equal for rows that may share a plan; the fields of a shape, each a text
in every row; and the symbolic values that stand for them. Objects whose members a template has no reason to look at,
the arguments of a call and the schema of a tool, are one field each: their JSON. So are the numbers, flags, lists and
objects that messages have beside what they say. Template variables of a row are a part of its shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from instruct_fmt.common.reasoning import REASONING
from instruct_fmt.template.trace.helpers import tojson
from instruct_fmt.template.trace.origins import TOOLS, Field
from instruct_fmt.types import Conversation, Example, Record, Text

PLANNED_ROLES = frozenset({"system", "user", "assistant", "tool", "developer"})
_CALL = ("id", "type", "function")
_SAYING = frozenset({"content", "name", "tool_call_id", "prefix", *REASONING})
"""Fields of messages that are text, where there is a plan."""
ASIDE: Mapping[type, str] = {bool: "flag", int: "number", float: "number", list: "list", dict: "object"}
"""What other fields may be."""
_VARIABLES = re.compile(r'[\w .,:+{}"\[\]-]{0,1000}')
"""JSON of template variables that may be planned: nothing in it spells a control token."""
Path = tuple[str | int, ...]
Leaf = tuple[Field, Any]
PROMPT, COMPLETION = Field(0, ("prompt",)), Field(1, ("completion",))
"""The fields of ready text."""


def example_shape(example: Example) -> Hashable | None:
    """What the rows of one plan share; None where an example cannot be planned."""
    if isinstance(example, Record):
        texts = all(type(value) is str for value in example.values.values())
        return tuple(example.values) if texts else None
    return _conversation_shape(example) if isinstance(example, Conversation) else (Text, example.path)


def _conversation_shape(conversation: Conversation) -> Hashable | None:
    variables = variables_shape(conversation.template_kwargs)
    if conversation.documents or variables is None:
        return None
    shape = [message_shape(message) for message in conversation.messages]
    if None in shape:
        return None
    return tuple(shape), conversation.train, len(conversation.tools or ()), variables


def variables_shape(variables: Mapping[str, Any]) -> str | None:
    """The JSON of a row's template variables; None where they cannot be planned."""
    if not variables:
        return ""
    try:
        text = tojson(variables)
    except (TypeError, ValueError, RecursionError):
        return None
    return text if _VARIABLES.fullmatch(text) else None


def message_shape(message: Mapping[str, Any]) -> Hashable | None:
    """A message's role, the names of its fields, and the shape of its calls; None where it cannot be planned."""
    role, calls = message.get("role"), ()
    if role not in PLANNED_ROLES:
        return None
    asides = {}
    for name, value in message.items():
        if name == "tool_calls":
            found = calls_shape(value)
            if found is None:
                return None
            calls = found
        elif not name.isidentifier():
            return None
        elif type(value) is not str:
            kind = ASIDE.get(type(value))
            if kind is None or name in _SAYING:
                return None
            asides[name] = kind
    shape = role, tuple(sorted(message)), calls
    return (*shape, tuple(sorted(asides.items()))) if asides else shape


def calls_shape(calls: Any) -> tuple[Any, ...] | None:
    """For each call the names of its members and whether its arguments are an object; None for any other form."""
    shape = []
    for call in calls if isinstance(calls, list) else [None]:
        if not isinstance(call, dict) or not set(call) <= set(_CALL) or not isinstance(call.get("function"), dict):
            return None
        function = call["function"]
        arguments = function.get("arguments")
        if set(function) != {"name", "arguments"} or type(function["name"]) is not str:
            return None
        if not isinstance(arguments, str | dict) or any(type(call.get(name, "")) is not str for name in ("id", "type")):
            return None
        shape.append((tuple(call), tuple(function), type(arguments) is dict))
    return tuple(shape)


def leaves(example: Example) -> list[Leaf]:
    """The fields of an example of some shape, with its values, in the same order for every example of the shape."""
    if isinstance(example, Record):
        return [(Field(place, (name,)), value) for place, (name, value) in enumerate(example.values.items())]
    if isinstance(example, Text):
        return [(PROMPT, example.prompt), (COMPLETION, example.completion)]
    found: list[Leaf] = [(Field(TOOLS, (place,)), tool) for place, tool in enumerate(example.tools or ())]
    for place, message in enumerate(example.messages):
        for name in sorted(message):
            if name == "tool_calls":
                found += [(Field(place, path), value) for path, value in _call_leaves(message[name])]
            elif name != "role":
                found.append((Field(place, (name,)), message[name]))
    return found


def _call_leaves(calls: Sequence[Mapping[str, Any]]) -> list[tuple[Path, Any]]:
    found: list[tuple[Path, Any]] = []
    for number, call in enumerate(calls):
        found += [(("tool_calls", number, name), call[name]) for name in ("id", "type") if name in call]
        function: Path = ("tool_calls", number, "function")
        found += [((*function, name), call["function"][name]) for name in ("name", "arguments")]
    return found


def leaf_text(value: Any) -> str:
    """A field's text: that of anything else is its JSON, as templates print it."""
    return value if isinstance(value, str) else tojson(value)


def with_leaves(message: Mapping[str, Any], place: int, make: Callable[[Any, Field], Any]) -> dict[str, Any]:
    """A message with `make(value, field)` in place of each of its fields."""
    made = dict(message)
    for name, value in message.items():
        if name == "tool_calls":
            made[name] = [_call_with_leaves(call, place, number, make) for number, call in enumerate(value)]
        elif name != "role":
            made[name] = make(value, Field(place, (name,)))
    return made


def _call_with_leaves(
    call: Mapping[str, Any], place: int, number: int, make: Callable[[Any, Field], Any]
) -> dict[str, Any]:
    path: Path = ("tool_calls", number)
    made = {name: make(value, Field(place, (*path, name))) for name, value in call.items() if name != "function"}
    inner = {name: make(value, Field(place, (*path, "function", name))) for name, value in call["function"].items()}
    return {name: inner if name == "function" else made[name] for name in call}
