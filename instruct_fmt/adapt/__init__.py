"""Rows of any common shape in, canonical examples out (`Conversation`, `Record`, `Text`).

| format | columns | becomes |
|---|---|---|
| ``messages`` | `messages` (`role`, `content`, `tool_calls`, …), `tools` | `Conversation` |
| ``sharegpt`` | `conversations` (`from`, `value`), `system`, `tools` | `Conversation` |
| ``alpaca`` | `instruction`, `input`, `output`, `system`, `history` | `Conversation` |
| ``prompt_completion`` | `prompt`, `completion`, both text or both messages | `Text` or `Conversation` |
| ``text`` | `text` | `Text` |
| ``record`` | what a record template names | `Record` |

Beside the messages, a row may hold `system`, `tools`, `documents` and `chat_template_kwargs`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from instruct_fmt.adapt import alpaca, detect, messages, prompt_completion, record, text
from instruct_fmt.adapt.arrow import table_rows
from instruct_fmt.adapt.canonical import Dialect, with_dataset_path
from instruct_fmt.adapt.extras import find_extras
from instruct_fmt.adapt.fields import Fields, known_fields
from instruct_fmt.adapt.shapes import Distinct, Layout, ShapedRows, column_of, shaped_messages, shaped_records
from instruct_fmt.errors import RowError
from instruct_fmt.types import Example, TemplateSource

__all__ = [
    "Adapter",
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
    columns: Sequence[str],
    sample: Mapping[str, Any] | None,
    *,
    source: TemplateSource,
    mapping: Mapping[str, str],
    field_map: Mapping[str, str],
    format: str | None,
    system: str | None,
) -> tuple[str, Adapter]:
    """Recognise the format of a dataset and make the function that reads its rows.

    Args:
        columns: the names of the dataset's columns.
        sample: a row, for the name of the format only; what the adapter does never depends on it.
        source: the template: a record template takes its columns, a chat template any conversation.
        mapping: the template's name of a column → the dataset's.
        field_map: our name of a field, or a tag of LLaMA-Factory's → the dataset's.
        format: the format's name; None to recognise it by the columns.
        system: put in front of conversations that have no system message.

    Returns:
        The name of the format, and the adapter: a plain Python row in, an example out. It raises `RowError`
        without the row's number.

    Raises:
        UsageError: names that do not exist, columns that fit no format, preference data.

    >>> chat = TemplateSource("{{ messages }}", "chat", "demo")
    >>> options = {"source": chat, "mapping": {}, "field_map": {}, "format": None, "system": None}
    >>> name, adapt = make_adapter(["instruction", "output"], None, **options)
    >>> name, adapt({"instruction": "Hi", "output": "Hello"}).messages[1]
    ('alpaca', {'role': 'assistant', 'content': 'Hello'})
    """
    name = detect.named(format, source) if format else None
    if source.kind == "record" and name != "text":
        names = {**record.from_field_map(source, field_map), **mapping}
        return "record", _guarded(record.adapter(source, columns, names))
    known = known_fields(columns, mapping, field_map)
    found = name or detect.recognise(known)
    detect.check_used(found, known)
    shown = name or detect.shown_name(found, known, sample)
    return shown, _guarded(_conversational(found, known, named=name is not None, system=system))


def find_shapes(
    table: pa.Table,
    *,
    source: TemplateSource,
    mapping: Mapping[str, str],
    field_map: Mapping[str, str],
    format: str | None,
    system: str | None,
    roles: frozenset[str],
    calls_shape: Callable[[Any], Hashable | None],
) -> list[ShapedRows]:
    """The rows of a table that a plan may take as columns: what the adapter makes of them is plain to see.

    The arguments are those of `make_adapter`; `roles` may be planned, and so may calls that have a `calls_shape`.
    """
    columns = table.column_names
    if source.kind == "record":
        names = {**record.from_field_map(source, field_map), **mapping}
        return [] if format == "text" else shaped_records(table, record.resolve(source, columns, names))
    known = known_fields(columns, mapping, field_map)
    if field_map or mapping or system is not None or detect.recognise(known) != "messages":
        return []
    if format not in (None, "messages", "openai", "sharegpt"):
        return []
    column = known.need("messages", "messages")
    dialect = _dialect(table.schema.field(column).type, known, format)
    if dialect is None:
        return []
    beside = find_extras(known, system)
    own = (beside.system, beside.documents, beside.template_kwargs, *beside.media)
    empty = [name for name in own if name]
    return shaped_messages(table, Layout(column, beside.tools, empty, dialect, roles, calls_shape))


def _dialect(kind: pa.DataType, known: Fields, format: str | None) -> Dialect | None:
    """The dialect of all rows of a column; None where each row tells its own."""
    value: Any = getattr(kind, "value_type", None)
    members = {member.name for member in value} if isinstance(value, pa.StructType) else set()
    openai, sharegpt = messages.dialects(known)
    if ("role" in members) == ("from" in members):
        return None
    found = openai if "role" in members else sharegpt
    return found if format is None or (format == "sharegpt") == (found is sharegpt) else None


def _conversational(format: str, known: Fields, *, named: bool, system: str | None) -> Adapter:
    """The adapter of a format. Where it was not named, rows with messages tell their dialect themselves."""
    if format == "text":
        return text.adapter(known)
    beside = find_extras(known, system)
    if format == "alpaca":
        return alpaca.adapter(known, beside)
    if format == "prompt_completion":
        return prompt_completion.adapter(known, beside)
    return messages.adapter(known, beside, format if named else None)


def _guarded(adapt: Adapter) -> Adapter:
    """Name data that is nested too deep for Python's stack, instead of dying of it."""

    def guarded(row: Mapping[str, Any]) -> Example:
        try:
            return adapt(row)
        except RecursionError:
            expected, fix = "data that is nested less deep", "drop the row, or flatten the data"
            raise RowError("bad-field", "$", "data nested hundreds of levels deep", expected, fix) from None

    return guarded
