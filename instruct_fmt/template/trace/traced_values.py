"""A row's values as traced ones: every text remembers the field that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.origins import DOCUMENTS, TOOLS, VARIABLES, Field, empty_object
from instruct_fmt.template.trace.owners import ROLES, SPEAKING, TracedMessage, message_of

# Names that the formats of conversations give to members of messages, of their parts and of calls.
MEMBERS = frozenset(
    [
        *("role", "content", "name", "type", "text", "tool_calls", "function", "arguments", "id", "tool_call_id"),
        *("reasoning_content", "reasoning", "thinking", "image", "image_url", "audio", "video", "url"),
    ]
)


def trace_value(value: Any, index: int, path: tuple[str | int, ...] = ()) -> Any:
    """A copy of plain data whose strings, and the names of its members, remember their field."""
    if isinstance(value, str):
        return tr.content(value, Field(index, path)) if value else value
    if isinstance(value, dict):
        if not value:
            return empty_object(Field(index, path))
        return {_member(key, index, path): trace_value(item, index, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [trace_value(item, index, (*path, number)) for number, item in enumerate(value)]
    return value


def _member(name: Any, index: int, path: tuple[str | int, ...]) -> Any:
    """The name of a member, which is the row's text too, but where a format has fixed it."""
    if index >= 0 and "arguments" not in path and (name in MEMBERS or (not path and name.isidentifier())):
        return name
    return tr.content(name, Field(index, (*path, name))) if isinstance(name, str) and name else name


def trace_message(message: Mapping[str, Any], index: int) -> TracedMessage:
    role = message.get("role")
    values = trace_value(dict(message), index)
    if role in ROLES:
        values["role"] = role
    return message_of(values, index, role in SPEAKING)


def traced_variables(
    tools: Any, documents: Any, of_row: Mapping[str, Any], of_formatter: Mapping[str, Any]
) -> dict[str, Any]:
    """Template variables: what comes from the row is traced, what comes from the formatter's options is its own."""
    row = {name: trace_value(value, VARIABLES, (name,)) for name, value in of_row.items()}
    return {
        **of_formatter,
        **row,
        "tools": trace_value(tools, TOOLS),
        "documents": trace_value(documents, DOCUMENTS),
    }
