"""Reading JSON and JSON lines without losing anything.

In: a file that holds an array of objects, or one object per line. Out: Arrow batches of one schema. A column
that Arrow cannot hold as it is (types mixed, nulls or changing keys inside, half a surrogate pair) becomes a
column of JSON, the `Json()` feature of `datasets`, and its values stay what they were.

A nested null is such a case because Arrow cannot tell it from a key that was never there.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from instruct_fmt.errors import shown
from instruct_fmt.run.read.bad_rows import BadRows, no_rows
from instruct_fmt.run.read.column_names import MOST_COLUMNS, name_fault
from instruct_fmt.run.read.json_array import EXPECTED, Check, Row, array_rows
from instruct_fmt.run.read.json_holders import check_one_object, check_only_row
from instruct_fmt.run.read.json_shape import Shape, arrow_type, merge, shape_of
from instruct_fmt.run.read.json_values import DECODER, MOST_DEEP, Refused, check_depth, syntax, why
from instruct_fmt.run.read.packed import LIGHT, not_utf8, numbered_lines, opened, skip_blank, too_large

_CHUNK_ROWS = 1000


@dataclass(frozen=True)
class JsonRows:
    """The rows of a JSON file: its Arrow schema, and `batches()` to read them.

    Raises (both on opening and on reading):
        DataError: the file is empty, a line is no JSON object, or the text is not UTF-8.
        OSError: the file cannot be read.
    """

    paths: tuple[Path, ...]
    schema: pa.Schema

    @classmethod
    def open(cls, *paths: Path, bad: BadRows | None = None) -> JsonRows:
        """Read the files once to find their columns and their types, and their bad rows."""
        bad = bad or BadRows()
        shapes: dict[str, Shape] = {}
        names = _Names()
        for path in paths:
            before = bad.rows
            for row in read_rows(path, names.check, bad):
                bad.rows += 1
                for name, value in row.items():
                    shapes[name] = merge(shapes.get(name, "null"), shape_of(value))
            if bad.rows == before or not shapes:
                raise no_rows(path, bad)
        return cls(paths, pa.schema([pa.field(name, arrow_type(shape)) for name, shape in shapes.items()]))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, a thousand at a time."""
        # The same rows as before are bad, and are listed already.
        again, names = BadRows("reject"), _Names()
        rows = chain.from_iterable(read_rows(path, names.check, again) for path in self.paths)
        while chunk := list(islice(rows, _CHUNK_ROWS)):
            columns = [_column([row.get(field.name) for row in chunk], field.type) for field in self.schema]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)


@dataclass(slots=True)
class _Names:
    """The names of the columns so far."""

    seen: set[str] = field(default_factory=set)

    def check(self, row: Row) -> None:
        """Refuse a row with a name that no column can have, or with one too many."""
        if row.keys() <= self.seen:
            return
        new = row.keys() - self.seen
        fault = next(filter(None, map(name_fault, new)), None)
        if fault:
            raise Refused(fault, "rename the key")
        if len(new) + len(self.seen) > MOST_COLUMNS:
            found = f"more than {MOST_COLUMNS:,} columns, the most there may be"
            raise Refused(found, "put what changes from row to row into one column, as an object or a list")
        self.seen |= new


def read_rows(path: Path, check: Check, bad: BadRows) -> Iterator[Row]:
    """The objects of a file, one at a time; bad ones go to `bad`, where the good ones are counted by who reads them."""
    with opened(path) as file:
        skipped = skip_blank(file)
        start = file.peek().removeprefix(b"\xef\xbb\xbf").lstrip()
        read = array_rows if start.startswith(b"[") else _line_rows
        yield from read(path, file, skipped + 1, check, bad)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.JsonType):
        texts = [None if value is None else json.dumps(value) for value in values]
        return pa.ExtensionArray.from_storage(kind, pa.array(texts, pa.string()))
    return pa.array(values, kind)


def _line_rows(path: Path, file: io.BufferedReader, first: int, check: Check, bad: BadRows) -> Iterator[Row]:
    count = 0
    only: Row = {}
    for number, line in numbered_lines(file, first):
        try:
            row = _parsed(line, number, check)
        except (Refused, RecursionError, ValueError) as error:
            if not count and isinstance(error, json.JSONDecodeError):
                # Before any row, it may be the first line of a larger object.
                check_one_object(path)
            found, fix = _fault(error)
            bad.add(path, number, found, EXPECTED, fix)
            continue
        count += 1
        only = row if count == 1 else {}
        yield row
    if count == 1:
        check_only_row(path, only)


def _fault(error: Exception) -> tuple[str, str]:
    """What was found in a line, and the fix."""
    if isinstance(error, json.JSONDecodeError):
        return syntax(error.doc, error), "correct or remove the line"
    if isinstance(error, UnicodeDecodeError):
        return not_utf8(error), "save the file as UTF-8"
    return why(error)


def _parsed(line: list[bytes], number: int, check: Check) -> Row:
    """The object of a line, which is taken out of its list so that memory holds a large one once.

    Raises:
        Refused: it is no object that can be kept as it is.
        ValueError: it is no JSON, or no UTF-8.
    """
    raw = line.pop()
    if len(raw) > LIGHT and (found := too_large(raw)):
        raise Refused(found, "split the object, or remove it")
    brackets = raw.count(b"[") + raw.count(b"{")
    text = raw.decode() if number > 1 else raw.decode("utf-8-sig")
    del raw
    value = DECODER.decode(text)
    if not isinstance(value, dict):
        raise Refused(
            "null" if value is None else f"{type(value).__name__} {shown(value)}", "write each row as an object"
        )
    if brackets > MOST_DEEP:
        check_depth(value)
    check(value)
    return value
