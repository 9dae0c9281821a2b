"""What nothing read of a row, under the dataset's own names.

In: an example and what was printed of it. Out: paths such as ``$.messages[assistant].thought``, with the first value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from instruct_fmt.adapt.beside import Beside, value_at
from instruct_fmt.adapt.canonical import dataset_path
from instruct_fmt.common.names import nearest_name
from instruct_fmt.common.reasoning import split_reasoning
from instruct_fmt.errors import UsageError, shown
from instruct_fmt.template.label.coverage import shown_path, unread
from instruct_fmt.template.plan.shape_group import ShapeGroup
from instruct_fmt.template.plan.unprinted import THOUGHT
from instruct_fmt.template.trace.origins import DOCUMENTS, TOOLS, VARIABLES, Field
from instruct_fmt.types import Bools, Conversation, Example, Ints, Marked, PlannedRows, TemplateSource, Unread

_BESIDE: Mapping[int, str] = {TOOLS: "tools", DOCUMENTS: "documents", VARIABLES: "chat_template_kwargs"}
# Fields of messages that another name may be given to.
_FLAGS = ("train", "weight")
_OF_MESSAGES = ("name", "tool_calls", "tool_call_id", "reasoning_content", *_FLAGS)


def of_row(
    example: Example, rows: Sequence[Marked], source: TemplateSource, columns: Mapping[str, str], number: int
) -> Iterator[tuple[str, Unread]]:
    """What none of the texts that were made of a row has of it.

    Args:
        example: the row.
        rows: its texts.
        source: the template.
        columns: names of a record template → the dataset's.
        number: the row's number.
    """
    printed = frozenset().union(*(marked.printed for marked in rows))
    found: dict[str, Any] = {}
    for leaf in unread(example, printed, source.mentioned | source.variables):
        found.setdefault(_path(example, leaf.field, columns), leaf.value)
    for path, value in (*found.items(), *_inline_reasoning(example, rows)):
        yield path, Unread(1, number, shown(value))


def _inline_reasoning(example: Example, rows: Sequence[Marked]) -> Iterator[tuple[str, str]]:
    """A block of reasoning inside a content of which the rest is printed; plans tell it by `_unprinted_thoughts`."""
    for place, message in enumerate(example.messages if isinstance(example, Conversation) else ()):
        content = message.get("content")
        split = split_reasoning(content) if isinstance(content, str) and message["role"] == "assistant" else None
        thought = split[0].strip() if split is not None else ""
        if thought and not any(thought in marked.text for marked in rows):
            yield _path(example, Field(place, ("content",)), {}), thought
            return


def of_columns(beside: Beside, rows: Iterable[Mapping[str, Any]], first_row: int) -> Iterator[tuple[str, Unread]]:
    """The columns of rows that nothing reads; `first_row` is the number of the first row in the dataset."""
    for number, row in enumerate(rows, first_row):
        for name, value in beside.said_in(row):
            yield f"$.{name}", Unread(1, number, shown(value))


def of_table(beside: Beside, table: pa.Table, first_row: int) -> Iterator[tuple[str, Unread]]:
    """The same for a table."""
    for name, said in beside.said(table):
        first = int(np.argmax(said))
        value = shown(value_at(table, name, first))
        yield f"$.{name}", Unread(int(np.count_nonzero(said)), first_row + first, value)


def of_plans(
    groups: Iterable[PlannedRows], shapes: Sequence[ShapeGroup], columns: Mapping[str, str], numbers: Ints, left: Bools
) -> Iterator[tuple[str, Unread]]:
    """The same for rows that have plans; `numbers` are the numbers of all rows in the dataset, `left` those that go
    another way all the same."""
    for group in groups:
        if not group.unread:
            continue
        example = _example_at(shapes, int(group.places[0]))
        said: dict[str, Any] = {}
        for field, mask in group.unread.items():
            path = _path(example, _named(field), columns)
            said[path] = said.get(path, False) | mask
        for path, found in said.items():
            mask = found & ~left[group.places]
            if not mask.any():
                continue
            at = int(np.argmax(mask))
            first = _example_at(shapes, int(group.places[at]))
            fields = [
                field
                for field, mask in group.unread.items()
                if mask[at] and _path(example, _named(field), columns) == path
            ]
            values = (_value(first, field) for field in sorted(fields, key=partial(_order, first)))
            value = next((value for value in values if value is not None), "")
            yield path, Unread(int(np.count_nonzero(mask)), int(numbers[group.places[at]]), shown(value))


def check_named(example: Example, field_map: Mapping[str, str]) -> list[str]:
    """The fields of messages in `field_map` that this row has.

    Raises:
        UsageError: none of the row's messages has a field, but one with nearly the name that was given for it.
    """
    if not isinstance(example, Conversation):
        return []
    named = [ours for ours in _OF_MESSAGES if ours in field_map]
    flagged = any(flag is not None for flag in example.train)
    present = [
        ours for ours in named if (flagged if ours in _FLAGS else any(ours in message for message in example.messages))
    ]
    for ours in named:
        if ours not in present:
            names = {name for message in example.messages for name in message}
            near = nearest_name(field_map[ours], names - {"role", "content"})
            if near is not None:
                raise UsageError(
                    f"field_map[{ours!r}]",
                    f"{field_map[ours]!r}, which no message of the row has",
                    f"one of their fields, {', '.join(map(repr, sorted(names)))}",
                    f"field_map={{{ours!r}: {near!r}}}",
                )
    return present


def named_fields(field_map: Mapping[str, str]) -> list[str]:
    """The fields of messages that a `field_map` names."""
    return [ours for ours in _OF_MESSAGES if ours in field_map]


def _path(example: Example, field: Field, columns: Mapping[str, str]) -> str:
    place, path = field
    if not isinstance(example, Conversation):
        name = str(path[0])
        return f"$.{columns.get(name, name)}"
    if place in _BESIDE:
        column = example.columns.get(_BESIDE[place], _BESIDE[place])
        if place == VARIABLES:
            return f"$.{column}.{path[0]}"
        inside = shown_path(path[1:])
        return f"$.{column}[].{inside}" if inside else f"$.{column}"
    inside = shown_path(path[1:])
    if path[1:] and isinstance(path[1], int):
        inside = f"[{path[1]}]{inside.removeprefix('[]')}"  # a call may be a part of the content
    told = dataset_path(example, place, str(path[0]), inside if inside.startswith("[") or not inside else f".{inside}")
    told = re.sub(r"\[\d+\]", f"[{example.messages[place]['role']}]", told, count=1)
    return re.sub(r"\[\d+\]", "[]", told)


def _example_at(shapes: Sequence[ShapeGroup], place: int) -> Example:
    """The row at a place of the batch."""
    for shape in shapes:
        at = int(np.searchsorted(shape.places, place))
        if at < len(shape.places) and shape.places[at] == place:
            return shape.example(at)
    raise LookupError(place)


def _named(field: tuple[int, tuple[str | int, ...]]) -> Field:
    """A field as a report names it: reasoning inside of a content is of the content."""
    place, path = field
    return Field(place, path[:-1] if path[-1] == THOUGHT else path)


def _value(example: Example, field: tuple[int, tuple[str | int, ...]]) -> Any:
    place, path = field
    if path[-1] == THOUGHT:
        split = split_reasoning(str(_value(example, _named(field))))
        return split[0].strip() if split is not None else None
    if not isinstance(example, Conversation):
        return next(iter(_at(getattr(example, "values", {}), path)), None)
    return next(iter(_at(_start(example, place), path)), None)


def _order(example: Example, field: tuple[int, tuple[str | int, ...]]) -> list[int]:
    """Where a field of a row stands among its others."""
    place, path = field
    order = [place]
    value: Any = None
    if isinstance(example, Conversation):
        value = _start(example, place)
    for step in path:
        order.append(list(value).index(step) if isinstance(value, dict) and step in value else -1)
        order[-1] = step if isinstance(step, int) else order[-1]
        value = next(iter(_at(value, (step,))), None)
    return order


def _start(example: Conversation, place: int) -> Any:
    """What the paths of a place begin in."""
    if place == VARIABLES:
        return example.template_kwargs
    return example.messages[place] if place >= 0 else example.tools


def _at(value: Any, path: Sequence[str | int]) -> list[Any]:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return []
    return [value]
