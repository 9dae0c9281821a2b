"""Rows of any common shape in, canonical examples out (`Conversation`, `Record`, `Text`).

| format | columns | becomes |
|---|---|---|
| ``messages`` | `messages` (`role`, `content`, `tool_calls`, …), `tools` | `Conversation` |
| ``sharegpt`` | `conversations` (`from`, `value`), `system`, `tools` | `Conversation` |
| ``alpaca`` | `instruction`, `input`, `output`, `system`, `history` | `Conversation` |
| ``prompt_completion`` | `prompt`, `completion`, both text or both messages | `Text` or `Conversation` |
| ``instruction`` | the same, text too as messages; or the columns of ``alpaca`` | `Conversation` |
| ``text`` | `text` | `Text` |
| ``record`` | what a record template names | `Record` |

Beside the messages, a row may hold `system`, `tools`, `documents` and `chat_template_kwargs`. A system prompt that
nothing would print is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from instruct_fmt.adapt import alpaca, detect, messages, prompt_completion, record, text
from instruct_fmt.adapt.arrow import table_rows
from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.canonical import Dialect, with_dataset_path
from instruct_fmt.adapt.extras import find_extras
from instruct_fmt.adapt.fields import Fields, known_fields
from instruct_fmt.adapt.prompt_completion import Texts
from instruct_fmt.adapt.shapes import Distinct, Layout, ShapedRows, column_of, shaped_messages, shaped_records
from instruct_fmt.adapt.system import Unplaced
from instruct_fmt.errors import RowError
from instruct_fmt.types import Example, TemplateSource

__all__ = [
    "Adapter",
    "Asked",
    "Distinct",
    "ShapedRows",
    "column_of",
    "find_shapes",
    "make_adapter",
    "table_rows",
    "with_dataset_path",
]

Adapter = Callable[[Mapping[str, Any]], Example]


def make_adapter(
    columns: Sequence[str], sample: Mapping[str, Any] | None, source: TemplateSource, asked: Asked
) -> tuple[str, Adapter]:
    """Recognise the format of a dataset and make the function that reads its rows.

    Args:
        columns: the names of the dataset's columns.
        sample: a row, for the name of the format only; what the adapter does never depends on it.
        source: the template: a record template takes its columns, a chat template any conversation.
        asked: what the user says about the rows.

    Returns:
        The name of the format, and the adapter: a plain Python row in, an example out. It raises `RowError`
        without the row's number, and `UsageError` for what the user has to decide for all rows.

    Raises:
        UsageError: names that do not exist, columns that fit no format, preference data, a system prompt without a
            place.

    >>> chat = TemplateSource("{{ messages }}", "chat", "demo")
    >>> name, adapt = make_adapter(["instruction", "output"], None, chat, Asked())
    >>> name, adapt({"instruction": "Hi", "output": "Hello"}).messages[1]
    ('alpaca', {'role': 'assistant', 'content': 'Hello'})
    """
    name = detect.named(asked.format, source) if asked.format else None
    if source.kind == "record" and name != "text":
        return "record", _guarded(record.adapter(source, columns, asked))
    known = known_fields(columns, asked.columns, asked.field_map)
    found = detect.of_instructions(known) if name == "instruction" else name or detect.recognise(known)
    detect.check_used(found, known)
    texts = prompt_completion.reading(name, source)
    shown = found if name else detect.shown_name(found, known, sample, texts_as_messages=texts == "messages")
    return shown, _guarded(_conversational(found, known, asked, texts))


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
    if format is None and detect.recognise(known) != "messages":
        return []
    column = known.need("messages", "messages")
    dialect = _dialect(table.schema.field(column).type, known, format)
    if dialect is None:
        return []
    beside = find_extras(known, None)
    own = (beside.system, beside.documents, beside.template_kwargs, *beside.media)
    empty = [name for name in own if name]
    return shaped_messages(table, Layout(column, beside.tools, empty, dialect, roles, calls_shape))


def _record_shapes(table: pa.Table, source: TemplateSource, asked: Asked) -> list[ShapedRows]:
    """The rows of a record template; those with a system prompt of the formatter's or without a place go by row."""
    if asked.format == "text" or asked.system is not None:
        return []
    found = record.resolve(source, table.column_names, record.names(source, asked))
    unplaced = record.unplaced(source, table.column_names, found, asked)
    return [] if unplaced is not None and unplaced.fills(table) else shaped_records(table, found)


def _dialect(kind: pa.DataType, known: Fields, format: str | None) -> Dialect | None:
    """The dialect of all rows of a column; None where each row tells its own."""
    value: Any = getattr(kind, "value_type", None)
    members = {member.name for member in value} if isinstance(value, pa.StructType) else set()
    openai, sharegpt = messages.dialects(known)
    if ("role" in members) == ("from" in members):
        return None
    found = openai if "role" in members else sharegpt
    return found if format is None or (format == "sharegpt") == (found is sharegpt) else None


def _conversational(found: str, known: Fields, asked: Asked, texts: Texts) -> Adapter:
    """The adapter of a format. Where it was not named, rows with messages tell their dialect themselves."""
    if found == "text":
        return text.adapter(known, Unplaced.of(asked, known.find("system"), "ready text", "write it into the text"))
    beside = find_extras(known, asked.system)
    if found == "alpaca":
        return alpaca.adapter(known, beside)
    if found in ("prompt_completion", "instruction"):
        return prompt_completion.adapter(known, beside, prompt_completion.reader(texts, known, beside, asked))
    return messages.adapter(known, beside, found if asked.format else None)


def _guarded(adapt: Adapter) -> Adapter:
    """Name data that is nested too deep for Python's stack, instead of dying of it."""

    def guarded(row: Mapping[str, Any]) -> Example:
        try:
            return adapt(row)
        except RecursionError:
            expected, fix = "data that is nested less deep", "drop the row, or flatten the data"
            raise RowError("bad-field", "$", "data nested hundreds of levels deep", expected, fix) from None

    return guarded
