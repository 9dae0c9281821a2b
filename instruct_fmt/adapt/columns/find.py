"""Rows of plain shape among a table's columns, as the adapters would read them.

In: a table, the template, what the user says. Out: groups of rows of one shape, with a column for each of their texts.
The rows' own way is `adapt/adapter.py`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import pyarrow as pa

from instruct_fmt.adapt import detect
from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.beside import Beside
from instruct_fmt.adapt.canonical import Dialect
from instruct_fmt.adapt.columns.shaped import Layout, ShapedRows, shaped_messages, shaped_records
from instruct_fmt.adapt.extras import find_extras
from instruct_fmt.adapt.fields import Fields, known_fields
from instruct_fmt.adapt.rows import messages, record
from instruct_fmt.adapt.system import looked_at
from instruct_fmt.types import TemplateSource


def find_shapes(
    table: pa.Table,
    source: TemplateSource,
    asked: Asked,
    *,
    roles: frozenset[str],
    calls_shape: Callable[[Any], Hashable | None],
) -> list[ShapedRows]:
    """The rows of a table that a plan may take as columns: what the adapter makes of them is plain to see.

    The arguments are those of `make_adapter`; `roles` may be planned, and so may calls that have a `calls_shape`.
    """
    if source.kind == "record":
        return _record_shapes(table, source, asked)
    format = asked.format
    if format not in (None, "messages", "openai", "sharegpt"):
        return []
    if asked.field_map or asked.columns or asked.system is not None:
        return []
    known = known_fields(table.column_names)
    if format is None and detect.recognise(known) is not messages.FORMAT:
        return []
    column = known.need("messages", "messages")
    dialect = _dialect(table.schema.field(column).type, known, asked, source)
    if dialect is None:
        return []
    extras = find_extras(known, None, asked.allow_dropped)
    own = (extras.system, extras.documents, extras.template_kwargs, *extras.media)
    empty = [name for name in own if name]
    beside = Beside.of(table.column_names, (column, *extras.columns), asked.allow_dropped)
    doubtful = beside.doubtful(table)
    return shaped_messages(table, ~doubtful, Layout(column, extras.tools, empty, dialect, roles, calls_shape))


def _record_shapes(table: pa.Table, source: TemplateSource, asked: Asked) -> list[ShapedRows]:
    """The rows of a record template; those with a system prompt of the formatter's or without a place go by row."""
    if asked.format == "text" or asked.system is not None:
        return []
    found = record.resolve(source, table.column_names, record.names(source, asked))
    unplaced = record.unplaced(source, table.column_names, found, asked)
    if unplaced is not None and unplaced.fills(table):
        return []
    beside = Beside.of(table.column_names, (*found.values(), *looked_at(unplaced)), asked.allow_dropped)
    return shaped_records(table, ~beside.doubtful(table), found)


def _dialect(kind: pa.DataType, known: Fields, asked: Asked, source: TemplateSource) -> Dialect | None:
    """The dialect of all rows of a column; None where each row tells its own."""
    value: Any = getattr(kind, "value_type", None)
    members = {member.name for member in value} if isinstance(value, pa.StructType) else set()
    openai, sharegpt = messages.dialects(known, asked, source)
    if ("role" in members) == ("from" in members):
        return None
    found = openai if "role" in members else sharegpt
    return found if asked.format is None or (asked.format == "sharegpt") == (found is sharegpt) else None
