"""Rows of plain shape, straight from the columns of a table, without a Python object for each.

In: an Arrow table. Out: groups of rows whose messages have the same roles and fields (or whose records have the same
columns), each text of a group as one column. Calls and tools are read by the adapters, each different one once. Rows
that say more are in no group; the adapters read those.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.adapt.canonical import Dialect
from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.adapt.tools import calls_of_text, tool_calls, tools
from instruct_fmt.adapt.values import root
from instruct_fmt.errors import RowError
from instruct_fmt.types import Bools, Ints

TEXT = pa.large_string()
_TEXTS = ("content", "name", "tool_call_id", "reasoning_content")
_LARGE = 2**40
_BOTH = -2  # a message with calls in both places


@dataclass(frozen=True, slots=True)
class Distinct:
    """A value for each row, or for each message: `values[codes[i]]`; none where the code is negative."""

    codes: Ints
    values: Sequence[Any]

    def take(self, rows: Ints) -> Distinct:
        """The values of some rows."""
        return Distinct(self.codes[rows], self.values)


@dataclass(frozen=True, slots=True)
class ShapedRows:
    """Rows of one shape.

    Attributes:
        places: the rows' places in the table, ascending.
        texts: (message, field) or (place, name) → its values in these rows, large_string.
        calls: message → its calls in these rows.
        tools: the tools of these rows; None where they have none.
    """

    places: Ints
    texts: Mapping[tuple[int, str], pa.Array]
    calls: Mapping[int, Distinct] = field(default_factory=dict)
    tools: Distinct | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a table keeps conversations.

    Attributes:
        messages: the column of messages.
        tools: the column of tools, or None.
        empty: columns that must be null in a row.
        dialect: how messages are written.
        roles: the roles that may be planned.
        calls_shape: what calls of one shape have in common; None for calls that cannot be planned.
    """

    messages: str
    tools: str | None
    empty: Sequence[str]
    dialect: Dialect
    roles: frozenset[str]
    calls_shape: Callable[[Any], Hashable | None]


def shaped_records(table: pa.Table, plain: Bools, found: Mapping[str, str]) -> list[ShapedRows]:
    """The rows whose columns are all there and all text.

    Args:
        table: the rows.
        plain: for each row whether it may be one of them.
        found: the template's names → the table's columns.
    """
    arrays = {name: table.column(column).combine_chunks() for name, column in found.items()}
    if not arrays or not all(_is_text(array.type) for array in arrays.values()):
        return []
    whole = plain.copy()
    for array in arrays.values():
        whole &= _mask(pc.is_valid(array))
    places = np.flatnonzero(whole)
    if not len(places):
        return []
    if not whole.all():
        arrays = {name: array.take(pa.array(places)) for name, array in arrays.items()}
    return [ShapedRows(places, {(i, name): array.cast(TEXT) for i, (name, array) in enumerate(arrays.items())})]


def shaped_messages(table: pa.Table, plain: Bools, layout: Layout) -> list[ShapedRows]:
    """The rows among the `plain` ones whose messages have a known role, text, calls, and nothing else."""
    lists = table.column(layout.messages).combine_chunks()
    kind = lists.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return []
    fields = {member.name: member.type for member in kind.value_type}
    dialect = layout.dialect
    if not all(name in fields and _is_text(fields[name]) for name in (dialect.role, dialect.content)):
        return []
    found = _Messages.of(lists.values, layout)
    offsets = np.asarray(lists.offsets, np.int64)
    spoiled = np.concatenate([[0], np.cumsum(~found.plain)])[offsets]
    whole = plain & (np.diff(spoiled) == 0) & (np.diff(offsets) > 0) & _mask(pc.is_valid(lists))
    for name in layout.empty:
        whole &= _mask(pc.is_null(table.column(name).combine_chunks()))
    beside = _tools(table.column(layout.tools).combine_chunks()) if layout.tools else None
    counts = np.zeros(table.num_rows, np.int64)
    if beside is not None:
        counts = np.array([-1, *(-1 if value is None else len(value) for value in beside.values)])[beside.codes + 1]
        whole &= counts >= 0
    groups = _grouped(found.signatures, offsets, np.flatnonzero(whole), counts)
    return [found.rows(offsets, places, beside if counts[places[0]] else None) for places in groups]


@dataclass(frozen=True, slots=True)
class _Messages:
    """The messages of all rows, one behind the other.

    Attributes:
        plain: for each whether it can be planned.
        signatures: numbers that are equal for messages of the same role, fields and shape of calls.
        roles: for each its role's number; `role_names` are the names.
        texts: field → its values, null where a message has none.
        calls: the calls of each.
        calling: for each role's number whether the text of its messages is a call.
        linked: whether results take the names of their calls, also where no call is a message's text.
    """

    plain: Bools
    signatures: Ints
    roles: Ints
    role_names: Sequence[str]
    texts: Mapping[str, pa.Array]
    calls: Distinct
    calling: Sequence[bool]
    linked: bool

    @classmethod
    def of(cls, messages: pa.StructArray, layout: Layout) -> _Messages:
        children = {member.name: child for member, child in zip(messages.type, messages.flatten(), strict=True)}
        roles, speakers = _roles(children.pop(layout.dialect.role), layout.dialect)
        known = np.array([role in layout.roles for role, _ in speakers] or [False])
        plain = _mask(pc.is_valid(messages)) & (roles >= 0) & known[roles]
        children["content"] = children.pop(layout.dialect.content)
        calling = np.array([is_call for _, is_call in speakers] or [False])[roles] & plain
        calls = _calls(children, calling)
        texts = {name: children[name] for name in _TEXTS if name in children and _is_text(children[name].type)}
        for name, child in children.items():
            if name not in texts and name != "tool_calls":
                plain &= _mask(pc.is_null(child))
        if calling.any():
            texts["content"] = pc.if_else(pa.array(calling), pa.scalar("", texts["content"].type), texts["content"])
        shapes = [None if value is None else layout.calls_shape(value) for value in calls.values]
        numbers = {shape: number for number, shape in enumerate(dict.fromkeys(shapes))}
        shape_of = np.array([0, *(numbers[shape] + 1 for shape in shapes)])
        plain &= np.array([True, *(shape is not None for shape in shapes)])[calls.codes + 1]
        signatures = roles * (len(numbers) + 1) + shape_of[calls.codes + 1]
        for child in texts.values():
            signatures = signatures * 2 + _mask(pc.is_valid(child))
        plain &= _mask(pc.is_valid(texts["content"])) | (calls.codes >= 0)
        names = [role for role, _ in speakers]
        texts = {name: child.cast(TEXT) for name, child in texts.items()}
        calling_roles = [is_call for _, is_call in speakers]
        return cls(plain, signatures, roles, names, texts, calls, calling_roles, layout.dialect.linked)

    def rows(self, offsets: Ints, places: Ints, beside: Distinct | None) -> ShapedRows:
        """Rows of one shape, as columns."""
        first = offsets[places[0]]
        size = int(offsets[places[0] + 1] - first)
        texts: dict[tuple[int, str], pa.Array] = {}
        # All first messages, then all second ones, and so on: one look-up for each field, and slices of it.
        here = (offsets[places] + np.arange(size)[:, None]).reshape(-1)
        for name, child in self.texts.items():
            filled = _mask(child.slice(first, size).is_valid())
            column = child.take(pa.array(here)) if filled.any() else child
            for number in np.flatnonzero(filled).tolist():
                texts[number, name] = column.slice(number * len(places), len(places))
                if name == "reasoning_content":
                    texts[number, "thinking"] = texts[number, name]
        calling = np.flatnonzero(self.calls.codes[first : first + size] >= 0).tolist()
        calls = {number: self.calls.take(offsets[places] + number) for number in calling}
        here_roles = self.roles[first : first + size].tolist()
        if self.linked or any(self.calling[role] for role in here_roles):
            self._link([self.role_names[role] for role in here_roles], calls, texts)
        return ShapedRows(places, texts, calls, None if beside is None else beside.take(places))

    def _link(
        self, roles: Sequence[str], calls: Mapping[int, Distinct], texts: dict[tuple[int, str], pa.Array]
    ) -> None:
        """Give results the name of the function, as `sharegpt.link_results` does."""
        for number, distinct in calls.items():
            example = distinct.values[distinct.codes[0]]
            behind = next((place for place, role in enumerate(roles) if place > number and role != "tool"), len(roles))
            if behind - number - 1 != len(example):
                continue
            for place, call in enumerate(example):
                result = number + 1 + place
                texts.setdefault((result, "name"), column_of(distinct, (place, "function", "name")))
                if "id" in call:
                    texts.setdefault((result, "tool_call_id"), column_of(distinct, (place, "id")))


def column_of(distinct: Distinct, path: Sequence[str | int], text: Callable[[Any], str] = str) -> pa.Array:
    """What is at a path inside each row's value, as a column of text; each different value is looked at once."""
    used, codes = np.unique(distinct.codes, return_inverse=True)
    found = []
    for code in used.tolist():
        value = distinct.values[code]
        for key in path:
            value = value[key]
        found.append(text(value))
    return pa.array(found, TEXT).take(pa.array(codes))


def _roles(child: pa.Array, dialect: Dialect) -> tuple[Ints, list[tuple[str, bool]]]:
    """For each message the number of its role, negative for none; and the roles, with whether they call."""
    encoded = child.dictionary_encode()
    # What nobody knows is in no plan: the row's adapter says so.
    speakers = [dialect.roles_of(written) or ("", False) for written in encoded.dictionary.to_pylist()]
    return encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), speakers


def _calls(children: Mapping[str, pa.Array], calling: Bools) -> Distinct:
    """The calls of all messages: those in `tool_calls`, and those that a calling role holds as text."""
    codes, values = np.full(len(calling), -1, np.int64), list[Any]()
    for places, child, read in (
        (np.flatnonzero(calling), children["content"], calls_of_text),
        (_filled(children.get("tool_calls")), children.get("tool_calls"), tool_calls),
    ):
        if child is None or not len(places):
            continue
        found = _read(child.take(pa.array(places)), read)
        codes[places] = np.where(codes[places] >= 0, _BOTH, found.codes + len(values))
        values += found.values
    if (codes == _BOTH).any():
        codes[codes == _BOTH] = len(values)
        values.append(None)
    return Distinct(codes, values)


def _filled(child: pa.Array | None) -> Ints:
    """The places of lists, or of other values, that are neither null nor empty."""
    if child is None:
        return np.zeros(0, np.int64)
    filled = pc.is_valid(child)
    if pa.types.is_list(child.type) or pa.types.is_large_list(child.type):
        filled = pc.and_(filled, pc.greater(pc.fill_null(pc.list_value_length(child), 0), 0))
    found: Ints = np.flatnonzero(_mask(filled))
    return found


def _tools(child: pa.Array) -> Distinct:
    """The tools of all rows; None among the values is for those that cannot be read."""
    return _read(child, lambda value, path: tools(value, path) or [])


def _read(child: pa.Array, read: Callable[[Any, Any], Any]) -> Distinct:
    """What an adapter makes of values, each different text once; None for those that it refuses."""
    if _is_text(child.type):
        encoded = child.dictionary_encode(null_encoding="encode")
        codes, given = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()
    else:
        codes = np.arange(len(child))
        given = [row["value"] for row in table_rows(pa.table({"value": child}))]
    made: list[Any] = []
    for value in given:
        try:
            made.append(read(value, root("")))
        except (RowError, RecursionError):  # the row's adapter says what is wrong with it
            made.append(None)
    return Distinct(codes, made)


def _grouped(signatures: Ints, offsets: Ints, rows: Ints, extra: Ints) -> list[Ints]:
    """Rows whose messages have the same signatures, and that have the same extra number."""
    found = []
    sizes = np.diff(offsets)[rows]
    different, codes = np.unique(signatures, return_inverse=True)
    for size in np.flatnonzero(np.bincount(sizes)).tolist():
        here = rows[sizes == size]
        group = extra[here]
        for message in range(size):  # numbers of all beginnings of a row, made few again before they overflow
            group = group * len(different) + codes[offsets[here] + message]
            if group.max() > _LARGE:
                group = np.unique(group, return_inverse=True)[1]
        order = np.argsort(group, kind="stable")
        edges = np.flatnonzero(np.diff(group[order])) + 1
        found += np.split(here[order], edges)
    return found


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _mask(array: pa.Array) -> Bools:
    mask: Bools = array.to_numpy(zero_copy_only=False)
    return mask
