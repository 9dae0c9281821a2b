"""Arrow tables in, plain Python rows out: `Json()` columns decoded by their type, and no null that Arrow made.

`datasets` stores a `Json()` feature as text of the Arrow type ``arrow.json``: a plain ``to_pylist`` would
hand out ``'"hello"'``, quotes included, and nobody could tell it from text that a user wrote.

A struct has the same members in all rows, so that Arrow fills in null where a row has none. It cannot be told from a
null that the source wrote, which is rare: members of structs that are null go. Those inside `Json()` values stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from instruct_fmt.errors import DataError

_Decode = Callable[[Any], Any]
# Data whose nulls say something: what lies below these is a call's arguments, or a schema.
_DATA = frozenset({"arguments", "parameters", "input", "input_schema", "tools", "functions", "tool_defs"})


def table_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table as plain Python values.

    Args:
        table: any Arrow table; map columns become dicts.

    Returns:
        One dict for each row, its `Json()` values decoded at any depth, and members of structs left out where they are
        null.

    >>> table_rows(pa.table({"call": [{"a": 1}, {"b": 2}]}))
    [{'call': {'a': 1}}, {'call': {'b': 2}}]
    """
    try:
        rows: list[dict[str, Any]] = table.to_pylist(maps_as_pydicts="lossy")
    except (ValueError, OverflowError) as error:  # text that is not UTF-8, a date beyond the year 9999
        raise _unreadable(table, error) from None
    for field in table.schema:
        decode = _decoder(field.type)
        if decode is not None:
            name = field.name
            for row in rows:
                row[name] = decode(row[name])
    return rows


def check_whole(table: pa.Table) -> None:
    """Refuse a table that holds what its types forbid: offsets that lead nowhere, text that is not UTF-8.

    Raises:
        DataError: it does.
    """
    try:
        table.validate(full=True)
    except pa.ArrowException as error:
        raise _unreadable(table, error) from None


def _unreadable(table: pa.Table, error: Exception) -> DataError:
    """The error for the first column that cannot be read."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            column.validate(full=True)
            column.to_pylist(maps_as_pydicts="lossy")
        except (ValueError, OverflowError, pa.ArrowException) as found:
            return DataError(
                f"column {name!r}",
                f"a value that cannot be read ({found})",
                f"values that their type {column.type} holds",
                "correct them where the data is made, or leave the column out",
            )
    return DataError("", f"a table that cannot be read ({error})", "a whole one", "make it again")


def filled_nulls(table: pa.Table) -> dict[str, int]:
    """Members of arguments and schemas that are null in some rows and present in others, and how often they are null.

    Args:
        table: any Arrow table.

    Returns:
        Path → count, such as ``{"tools[].parameters.unit": 3}``; without those that the source cannot have written.

    >>> filled_nulls(pa.table({"tools": [[{"name": "f", "strict": True}], [{"name": "g"}]]}))
    {'tools[].strict': 1}
    """
    found: dict[str, int] = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        for chunk in column.chunks:
            for path, count in _filled(chunk, field.name, inside=field.name in _DATA):
                found[path] = found.get(path, 0) + count
    return found


def _filled(array: pa.Array, path: str, *, inside: bool) -> Iterator[tuple[str, int]]:
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if _has_structs(kind):
            yield from _filled(array.flatten(), f"{path}[]", inside=inside)
    elif pa.types.is_struct(kind):
        valid = array.drop_null() if array.null_count else array
        for member, child in zip(kind, valid.flatten(), strict=True):
            here = f"{path}.{member.name}"
            if inside and 0 < child.null_count < len(child):
                yield here, child.null_count
            yield from _filled(child, here, inside=inside or member.name in _DATA)


def _has_structs(kind: pa.DataType) -> bool:
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_struct(kind))


def _decoder(kind: pa.DataType) -> _Decode | None:
    """What decodes JSON inside a value of this type and drops Arrow's nulls; None where it has neither."""
    if isinstance(kind, pa.JsonType):
        return _json
    if pa.types.is_struct(kind):
        found = {kind.field(i).name: _decoder(kind.field(i).type) for i in range(kind.num_fields)}
        members = {name: decode for name, decode in found.items() if decode is not None}
        return (lambda value: _members(value, members)) if members else _filled_members
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        item = _decoder(kind.value_type)
        return item and (lambda value: None if value is None else [item(element) for element in value])
    return None


def _json(value: str | None) -> Any:
    if value is None:
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value  # not JSON after all: the field's own check names it


def _filled_members(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {name: item for name, item in value.items() if item is not None}


def _members(value: dict[str, Any] | None, members: dict[str, _Decode]) -> dict[str, Any] | None:
    if value is None:
        return None
    return {name: members[name](item) if name in members else item for name, item in value.items() if item is not None}
