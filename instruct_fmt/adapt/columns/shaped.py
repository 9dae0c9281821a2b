"""Rows of plain shape, straight from the columns of a table, without a Python object for each.

In: an Arrow table. Out: groups of rows whose messages have the same roles and fields (or whose records have the same
columns), each text of a group as one column. Calls and tools are read by the adapters, each different one once. Rows
that say more are in no group; the adapters read those.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.adapt.canonical import FLAGS, Dialect
from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.adapt.columns.beneath import Beneath
from instruct_fmt.adapt.columns.distinct import TEXT, Distinct, column_of, is_text, read_distinct
from instruct_fmt.adapt.columns.joined import joined_parts
from instruct_fmt.adapt.tools import calls_of_text, tool_calls
from instruct_fmt.common.reasoning import REASONING
from instruct_fmt.types import Bools, Ints

_TEXTS = ("content", "name", "tool_call_id")
_OWN = frozenset({*_TEXTS, *REASONING, "role", "prefix", "train_detail"})
"""Fields of messages that are something else than words beside what a message says."""
CALLS = ("tool_calls", "function_call")
"""Fields of messages that hold calls."""
_LARGE = 2**40
_BOTH = -2  # a message with calls in both places


@dataclass(frozen=True, slots=True)
class ShapedRows:
    """Rows of one shape.

    Attributes:
        places: the rows' places in the table, ascending.
        texts: (message, field) or (place, name) → its values in these rows, large_string.
        calls: message → its calls in these rows.
        tools: the tools of these rows; None where they have none.
        roles: the roles of the messages.
    """

    places: Ints
    texts: Mapping[tuple[int, str], pa.Array]
    calls: Mapping[int, Distinct] = field(default_factory=dict)
    tools: Distinct | None = None
    roles: Sequence[str] = ()

    def only(self, rows: Bools) -> ShapedRows:
        """Some of the rows."""
        if rows.all():
            return self
        here = np.flatnonzero(rows)
        return ShapedRows(
            self.places[rows],
            {place: column.take(pa.array(here)) for place, column in self.texts.items()},
            {place: calls.take(here) for place, calls in self.calls.items()},
            None if self.tools is None else self.tools.take(here),
            self.roles,
        )

    def behind(self, system: pa.Array) -> ShapedRows:
        """The rows with a system message in front of the others."""
        texts = {(place + 1, name): column for (place, name), column in self.texts.items()}
        calls = {place + 1: found for place, found in self.calls.items()}
        return ShapedRows(self.places, {(0, "content"): system, **texts}, calls, self.tools, ("system", *self.roles))


@dataclass(frozen=True, slots=True)
class Planned:
    """What plans take of conversations.

    Attributes:
        roles: the roles that may be planned.
        calls_shape: what calls of one shape have in common; None for calls that cannot be planned.
        variables_shape: the same for the template variables of a row.
    """

    roles: frozenset[str]
    calls_shape: Callable[[Any], Hashable | None]
    variables_shape: Callable[[Mapping[str, Any]], Hashable | None]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table keeps conversations.

    Attributes:
        dialect: how messages are written.
        planned: what may be planned.
        beneath: the columns beside them.
    """

    dialect: Dialect
    planned: Planned
    beneath: Beneath


def shaped_records(table: pa.Table, plain: Bools, found: Mapping[str, str]) -> list[ShapedRows]:
    """The rows whose columns are all there and all text.

    Args:
        table: the rows.
        plain: for each row whether it may be one of them.
        found: the template's names → the table's columns.
    """
    arrays = {name: table.column(column).combine_chunks() for name, column in found.items()}
    if not arrays or not all(is_text(array.type) for array in arrays.values()):
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


def shaped_texts(prompts: pa.Array | None, completions: pa.Array, plain: Bools) -> list[ShapedRows]:
    """The rows of ready text, with a prompt in front or without."""
    if not is_text(completions.type) or not (prompts is None or is_text(prompts.type)):
        return []
    whole = plain & _mask(pc.is_valid(completions))
    if prompts is not None:
        whole &= _mask(pc.is_valid(prompts))
    places = np.flatnonzero(whole)
    if not len(places):
        return []
    first = pa.repeat(pa.scalar("", TEXT), len(places)) if prompts is None else _some(prompts, places)
    return [ShapedRows(places, {(0, "prompt"): first, (1, "completion"): _some(completions, places)})]


def shaped_pairs(questions: pa.Array, answers: pa.Array, plain: Bools, beneath: Beneath) -> list[ShapedRows]:
    """The rows of a question and its answer."""
    if not is_text(questions.type) or not is_text(answers.type):
        return []
    whole = plain & beneath.plain & _mask(pc.and_(pc.is_valid(questions), pc.is_valid(answers)))
    found = []
    for group in np.unique(beneath.groups[whole]).tolist():
        places = np.flatnonzero(whole & (beneath.groups == group))
        texts = {(0, "content"): _some(questions, places), (1, "content"): _some(answers, places)}
        found.append(ShapedRows(places, texts, {}, beneath.tools_of(places), ("user", "assistant")))
    return found


def _some(column: pa.Array, places: Ints) -> pa.Array:
    """The texts of some rows."""
    return (column if len(places) == len(column) else column.take(pa.array(places))).cast(TEXT)


def shaped_messages(lists: pa.Array, plain: Bools, layout: Layout) -> list[ShapedRows]:
    """The rows among the `plain` ones whose messages have a known role, text, calls, flags, and nothing else."""
    kind = lists.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return []
    found = _Messages.of(lists.values, layout)
    if found is None:
        return []
    offsets = np.asarray(lists.offsets, np.int64)
    spoiled = np.concatenate([[0], np.cumsum(~found.plain)])[offsets]
    whole = plain & (np.diff(spoiled) == 0) & (np.diff(offsets) > 0) & _mask(pc.is_valid(lists))
    whole &= layout.beneath.plain
    groups = _grouped(found.signatures, offsets, np.flatnonzero(whole), layout.beneath.groups)
    return [found.rows(offsets, places, layout.beneath.tools_of(places)) for places in groups]


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
    def of(cls, messages: pa.StructArray, layout: Layout) -> _Messages | None:
        """The messages of a struct; None where it is not as the dialect has it."""
        dialect, planned = layout.dialect, layout.planned
        fields = zip(messages.type, messages.flatten(), strict=True)
        named = [(_name(member.name, dialect), child) for member, child in fields]
        children = dict(named)
        if len(children) < len(named) or not all(name in children for name in ("role", "content")):
            return None
        plain = _mask(pc.is_valid(messages))
        joined = joined_parts(children["content"])
        if joined is not None:
            children["content"], right = joined
            plain &= right
        if not (is_text(children["role"].type) and is_text(children["content"].type)):
            return None
        roles, speakers = _roles(children.pop("role"), dialect)
        known = np.array([role in planned.roles for role, _ in speakers] or [False])
        plain &= (roles >= 0) & known[roles]
        calling = np.array([is_call for _, is_call in speakers] or [False])[roles] & plain
        calls = _calls(children, calling)
        reasoning = next((name for name in REASONING if name in children), None)
        names = [*_TEXTS, *([] if reasoning is None else [reasoning])]
        texts = {name: children[name] for name in names if name in children and is_text(children[name].type)}
        flags = _flags({name: child for name, child in children.items() if name in FLAGS}, plain)
        for name, child in children.items():
            if name in texts or name in CALLS or name in FLAGS:
                continue
            if name in _OWN or not name.isidentifier() or not is_aside(child.type):
                plain &= _mask(pc.is_null(child))
            else:
                texts[name] = child if is_text(child.type) else _json_of(child)
        if calling.any():
            texts["content"] = pc.if_else(pa.array(calling), pa.scalar("", texts["content"].type), texts["content"])
        shapes = [None if value is None else planned.calls_shape(value) for value in calls.values]
        numbers = {shape: number for number, shape in enumerate(dict.fromkeys(shapes))}
        shape_of = np.array([0, *(numbers[shape] + 1 for shape in shapes)])
        plain &= np.array([True, *(shape is not None for shape in shapes)])[calls.codes + 1]
        signatures = (roles * (len(numbers) + 1) + shape_of[calls.codes + 1]) * 3 + flags
        for child in texts.values():
            signatures = signatures * 2 + _mask(pc.is_valid(child))
        plain &= _mask(pc.is_valid(texts["content"])) | (calls.codes >= 0)
        texts = {name: child.cast(TEXT) for name, child in texts.items()}
        role_names, calling_roles = [role for role, _ in speakers], [is_call for _, is_call in speakers]
        return cls(plain, signatures, roles, role_names, texts, calls, calling_roles, dialect.linked)

    def rows(self, offsets: Ints, places: Ints, tools: Distinct | None) -> ShapedRows:
        """Rows of one shape, as columns; `tools` are theirs."""
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
                if name in REASONING:
                    texts |= {(number, alias): texts[number, name] for alias in ("thinking", "reasoning_content")}
        calling = np.flatnonzero(self.calls.codes[first : first + size] >= 0).tolist()
        calls = {number: self.calls.take(offsets[places] + number) for number in calling}
        here_roles = self.roles[first : first + size].tolist()
        roles = [self.role_names[role] for role in here_roles]
        if self.linked or any(self.calling[role] for role in here_roles):
            self._link(roles, calls, texts)
        return ShapedRows(places, texts, calls, tools, roles)

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


def is_aside(kind: pa.DataType) -> bool:
    """Whether a field of messages that no format knows may be planned: a text, a number, a flag, a list, an object."""
    types = pa.types
    looks = (is_text, types.is_boolean, types.is_integer, types.is_floating, types.is_list, types.is_struct)
    return any(look(kind) for look in looks)


def _json_of(child: pa.Array) -> pa.Array:
    """Numbers, flags, lists or objects as JSON."""
    if pa.types.is_boolean(child.type) or pa.types.is_integer(child.type):
        return child.cast(TEXT)
    if pa.types.is_floating(child.type):  # nothing but whether there is one is read of a number
        return pc.if_else(pc.is_finite(child), child, 0.0).cast(TEXT)
    values = [row["value"] for row in table_rows(pa.table({"value": child}))]
    return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values], TEXT)


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
        *((_filled(children.get(name)), children.get(name), tool_calls) for name in CALLS),
    ):
        if child is None or not len(places):
            continue
        found = read_distinct(child.take(pa.array(places)), read)
        codes[places] = np.where(codes[places] >= 0, _BOTH, found.codes + len(values))
        values += found.values
    if (codes == _BOTH).any():
        codes[codes == _BOTH] = len(values)
        values.append(None)
    return Distinct(codes, values)


def _name(name: str, dialect: Dialect) -> str:
    """Our name of a message's field."""
    ours = {dialect.role: "role", dialect.content: "content"}
    return ours.get(name) or dialect.rename.get(name, name)


def _flags(children: Mapping[str, pa.Array], plain: Bools) -> Ints:
    """For each message 0 where no flag says whether it is trained, 1 where one says no, 2 where it says yes; those
    with two flags, or with other values, are not plain."""
    found = np.zeros(len(plain), np.int64)
    for child in children.values():
        if pa.types.is_boolean(child.type):
            no, yes = pc.invert(child), child
        elif pa.types.is_integer(child.type) or pa.types.is_floating(child.type):
            no, yes = pc.equal(child, 0), pc.equal(child, 1)
        else:
            plain &= _mask(pc.is_null(child))
            continue
        state = _mask(pc.fill_null(no, False)) + 2 * _mask(pc.fill_null(yes, False))
        plain &= ((state > 0) | ~_mask(pc.is_valid(child))) & ((found == 0) | (state == 0))
        found += state
    return found


def _filled(child: pa.Array | None) -> Ints:
    """The places of lists, or of other values, that are neither null nor empty."""
    if child is None:
        return np.zeros(0, np.int64)
    filled = pc.is_valid(child)
    if pa.types.is_list(child.type) or pa.types.is_large_list(child.type):
        filled = pc.and_(filled, pc.greater(pc.fill_null(pc.list_value_length(child), 0), 0))
    found: Ints = np.flatnonzero(_mask(filled))
    return found


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


def _mask(array: pa.Array) -> Bools:
    mask: Bools = array.to_numpy(zero_copy_only=False)
    return mask
