"""Rows with one column of text in, `Text` out: a template's output already, and all of it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from instruct_fmt.adapt.fields import Fields
from instruct_fmt.adapt.formats import Format, Given, Made
from instruct_fmt.adapt.system import Unplaced, looked_at
from instruct_fmt.adapt.values import at, root, text
from instruct_fmt.types import Text


def adapter(fields: Fields, unplaced: Unplaced | None) -> tuple[Sequence[str], Callable[[Mapping[str, Any]], Text]]:
    """Make the adapter.

    Args:
        fields: the columns and what the user says about them.
        unplaced: system prompts, which ready text has no place for; None where they may go.

    Returns:
        The columns that are read, and what reads a row.

    Raises:
        UsageError: no column holds text, or there is a system prompt for all rows.
    """
    column = fields.need("text", "text")
    path = root(column)
    if unplaced is not None:
        unplaced.check_default()

    def adapt(row: Mapping[str, Any]) -> Text:
        found = Text("", text(row.get(column), path), at(path))
        if unplaced is not None:
            unplaced.check(row)
        return found

    return (column, *looked_at(unplaced)), adapt


def _make(given: Given) -> Made:
    unplaced = Unplaced.of(given.asked, given.fields.find("system"), "ready text", "write it into the text")
    return adapter(given.fields, unplaced)


FORMAT = Format("text", takes=("text",), recognises=lambda fields: fields.find("text") is not None, make=_make)
