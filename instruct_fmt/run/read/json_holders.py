"""Files of JSON that are one object: whether it holds the rows, and how they are written on their own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from instruct_fmt.errors import DataError, shown
from instruct_fmt.run.read.json_values import DECODER, Refused
from instruct_fmt.run.read.packed import kinds_of, opened

Row = dict[str, Any]

# As much of a file as is looked at for a better message.
_LOOK = 1 << 24
# The usual names of what holds the rows, where a file is one object.
HOLDERS = (
    "data",
    "rows",
    "train",
    "test",
    "validation",
    "examples",
    "instances",
    "items",
    "records",
    "samples",
    "dataset",
)
_TRANSPOSE = "jq '[to_entries[] | .key as $key | .value | map({($key): .})] | transpose | map(add)'"


def check_rows(path: Path, row: Row, names: Iterable[str]) -> None:
    """Refuse a file whose only object holds the rows, as one of columns or of splits does."""
    found = [name for name in names if isinstance(row.get(name), list) and row[name] and isinstance(row[name][0], dict)]
    if found:
        query = f".{found[0]}" if found[0].isidentifier() and found[0].isascii() else f"'.[{json.dumps(found[0])}]'"
        raise DataError(
            path,
            f"one object with a list of objects under {' and '.join(map(repr, found))}",
            "an array of JSON objects or one object per line",
            f"write the list alone, as `jq {query}` does, or, if the object is one row, put it in `[` and `]`",
        )


def check_columns(path: Path, row: Row) -> None:
    """Refuse a file whose only object holds columns, or rows by their numbers, as pandas writes them."""
    values = list(row.values())
    if not values or kinds_of(path)[0] != ".json":
        return
    texts = len(values) > 1 and all(isinstance(value, list) and value and _are_texts(value) for value in values)
    if all(map(_is_numbered, values)) or (texts and len(set(map(len, values))) == 1):
        found, fix = "a column under each key", f"write rows, as `{_TRANSPOSE}` does"
    elif _is_numbered(row) and all(isinstance(value, dict) for value in values):
        found, fix = "a row under each number", "write a list of them, as `jq '[.[]]'` does"
    else:
        return
    raise DataError(
        path,
        f"one object with {found} ({shown(list(row))})",
        "an array of JSON objects or one object per line",
        f"{fix}, or, if the object is one row, put it in `[` and `]`",
    )


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_numbered(value: Any) -> bool:
    """Whether the keys of an object are 0, 1, 2 and so on."""
    return isinstance(value, dict) and bool(value) and list(value) == [str(number) for number in range(len(value))]


def check_one_object(path: Path) -> None:
    """Refuse a file that is objects on several lines, or several on one, by what it holds."""
    with opened(path) as file:
        raw = file.read(_LOOK)
    try:
        text = raw.decode("utf-8-sig").strip()
        row, end = DECODER.raw_decode(text)
    except (Refused, RecursionError, ValueError):
        return
    if isinstance(row, dict) and text[end:].lstrip().startswith("{"):
        each = "objects on several lines each" if re.search(r"[\r\n]", text[:end]) else "several objects on one line"
        raise DataError(
            path, each, "an array of JSON objects or one object per line", "write each on one line, as `jq -c .` does"
        )
    if isinstance(row, dict) and end == len(text):
        check_rows(path, row, row)
        check_columns(path, row)
        raise DataError(
            path,
            "one object on several lines",
            "an array of JSON objects or one object per line",
            "put `[` before it and `]` behind it",
        )


def check_only_row(path: Path, row: Row) -> None:
    """Refuse a file of one line that holds the rows."""
    check_rows(path, row, HOLDERS)
    check_columns(path, row)
