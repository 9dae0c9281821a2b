"""Arrow columns that `datasets` cannot hold: rewritten where nothing is lost, else refused by name.

In: the schema of a file, and its batches. Out: the same values in types that `datasets` knows. A `huggingface` entry in
the metadata that does not describe the columns is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.errors import DataError

__all__ = ["plain_batches", "plain_schema"]


def plain_schema(where: str, schema: pa.Schema) -> pa.Schema:
    """The schema in types that `datasets` can hold.

    Raises:
        DataError: a column that no such type holds.
    """
    fields = [pa.field(field.name, _plain(field.type), metadata=field.metadata) for field in schema]
    for field, given in zip(fields, schema, strict=True):
        _check(where, field, given.type)
    found = pa.schema(fields, schema.metadata)
    return found if _describes(found) else found.remove_metadata()


def plain_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Batches in the types of `plain_schema`; one that holds what its types forbid, such as broken UTF-8, is refused.

    Raises:
        pa.ArrowException: a batch is damaged.
    """
    for batch in batches:
        batch.validate(full=True)
        columns = [_rewritten(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_string_view(kind) or types.is_binary_view(kind):
        return pa.string() if types.is_string_view(kind) else pa.binary()
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        return (pa.list_ if types.is_list_view(kind) else pa.large_list)(_plain(kind.value_type))
    if types.is_run_end_encoded(kind):
        return _plain(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.JsonType):
        return _plain(kind.storage_type)
    if types.is_list(kind) or types.is_large_list(kind):
        inner = _plain(kind.value_type)
        same = inner == kind.value_type
        return kind if same else (pa.list_ if types.is_list(kind) else pa.large_list)(inner)
    if types.is_struct(kind):
        fields = [pa.field(field.name, _plain(field.type)) for field in kind]
        return kind if [field.type for field in fields] == [field.type for field in kind] else pa.struct(fields)
    return kind


def _rewritten(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type == kind:
        return column
    if pa.types.is_run_end_encoded(column.type):
        return _rewritten(pc.run_end_decode(column), kind)
    if isinstance(column.type, pa.BaseExtensionType):
        return _rewritten(column.storage, kind)
    return pa.array(column.to_pylist(), kind)  # Arrow's own cast of list views is broken


def _check(where: str, field: pa.Field, given: pa.DataType) -> None:
    """Refuse a column of a type that `datasets` has no name for, or whose members have one name."""
    twice = _twice(field.type)
    if twice is not None:
        raise DataError(
            f"{where}: found two members {twice!r} in the column {field.name!r}; expected a name of its own for each; "
            "fix: rename one in the file"
        )
    try:
        datasets.Features.from_arrow_schema(pa.schema([field.remove_metadata()]))
    except ValueError:
        raise DataError(
            f"{where}: found the column {field.name!r} of the type {given}; expected text, numbers, lists or structs; "
            "fix: write it as a struct, a list of structs or JSON text, or leave the column out"
        ) from None


def _twice(kind: pa.DataType) -> str | None:
    """A name that two members of a struct have, at any depth."""
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        twice = next((name for name in names if names.count(name) > 1), None)
        return twice or next((found for field in kind if (found := _twice(field.type))), None)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _twice(kind.value_type)
    return None


def _describes(schema: pa.Schema) -> bool:
    """Whether the metadata, if there is any, says of `datasets` what the columns are."""
    said = (schema.metadata or {}).get(b"huggingface")
    try:
        if said is not None and not isinstance(json.loads(said)["info"]["features"], dict):
            return False
        found = datasets.Features.from_arrow_schema(schema)
        return bool(found.arrow_schema.types == schema.types and list(found) == schema.names)
    except (ValueError, TypeError, LookupError, AttributeError):
        return False
