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

A table's rows of plain shape are read as columns, by `columns/find.py`.

Beside the messages, a row may hold `system`, `tools`, `documents` and `chat_template_kwargs`. A system prompt that
nothing would print is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instruct_fmt.adapt import detect
from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.beside import Beside
from instruct_fmt.adapt.extras import find_extras
from instruct_fmt.adapt.fields import known_fields
from instruct_fmt.adapt.formats import Given
from instruct_fmt.adapt.rows import record
from instruct_fmt.adapt.system import NAMES
from instruct_fmt.errors import RowError
from instruct_fmt.types import Example, TemplateSource, Text

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
    named = detect.named(asked.format, source) if asked.format else None
    if source.kind == "record" and named is None:
        read, of_record = record.adapter(source, columns, asked)
        return Adapter(detect.RECORD, of_record, Beside.of(columns, read, asked.allow_dropped))
    fields = known_fields(columns, asked.columns, asked.field_map)
    format = detect.format_of(fields, named)
    given = Given(fields, asked, source, named.name if named else None)
    name = format.name if named else format.shown(format, given, sample)
    read, reader = format.make(given)
    beside = find_extras(fields, None).columns if format.ready_text else ()
    beside_text = Beside.of(beside, (), asked.allow_dropped) if format.ready_text else None
    return Adapter(name, reader, Beside.of(columns, read, asked.allow_dropped), beside_text)


def check_system(source: TemplateSource, asked: Asked) -> None:
    """A system prompt for all rows needs a place in a record template.

    Raises:
        UsageError: there is none.
    """
    lost = record.unplaced(source, (), dict.fromkeys(source.columns, ""), asked)
    if lost is not None and not set(NAMES) & set(source.columns):
        lost.check_default()
