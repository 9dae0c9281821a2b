"""Rows of plain shape among a table's columns, as the adapters would read them.

In: a table, the template, what the user says. Out: groups of rows of one shape, with a column for each of their texts.
The rows' own way is `adapt/adapter.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.adapt import detect
from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.beside import Beside, filled
from instruct_fmt.adapt.canonical import Dialect
from instruct_fmt.adapt.columns.beneath import Beneath, variable_groups
from instruct_fmt.adapt.columns.distinct import is_text
from instruct_fmt.adapt.columns.joined import joined_lists
from instruct_fmt.adapt.columns.shaped import (
    Layout,
    Planned,
    ShapedRows,
    shaped_messages,
    shaped_pairs,
    shaped_records,
    shaped_texts,
)
from instruct_fmt.adapt.columns.system import with_system
from instruct_fmt.adapt.extras import Extras, find_extras
from instruct_fmt.adapt.fields import known_fields
from instruct_fmt.adapt.formats import Format, Given
from instruct_fmt.adapt.rows import alpaca, messages, prompt_completion, record, text
from instruct_fmt.adapt.system import Unplaced, looked_at
from instruct_fmt.types import Bools, TemplateSource


def find_shapes(table: pa.Table, source: TemplateSource, asked: Asked, planned: Planned) -> list[ShapedRows]:
    """The rows of a table that a plan may take as columns: what the adapter makes of them is plain to see.

    The arguments are those of `make_adapter`, and what may be planned.
    """
    named = detect.named(asked.format, source) if asked.format else None
    if source.kind == "record" and named is None:
        return _record_shapes(table, source, asked)
    fields = known_fields(table.column_names, asked.columns, asked.field_map)
    format = detect.format_of(fields, named)
    given = Given(fields, asked, source, named.name if named else None)
    read, _ = format.make(given)
    plain = ~Beside.of(table.column_names, read, asked.allow_dropped).doubtful(table)
    return _SHAPES[format](given, table, plain, planned)


def _record_shapes(table: pa.Table, source: TemplateSource, asked: Asked) -> list[ShapedRows]:
    """The rows of a record template; those with a system prompt of the formatter's or without a place go by row."""
    if asked.system is not None:
        return []
    found = record.resolve(source, table.column_names, record.names(source, asked))
    unplaced = record.unplaced(source, table.column_names, found, asked)
    if unplaced is not None and unplaced.fills(table):
        return []
    beside = Beside.of(table.column_names, (*found.values(), *looked_at(unplaced)), asked.allow_dropped)
    return shaped_records(table, ~beside.doubtful(table), found)


def _of_messages(given: Given, table: pa.Table, plain: Bools, planned: Planned) -> list[ShapedRows]:
    column = given.fields.need("messages", "messages")
    dialect = _dialect(table.schema.field(column).type, given)
    if dialect is None:
        return []
    layout = Layout(dialect, planned, _beneath(table, given.extras, planned))
    return with_system(shaped_messages(table.column(column).combine_chunks(), plain, layout), table, given.extras)


def _of_prompts(given: Given, table: pa.Table, plain: Bools, planned: Planned) -> list[ShapedRows]:
    """Prompts and completions, both text or both messages."""
    fields = given.fields
    prompt = fields.need("prompt", "prompt_completion")
    completion = fields.find("completion") or fields.find("output") or fields.need("completion", "prompt_completion")
    first, second = (table.column(name).combine_chunks() for name in (prompt, completion))
    if not (is_text(first.type) and is_text(second.type)):
        return _of_message_prompts(given, table, plain, planned, first, second)
    how = prompt_completion.reading(given.named, given.source)
    if how == "messages":
        marker = prompt_completion.marker_of(given.asked.markers)
        for column in (first, second) if given.asked.markers else ():
            plain &= ~_mask(pc.fill_null(pc.match_substring_regex(column, marker), True))
        return with_system(
            shaped_pairs(first, second, plain, _beneath(table, given.extras, planned)), table, given.extras
        )
    if how == "undecided" or not _has_no_system(given, table):
        return []
    for name in find_extras(fields, None).columns:  # what is read beside messages only
        plain &= ~filled(table.column(name))
    return shaped_texts(first, second, plain)


def _of_message_prompts(
    given: Given, table: pa.Table, plain: Bools, planned: Planned, first: pa.Array, second: pa.Array
) -> list[ShapedRows]:
    dialect = _dialect(first.type, given)
    joined = joined_lists(first, second)
    if dialect is None or joined is None:
        return []
    lists, whole = joined
    layout = Layout(dialect, planned, _beneath(table, given.extras, planned))
    return with_system(shaped_messages(lists, plain & whole, layout), table, given.extras)


def _of_instructions(given: Given, table: pa.Table, plain: Bools, planned: Planned) -> list[ShapedRows]:
    """Records for a chat template."""
    fields = given.fields
    instruction, output, context = alpaca.columns_of(fields)
    first, second = (table.column(name).combine_chunks() for name in (instruction, output))
    history = fields.find("history")
    if history is not None:
        plain &= _mask(pc.is_null(table.column(history).combine_chunks()))
    if context is not None:
        more = table.column(context).combine_chunks()
        if not (is_text(more.type) and is_text(first.type)):
            return []
        first, more = first.cast(pa.large_string()), pc.fill_null(more.cast(pa.large_string()), "")
        both = pc.and_(pc.not_equal(first, ""), pc.not_equal(more, ""))
        first = pc.binary_join_element_wise(first, more, pc.if_else(both, "\n", "").cast(pa.large_string()))
    return with_system(shaped_pairs(first, second, plain, _beneath(table, given.extras, planned)), table, given.extras)


def _of_texts(given: Given, table: pa.Table, plain: Bools, planned: Planned) -> list[ShapedRows]:
    column = table.column(given.fields.need("text", "text")).combine_chunks()
    return shaped_texts(None, column, plain) if _has_no_system(given, table) else []


_SHAPES: Mapping[Format, Callable[[Given, pa.Table, Bools, Planned], list[ShapedRows]]] = {
    prompt_completion.FORMAT: _of_prompts,
    prompt_completion.INSTRUCTION: _of_prompts,
    messages.FORMAT: _of_messages,
    messages.SHAREGPT: _of_messages,
    alpaca.FORMAT: _of_instructions,
    text.FORMAT: _of_texts,
}


def _beneath(table: pa.Table, extras: Extras, planned: Planned) -> Beneath:
    """The columns beside the messages, but for system prompts."""
    empty = [name for name in (extras.documents, *extras.media) if name]
    given = table.column(extras.template_kwargs).combine_chunks() if extras.template_kwargs else None
    variables = None if given is None else variable_groups(given, planned.variables_shape)
    return Beneath(
        table.num_rows,
        table.column(extras.tools).combine_chunks() if extras.tools else None,
        variables,
        [table.column(name).combine_chunks() for name in empty],
    )


def _has_no_system(given: Given, table: pa.Table) -> bool:
    """Whether no system prompt would be lost beside ready text."""
    unplaced = Unplaced.of(given.asked, given.fields.find("system"), "", "")
    return unplaced is None or (not unplaced.default and not unplaced.fills(table))


def _dialect(kind: pa.DataType, given: Given) -> Dialect | None:
    """The dialect of all rows of a column; None where each row tells its own."""
    value: Any = getattr(kind, "value_type", None)
    members = {member.name for member in value} if isinstance(value, pa.StructType) else set()
    openai, sharegpt = messages.dialects(given.fields, given.asked, given.source)
    if {"role", "from"} <= members:
        return None
    found = sharegpt if "from" in members else openai
    named = given.named if given.named in ("messages", "sharegpt") else None
    return found if named is None or (named == "sharegpt") == (found is sharegpt) else None


def _mask(array: pa.Array) -> Bools:
    mask: Bools = array.to_numpy(zero_copy_only=False)
    return mask
