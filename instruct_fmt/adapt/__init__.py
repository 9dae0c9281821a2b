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

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from instruct_fmt.adapt import detect
from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.beside import Beside, value_at
from instruct_fmt.adapt.canonical import Dialect, dataset_path, with_column, with_dataset_path
from instruct_fmt.adapt.columns.arrow import filled_nulls, table_rows
from instruct_fmt.adapt.columns.shaped import Distinct, Layout, ShapedRows, column_of, shaped_messages, shaped_records
from instruct_fmt.adapt.extras import find_extras
from instruct_fmt.adapt.fields import Fields, known_fields
from instruct_fmt.adapt.roles import Roles, added_roles, allowed_names, trained_roles
from instruct_fmt.adapt.rows import alpaca, messages, prompt_completion, record, text
from instruct_fmt.adapt.rows.prompt_completion import Texts
from instruct_fmt.adapt.system import NAMES, Unplaced, looked_at
from instruct_fmt.errors import RowError
from instruct_fmt.types import Example, TemplateSource, Text

__all__ = [
    "Adapter",
    "Asked",
    "Beside",
    "Distinct",
    "Roles",
    "ShapedRows",
    "added_roles",
    "allowed_names",
    "check_system",
    "column_of",
    "dataset_path",
    "filled_nulls",
    "find_shapes",
    "make_adapter",
    "table_rows",
    "trained_roles",
    "value_at",
    "with_column",
    "with_dataset_path",
]

Row = Mapping[str, Any]
_Read = Callable[[Row], Example]


@dataclass(frozen=True, slots=True)
class Adapter:
    """What reads the rows of a dataset.

    Attributes:
        format: the name of their format, for reports.
        read: reads a row.
        beside: the columns that it does not read.
        beside_text: the columns that it reads only beside messages, not beside ready text.
    """

    format: str
    read: _Read
    beside: Beside
    beside_text: Beside | None = None

    def __call__(self, row: Row) -> Example:
        """A plain Python row as an example.

        Raises:
            RowError: the row cannot be used; without the row's number.
            UsageError: the user has to decide something for all rows.
        """
        self.beside.check(row)
        try:
            found = self.read(row)
        except RecursionError:
            expected, fix = "data that is nested less deep", "drop the row, or flatten the data"
            raise RowError("bad-field", "$", "data nested hundreds of levels deep", expected, fix) from None
        if isinstance(found, Text) and self.beside_text is not None:
            self.beside_text.check(row)
        return found

    def said_in(self, row: Row, example: Example) -> Iterator[tuple[str, Any]]:
        """What a row says in columns that are read only beside messages, where it is ready text."""
        if isinstance(example, Text) and self.beside_text is not None:
            yield from self.beside_text.said_in(row)


def make_adapter(columns: Sequence[str], sample: Row | None, source: TemplateSource, asked: Asked) -> Adapter:
    """Recognise the format of a dataset and make the function that reads its rows.

    Args:
        columns: the names of the dataset's columns.
        sample: a row, for the name of the format only; what the adapter does never depends on it.
        source: the template: a record template takes its columns, a chat template any conversation.
        asked: what the user says about the rows.

    Raises:
        UsageError: names that do not exist, columns that fit no format, preference data, a system prompt without a
            place.

    >>> chat = TemplateSource("{{ messages }}", "chat", "demo")
    >>> adapter = make_adapter(["instruction", "output"], None, chat, Asked())
    >>> adapter.format, adapter({"instruction": "Hi", "output": "Hello"}).messages[1]
    ('alpaca', {'role': 'assistant', 'content': 'Hello'})
    """
    name = detect.named(asked.format, source) if asked.format else None
    if source.kind == "record" and name != "text":
        return _adapter("record", columns, record.adapter(source, columns, asked), asked)
    known = known_fields(columns, asked.columns, asked.field_map)
    found = detect.of_instructions(known) if name == "instruction" else name or detect.recognise(known)
    detect.check_used(found, known)
    texts = prompt_completion.reading(name, source)
    shown = found if name else detect.shown_name(found, known, sample, texts_as_messages=texts == "messages")
    pairs = known if found in ("prompt_completion", "instruction") else None
    return _adapter(shown, columns, _conversational(found, known, asked, texts, source), asked, pairs)


def _adapter(
    format: str, columns: Sequence[str], made: tuple[Sequence[str], _Read], asked: Asked, fields: Fields | None = None
) -> Adapter:
    read, reader = made
    beside_text = Beside.of(find_extras(fields, None).columns, (), asked.allow_dropped) if fields else None
    return Adapter(format, reader, Beside.of(columns, read, asked.allow_dropped), beside_text)


def check_system(source: TemplateSource, asked: Asked) -> None:
    """A system prompt for all rows needs a place in a record template.

    Raises:
        UsageError: there is none.
    """
    lost = record.unplaced(source, (), dict.fromkeys(source.columns, ""), asked)
    if lost is not None and not set(NAMES) & set(source.columns):
        lost.check_default()


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


def _conversational(
    found: str, known: Fields, asked: Asked, texts: Texts, source: TemplateSource
) -> tuple[Sequence[str], _Read]:
    """The adapter of a format. Where it was not named, rows with messages tell their dialect themselves."""
    if found == "text":
        return text.adapter(known, Unplaced.of(asked, known.find("system"), "ready text", "write it into the text"))
    beside = find_extras(known, asked.system, asked.allow_dropped)
    if found == "alpaca":
        return alpaca.adapter(known, beside)
    spoken = messages.dialects(known, asked, source)
    if found in ("prompt_completion", "instruction"):
        return prompt_completion.adapter(known, beside, spoken, prompt_completion.reader(texts, known, beside, asked))
    return messages.adapter(known, beside, spoken, found if asked.format else None)
