"""Tools, calls and documents in (structs or JSON strings), the form that templates expect out.

The form is the one that chat APIs send and that `apply_chat_template` documents: a tool is
``{"type": "function", "function": {"name", "description", "parameters"}}``, a call is
``{"type": "function", "function": {"name", "arguments"}}``. Unwrapped ones (``{"name": …}``) are wrapped;
anything else stays as it is, for the template to decide.
"""

from __future__ import annotations

from typing import Any

from instruct_fmt.adapt.values import Path, decoded, objects, plain

_TOOLS = "a list of tools such as [{'type': 'function', 'function': {'name': …, 'parameters': …}}]"
_CALLS = "a list of calls such as [{'type': 'function', 'function': {'name': …, 'arguments': …}}]"
_DOCUMENTS = "a list of objects such as [{'title': …, 'text': …}]"
_ENVELOPE = ("id", "index")


def tools(value: object, path: Path) -> list[dict[str, Any]] | None:
    """Schemas of tools; None where there are none. Schemas that are text (`parameters`) are decoded once.

    Args:
        value: a list of structs, a list of JSON strings, JSON text of a list or of one tool, or null.
        path: where it stands in the row.

    Raises:
        RowError: ``bad-tools`` for anything else.

    >>> tools('[{"name": "f", "parameters": {}}]', (None, "tools"))
    [{'type': 'function', 'function': {'name': 'f', 'parameters': {}}}]
    """
    found = objects(value, path, "bad-tools", _TOOLS)
    return found and [_wrapped(tool, (path, i), "parameters") for i, tool in enumerate(found)]


def tool_calls(value: object, path: Path) -> list[dict[str, Any]] | None:
    """Calls of an assistant message; None where there are none. Text `arguments` are decoded once.

    Raises:
        RowError: ``bad-tools`` for what is not a list of calls.

    >>> tool_calls([{"name": "f", "arguments": '{"a": null}', "id": "1"}], (None, "calls"))
    [{'type': 'function', 'id': '1', 'function': {'name': 'f', 'arguments': {'a': None}}}]
    """
    found = objects(value, path, "bad-tools", _CALLS)
    return found and [_wrapped(call, (path, i), "arguments") for i, call in enumerate(found)]


def documents(value: object, path: Path) -> list[dict[str, Any]] | None:
    """Documents for retrieval templates; None where there are none.

    Raises:
        RowError: ``bad-field`` for what is not a list of objects.
    """
    return objects(value, path, "bad-field", _DOCUMENTS)


def _wrapped(item: dict[str, Any], path: Path, text_key: str) -> dict[str, Any]:
    """A tool or a call in its wrapped form, with the JSON text under `text_key` decoded."""
    if text_key == "arguments":
        item = _without_null(item)
    inner = item.get("function")
    if inner is None and isinstance(item.get("name"), str) and item.get("type", "function") == "function":
        outer = {key: item[key] for key in _ENVELOPE if key in item}
        inner = {key: value for key, value in item.items() if key != "type" and key not in outer}
        item = {"type": "function", **outer, "function": inner}
    if isinstance(inner, dict) and text_key == "arguments":
        inner = item["function"] = _without_null(inner)
    if isinstance(inner, dict):
        value = inner.get(text_key)
        found = decoded(value) if isinstance(value, str) else None
        if isinstance(found, dict):
            inner[text_key] = plain(found, ((path, "function"), text_key))
    return item


def _without_null(call: dict[str, Any]) -> dict[str, Any]:
    """A call's own members, of which null says that there is none; what is inside its arguments is not looked at."""
    return {name: value for name, value in call.items() if value is not None}
