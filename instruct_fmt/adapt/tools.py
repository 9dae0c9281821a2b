"""Tools, calls and documents in (structs or JSON strings), the form that templates expect out.

The form is the one that chat APIs send and that `apply_chat_template` documents: a tool is
``{"type": "function", "function": {"name", "description", "parameters"}}``, a call is
``{"type": "function", "function": {"name", "arguments"}}``, its arguments an object.

| written as | becomes |
|---|---|
| a tool ``{"name", "description", "parameters"}``, with or without a `type` | wrapped |
| a tool ``{"name", "description", "input_schema"}`` (Anthropic) | wrapped, with `parameters` |
| a tool of another `type`, such as ``{"type": "web_search"}`` | stays, for the template to decide |
| a call ``{"name", "arguments"}`` | wrapped |
| arguments named `parameters` (Llama), `input` (Anthropic) or `args` | `arguments` |
| arguments as JSON text, however often it was encoded | the object |
| no arguments, null, empty text, the text ``null`` | ``{}`` |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instruct_fmt.adapt.values import Path, at, bad_field, decoded, object_of, objects
from instruct_fmt.errors import RowError, shown

_TOOL = "{'type': 'function', 'function': {'name': …, 'parameters': …}}"
_CALL = "{'type': 'function', 'function': {'name': …, 'arguments': …}}"
_TOOLS = f"a list of tools such as [{_TOOL}]"
_CALLS = f"a list of calls such as [{_CALL}]"
_DOCUMENTS = "a list of objects such as [{'title': …, 'text': …}]"
_ENVELOPE = ("id", "index")
# The types under which a tool or a call is written without a wrapper.
_FLAT_TOOLS = (None, "function")
_FLAT_CALLS = (None, "function", "tool_use", "tool_call")
_ARGUMENTS = ("arguments", "parameters", "input", "args")
_ONE_OF_TWO = "remove one of the two"


def tools(value: object, path: Path) -> list[dict[str, Any]] | None:
    """Schemas of tools; None where there are none. Schemas that are text (`parameters`) are decoded.

    Args:
        value: a list of structs, a list of JSON strings, JSON text of a list or of one tool, or null.
        path: where it stands in the row.

    Raises:
        RowError: ``bad-tools`` for anything else.

    >>> tools('[{"name": "f", "input_schema": {}}]', (None, "tools"))
    [{'type': 'function', 'function': {'name': 'f', 'parameters': {}}}]
    """
    found = objects(value, path, "bad-tools", _TOOLS)
    return found and [_tool(tool, place) for tool, place in zip(found, _places(found, value, path), strict=True)]


def tool_calls(value: object, path: Path) -> list[dict[str, Any]] | None:
    """Calls of an assistant message; None where there are none.

    Raises:
        RowError: ``bad-tools`` for what is not a list of calls with names, ``bad-field`` for arguments that are no
            object.

    >>> tool_calls([{"name": "f", "arguments": '{"a": null}', "id": "1"}], (None, "calls"))
    [{'type': 'function', 'id': '1', 'function': {'name': 'f', 'arguments': {'a': None}}}]
    """
    found = objects(value, path, "bad-tools", _CALLS)
    return found and [_call(call, place) for call, place in zip(found, _places(found, value, path), strict=True)]


def calls_of_text(value: object, path: Path) -> list[dict[str, Any]]:
    """The calls that a message of a calling role, or a part, holds as JSON text: one object, or a list of them.

    Raises:
        RowError: as `tool_calls`, with the path of the text; ``bad-tools`` where there is no call.
    """
    found = objects(value, path, "bad-tools", _CALLS)
    if not found or not all(isinstance(_function(call).get("name"), str) for call in found):
        expected = "JSON such as {'name': …, 'arguments': {…}}, or a list of such objects"
        fix = "repair the JSON, or make it the text of an answer"
        raise _unreadable(path, value, expected, fix)
    try:
        return [_call(call, place) for call, place in zip(found, _places(found, value, path), strict=True)]
    except RowError as error:
        if not isinstance(value, str):
            raise
        # What is inside of a text has no path.
        raise RowError(error.reason, at(path), error.found, error.expected, error.fix) from None


def documents(value: object, path: Path) -> list[dict[str, Any]] | None:
    """Documents for retrieval templates; None where there are none.

    Raises:
        RowError: ``bad-field`` for what is not a list of objects.
    """
    return objects(value, path, "bad-field", _DOCUMENTS)


def _places(found: list[dict[str, Any]], value: object, path: Path) -> list[Path]:
    """Where the items of a list stand; a single one, which is no list, stands where the value does."""
    single = value.lstrip()[:1] == "{" if isinstance(value, str) else isinstance(value, Mapping)
    return [path] if single else [(path, i) for i in range(len(found))]


def _function(item: dict[str, Any]) -> dict[str, Any]:
    """What a wrapper holds; the item itself where it has none."""
    inner = item.get("function")
    return inner if isinstance(inner, dict) else item


def _tool(tool: dict[str, Any], path: Path) -> dict[str, Any]:
    """A tool in its wrapped form."""
    inner, kind = _function(tool), tool.get("type")
    if inner is not tool:
        return _wrapped(tool, _with_schema(inner, (path, "function")))
    if _is_name(tool.get("name")) and (kind in _FLAT_TOOLS or (kind == "custom" and "input_schema" in tool)):
        function = {key: value for key, value in tool.items() if key not in ("type", *_ENVELOPE)}
        outer = {key: tool[key] for key in _ENVELOPE if key in tool}
        return _wrapped(outer, _with_schema(function, path))
    if isinstance(kind, str):
        return tool
    raise _unreadable(path, tool, f"a tool such as {_TOOL}", "give it a name and parameters, or take it out")


def _with_schema(function: dict[str, Any], path: Path) -> dict[str, Any]:
    """The function of a tool, its schema an object under the name `parameters`."""
    if function.get("input_schema") is not None:
        if function.get("parameters") is not None:
            raise _unreadable((path, "input_schema"), function["input_schema"], "one schema of a tool", _ONE_OF_TWO)
        function = {key: value for key, value in function.items() if key != "parameters"}
        function = {"parameters" if key == "input_schema" else key: value for key, value in function.items()}
    schema = _unquoted(function.get("parameters"))
    if isinstance(schema, str) and isinstance(decoded(schema), dict):
        function["parameters"] = object_of(schema, (path, "parameters"), "bad-tools", _TOOL)
    return function


def _call(call: dict[str, Any], path: Path) -> dict[str, Any]:
    """A call in its wrapped form, its arguments an object."""
    call = _without_null(call)
    inner = _function(call)
    if inner is not call:
        function, place = _without_null(inner), (path, "function")
        strange: list[Path] = [(place, name) for name in function if name != "name"]
        strange += [(path, name) for name in call if name in _ARGUMENTS]
        if call.get("type") in _FLAT_CALLS:
            call = {key: "function" if key == "type" else value for key, value in call.items()}
        return _wrapped(call, _with_arguments(function, place, strange))
    if call.get("type") not in _FLAT_CALLS:
        fix = "write it as the call of a function, or take it out"
        raise _unreadable(path, call, f"a call such as {_CALL}", fix)
    function = {key: value for key, value in call.items() if key in ("name", *_ARGUMENTS)}
    outer = {key: value for key, value in call.items() if key not in ("type", *function)}
    unknown: list[Path] = [(path, name) for name in outer if name not in _ENVELOPE]
    return _wrapped(outer, _with_arguments(function, path, unknown))


def _with_arguments(function: dict[str, Any], path: Path, strange: Sequence[Path]) -> dict[str, Any]:
    """The function of a call, its arguments an object under the name `arguments`.

    Args:
        function: without null.
        path: where it stands.
        strange: what may be the arguments, where there are none under a name that is known.
    """
    if not _is_name(function.get("name")):
        fix = "fill the name in, or take the call out"
        raise _unreadable((path, "name"), function.get("name"), "the name of a function", fix)
    given = [name for name in _ARGUMENTS if name in function]
    if not given:
        if strange:
            fix = "move it there, or write `arguments` as {} where there are none"
            raise _unreadable(strange[0], strange[0][1], "the arguments in the function's `arguments`", fix)
        return {**function, "arguments": {}}
    if len(given) > 1:
        raise bad_field((path, given[1]), function[given[1]], "one field of arguments", _ONE_OF_TWO)
    arguments = _object(function[given[0]], (path, given[0]))
    return {
        ("arguments" if key in given else key): (arguments if key in given else value)
        for key, value in function.items()
    }


def _wrapped(outer: dict[str, Any], function: dict[str, Any]) -> dict[str, Any]:
    """A function in its wrapper; keys keep the order of the row."""
    if outer.get("type") is None:
        outer = {"type": "function", **{key: value for key, value in outer.items() if key != "type"}}
    return {**outer, "function": function}


def _object(value: object, path: Path) -> dict[str, Any]:
    """Arguments as an object.

    Raises:
        RowError: ``bad-field`` for a list, a number, or text that is not JSON of an object.
    """
    found = _unquoted(value)
    if found is None or (isinstance(found, str) and found.strip() in ("", "null")):
        return {}
    if isinstance(found, dict):
        return found
    return object_of(found, path, "bad-field", "an object of arguments, or its JSON text")


def _unquoted(value: object) -> object:
    """JSON text without the layers of quotes that it got when it was encoded again; other values as they are."""
    while isinstance(value, str):
        inner = decoded(value)
        if not isinstance(inner, str):
            break
        value = inner
    return value


def _without_null(call: dict[str, Any]) -> dict[str, Any]:
    """A call's own members, of which null says that there is none; what is inside its arguments is not looked at."""
    return {name: value for name, value in call.items() if value is not None}


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _unreadable(path: Path, found: object, expected: str, fix: str) -> RowError:
    what = "nothing" if found is None else f"{type(found).__name__} {shown(found)}"
    return RowError("bad-tools", at(path), what, expected, fix)
