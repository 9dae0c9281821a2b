"""Rows with one column of text in, `Text` out: a template's output already, and all of it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from instruct_fmt.adapt.fields import Fields
from instruct_fmt.adapt.values import root, text
from instruct_fmt.types import Text


def adapter(fields: Fields) -> Callable[[Mapping[str, Any]], Text]:
    """Make the adapter.

    Raises:
        UsageError: no column holds text.
    """
    column = fields.need("text", "text")
    path = root(column)

    def adapt(row: Mapping[str, Any]) -> Text:
        return Text("", text(row.get(column), path))

    return adapt
