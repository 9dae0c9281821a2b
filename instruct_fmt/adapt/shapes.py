"""Rows of plain shape, straight from the columns of a table, without a Python object for each.

In: an Arrow table. Out: groups of rows with the same roles (or the same columns, for records), each field of a group
as one column. Rows that say more than roles and text are in no group; the adapters read those.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.types import Bools, Ints

TEXT = pa.large_string()
_LARGE = 2**40


@dataclass(frozen=True, slots=True)
class ShapedRows:
    """Rows of one shape.

    Attributes:
        roles: for conversations the role of each message; empty for records.
        names: for records the names of the values; empty for conversations.
        places: the rows' places in the table.
        columns: (message, field) or (place, name) → its values in these rows, large_string.
    """

    roles: tuple[str, ...]
    names: tuple[str, ...]
    places: Ints
    columns: Mapping[tuple[int, str], pa.Array]


def shaped_records(table: pa.Table, found: Mapping[str, str]) -> list[ShapedRows]:
    """The rows whose columns are all there and all text.

    Args:
        table: the rows.
        found: the template's names → the table's columns.
    """
    arrays = {name: table.column(column).combine_chunks() for name, column in found.items()}
    if not arrays or not all(_is_text(array.type) for array in arrays.values()):
        return []
    whole = np.ones(table.num_rows, np.bool_)
    for array in arrays.values():
        whole &= _mask(pc.is_valid(array))
    places = np.flatnonzero(whole)
    if not len(places):
        return []
    rows = pa.array(places)
    columns = {(place, name): array.take(rows).cast(TEXT) for place, (name, array) in enumerate(arrays.items())}
    return [ShapedRows((), tuple(arrays), places, columns)]


def shaped_messages(table: pa.Table, column: str, roles: Collection[str], empty: Sequence[str]) -> list[ShapedRows]:
    """The rows whose messages have a known role, text, and nothing else.

    Args:
        table: the rows.
        column: the column of messages; a list of structs with `role` and `content`, or nothing is found.
        roles: the roles that are known.
        empty: columns that must be null in a row.
    """
    lists = table.column(column).combine_chunks()
    kind = lists.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return []
    fields = {field.name: field.type for field in kind.value_type}
    if not all(name in fields and _is_text(fields[name]) for name in ("role", "content")):
        return []
    offsets = np.asarray(lists.offsets, np.int64)
    messages = lists.values
    role = _child(messages, "role").dictionary_encode()
    known = np.array([value in roles for value in role.dictionary.to_pylist()] or [False])
    codes = role.indices.fill_null(0).to_numpy(zero_copy_only=False)
    plain = _mask(pc.is_valid(role.indices)) & known[codes] if len(role.dictionary) else np.zeros(len(codes), np.bool_)
    plain &= _mask(pc.is_valid(_child(messages, "content"))) & _mask(pc.is_valid(messages))
    for name in fields.keys() - {"role", "content"}:
        plain &= _mask(pc.is_null(_child(messages, name)))
    spoiled = np.concatenate([[0], np.cumsum(~plain)])[offsets]
    whole = (np.diff(spoiled) == 0) & (np.diff(offsets) > 0) & _mask(pc.is_valid(lists))
    for name in empty:
        whole &= _mask(pc.is_null(table.column(name).combine_chunks()))
    content = _child(messages, "content")
    names = role.dictionary.to_pylist()
    return [
        ShapedRows(
            tuple(names[code] for code in shape),
            (),
            places,
            {
                (message, "content"): content.take(pa.array(offsets[places] + message)).cast(TEXT)
                for message in range(len(shape))
            },
        )
        for shape, places in _by_roles(codes, offsets, np.flatnonzero(whole))
    ]


def _by_roles(codes: Ints, offsets: Ints, rows: Ints) -> list[tuple[tuple[int, ...], Ints]]:
    """Rows grouped by the codes of their messages' roles."""
    found = []
    sizes = np.diff(offsets)[rows]
    different = int(codes.max(initial=0)) + 1
    for size in np.flatnonzero(np.bincount(sizes)).tolist():
        here = rows[sizes == size]
        group = np.zeros(len(here), np.int64)
        for message in range(size):  # numbers of all beginnings of a row, made few again before they overflow
            group = group * different + codes[offsets[here] + message]
            if group.max() > _LARGE:
                group = np.unique(group, return_inverse=True)[1]
        for number in np.unique(group).tolist():
            places = here[group == number]
            found.append((tuple(codes[offsets[places[0]] :][:size].tolist()), places))
    return found


def _child(messages: pa.StructArray, name: str) -> pa.Array:
    """A field of all messages, null where its message is."""
    return messages.flatten()[messages.type.get_field_index(name)]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _mask(array: pa.Array) -> Bools:
    mask: Bools = array.to_numpy(zero_copy_only=False)
    return mask
