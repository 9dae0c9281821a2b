"""Arrow tables in, plain Python rows out, with `Json()` columns decoded by their type.

`datasets` stores a `Json()` feature as text of the Arrow type ``arrow.json``: a plain ``to_pylist`` would
hand out ``'"hello"'``, quotes included, and nobody could tell it from text that a user wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa

_Decode = Callable[[Any], Any]


def table_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table as plain Python values.

    Args:
        table: any Arrow table; map columns become dicts.

    Returns:
        One dict for each row, its `Json()` values decoded at any depth.

    >>> table_rows(pa.table({"text": ["a"]}))
    [{'text': 'a'}]
    """
    rows: list[dict[str, Any]] = table.to_pylist(maps_as_pydicts="lossy")
    for field in table.schema:
        decode = _decoder(field.type)
        if decode is not None:
            name = field.name
            for row in rows:
                row[name] = decode(row[name])
    return rows


def _decoder(kind: pa.DataType) -> _Decode | None:
    """What decodes the JSON values inside a value of this type; None where it holds none."""
    if isinstance(kind, pa.JsonType):
        return _json
    if pa.types.is_struct(kind):
        found = {kind.field(i).name: _decoder(kind.field(i).type) for i in range(kind.num_fields)}
        members = {name: decode for name, decode in found.items() if decode is not None}
        return (lambda value: _members(value, members)) if members else None
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


def _members(value: dict[str, Any] | None, members: dict[str, _Decode]) -> dict[str, Any] | None:
    if value is None:
        return None
    return {name: members[name](item) if name in members else item for name, item in value.items()}
