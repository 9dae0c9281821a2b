"""Reading JSON and JSON lines without losing anything.

In: a file that holds an array of objects, or one object per line. Out: Arrow batches of one schema. A column
that Arrow cannot hold as it is (types mixed, nulls or changing keys inside, half a surrogate pair) becomes a
column of JSON, the `Json()` feature of `datasets`, and its values stay what they were.

A nested null is such a case because Arrow cannot tell it from a key that was never there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from math import isinf
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from instruct_fmt.errors import DataError, shown
from instruct_fmt.run.bad_rows import BadLine, BadRows
from instruct_fmt.run.csv_io import MAX_COLUMNS, check_width
from instruct_fmt.run.json_shape import Shape, arrow_type, merge, safe_shape
from instruct_fmt.run.packed import MAX_LINE, kinds_of, lines, opened

Row = dict[str, Any]

_CHUNK_ROWS, _CHUNK_CHARACTERS = 1000, 32_000_000
MAX_ARRAY = 2_000_000_000
# The usual names of what holds the rows, where a file is one object.
_HOLDERS = (
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


@dataclass(frozen=True)
class JsonRows:
    """The rows of a JSON file: its Arrow schema, and `batches()` to read them.

    Raises (both on opening and on reading):
        DataError: the file is empty, a line is no JSON object, or the text is not UTF-8.
        OSError: the file cannot be read.
    """

    paths: tuple[Path, ...]
    schema: pa.Schema
    lenient: bool = False

    @classmethod
    def open(cls, *paths: Path, bad: BadRows | None = None) -> JsonRows:
        """Read the files once to find their columns and their types; lines that are no rows go to `bad`, if given."""
        shapes: dict[str, Shape] = {}
        total = 0
        for path in paths:
            count = 0
            for row in read_rows(path, None if bad is None else bad.starting(total)):
                count += 1
                for name, value in row.items():
                    shapes[name] = merge(shapes.get(name, "null"), safe_shape(value))
                if len(shapes) > MAX_COLUMNS:
                    check_width(f"{path}, row {count}", len(shapes))
            if not count or not shapes:
                raise DataError(f"{path}: found no rows; expected at least one JSON object; fix: check the file")
            _check_names(path, shapes)
            total += count
        return cls(
            paths, pa.schema([pa.field(name, arrow_type(shape)) for name, shape in shapes.items()]), bad is not None
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, a thousand at a time."""
        known = BadRows() if self.lenient else None
        rows = chain.from_iterable(read_rows(path, known) for path in self.paths)
        while chunk := list(islice(rows, _CHUNK_ROWS)):
            columns = [_column([row.get(field.name) for row in chunk], field.type) for field in self.schema]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)


class _Refused(Exception):
    """JSON that Python reads and that means two things, or nothing."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(found)
        self.found, self.fix = found, fix


def _object_of(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"the key {twice!r} twice in one object", "keep one of the two, or rename one")
    return found


def _no_number(name: str) -> NoReturn:
    raise _Refused(f"{name}, which is no number of JSON", "write null or a text in its place")


def _float(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise _Refused(f"{shown(text)}, which is beyond the numbers of 64 bits", "write it as a text")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_object_of, parse_constant=_no_number, parse_float=_float)


def read_rows(path: Path, bad: BadRows | None = None) -> Iterator[Row]:
    """The objects of a file, one at a time; see `JsonRows` for the errors, which of lines go to `bad`, if given."""
    with opened(path) as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    yield from _array_rows(path) if start.startswith(b"[") else _line_rows(path, bad)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.JsonType):
        texts = [None if value is None else json.dumps(value) for value in values]
        return pa.ExtensionArray.from_storage(kind, pa.array(texts, pa.string()))
    return pa.array(values, kind)


def _line_rows(path: Path, bad: BadRows | None) -> Iterator[Row]:
    with opened(path) as file:
        count = 0
        for number, raw in enumerate(lines(path, file), 1):
            if not raw.isspace():
                try:
                    row = _object(path, number, _parsed(path, number, raw, first=not count and bad is None))
                except BadLine as error:
                    if bad is None:
                        raise
                    bad.add(error, count)
                    continue
                yield row
                count += 1
    if count == 1:
        _check_rows(path, row, _HOLDERS)
        _check_columns(path, row)


def _parsed(path: Path, number: int, raw: bytes, *, first: bool) -> Any:
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        return _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise _not_utf8(path, number, error) from None
    except json.JSONDecodeError as error:
        if first:
            _check_one_object(path)
        around = text[max(error.pos - 40, 0) : error.pos + 40].strip()
        found = f"{shown(around, 90)} ({error.msg} at column {error.colno})"
        raise _bad(path, number, found, "correct or remove the line") from None
    except (_Refused, RecursionError, ValueError) as error:
        raise _bad(path, number, *_why(error)) from None


def _why(error: Exception) -> tuple[str, str]:
    """What was found, and the fix, for JSON that is well formed and still cannot be read."""
    if isinstance(error, _Refused):
        return error.found, error.fix
    if isinstance(error, RecursionError):
        return "objects nested too deep", "remove the object"
    # The one `ValueError` that `int` raises here: Python limits the digits it reads.
    return "a whole number of too many digits", "write it as a text"


def _array_rows(path: Path) -> Iterator[Row]:
    with opened(path) as file:
        raw = file.read(MAX_ARRAY + 1)
    if len(raw) > MAX_ARRAY:
        raise DataError(
            f"{path}: found an array of more than {MAX_ARRAY:,} bytes; expected one object per line in a file this "
            "large; fix: write it so, as `jq -c '.[]'` does"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, raw.count(b"\n", 0, error.start) + 1, error) from None
    del raw
    yield from _elements(path, text)


def _elements(path: Path, text: str) -> Iterator[Row]:
    """The elements of an array, one at a time, so that Python objects never pile up."""
    decode: Callable[[str, int], tuple[Any, int]] = _DECODER.raw_decode
    position = _skip(text, text.index("[") + 1)
    if text[position : position + 1] == "]":
        return
    while True:
        try:
            value, end = decode(text, position)
        except json.JSONDecodeError as error:
            line = text.count("\n", 0, error.pos) + 1
            found = f"{shown(text[error.pos : error.pos + 40])} ({error.msg})"
            raise _bad(path, line, found, "correct the file there") from None
        except (_Refused, RecursionError, ValueError) as error:
            found, fix = _why(error)
            line = text.count("\n", 0, position) + 1
            raise _bad(path, line, f"{found}, in the object that begins here", fix) from None
        yield _object(path, text.count("\n", 0, position) + 1 if not isinstance(value, dict) else 0, value)
        position = _skip(text, end)
        mark = text[position : position + 1]
        if mark not in (",", "]") or (mark == "]" and text[position + 1 :].strip()):
            line = text.count("\n", 0, position) + 1
            found = shown(text[position : position + 40])
            raise _bad(path, line, found, "put `,` between two objects and one `]` at the end")
        if mark == "]":
            return
        position = _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    while text[position : position + 1] in {" ", "\t", "\n", "\r"}:
        position += 1
    return position


def _object(path: Path, line: int, value: Any) -> Row:
    if not isinstance(value, dict):
        raise _bad(path, line, f"{type(value).__name__} {shown(value)}", "write each row as an object")
    return value


def _check_rows(path: Path, row: Row, names: Iterable[str]) -> None:
    """Refuse a file whose only object holds the rows, as one of columns or of splits does."""
    found = [name for name in names if isinstance(row.get(name), list) and row[name] and isinstance(row[name][0], dict)]
    if found:
        query = f".{found[0]}" if found[0].isidentifier() and found[0].isascii() else f"'.[{json.dumps(found[0])}]'"
        raise DataError(
            f"{path}: found one object with a list of objects under {' and '.join(map(repr, found))}; expected an "
            f"array of JSON objects or one object per line; fix: write the list alone, as `jq {query}` does, or, if "
            "the object is one row, put it in `[` and `]`"
        )


def _check_columns(path: Path, row: Row) -> None:
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
        f"{path}: found one object with {found} ({shown(list(row))}); expected an array of JSON objects or one object "
        f"per line; fix: {fix}, or, if the object is one row, put it in `[` and `]`"
    )


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_numbered(value: Any) -> bool:
    """Whether the keys of an object are 0, 1, 2 and so on."""
    return isinstance(value, dict) and bool(value) and list(value) == [str(number) for number in range(len(value))]


def _check_names(path: Path, names: Iterable[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{path}: found the key {shown(name)}, which holds half a surrogate pair; expected a name for a "
                "column; fix: rename the key"
            ) from None


def _check_one_object(path: Path) -> None:
    """Refuse a file that is one object on several lines, by what it holds."""
    with opened(path) as file:
        raw = file.read(MAX_LINE + 1)
    try:
        text = raw.decode("utf-8-sig").strip()
        row, end = _DECODER.raw_decode(text)
    except (_Refused, RecursionError, ValueError):
        return
    if isinstance(row, dict) and text.startswith("{", _skip(text, end)):
        raise DataError(
            f"{path}: found objects on several lines each; expected an array of JSON objects or one object per line; "
            "fix: write each on one line, as `jq -c .` does"
        )
    if isinstance(row, dict) and end == len(text):
        _check_rows(path, row, row)
        _check_columns(path, row)
        raise DataError(
            f"{path}: found one object on several lines; expected an array of JSON objects or one object per line; "
            "fix: put `[` before it and `]` behind it"
        )


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    return _bad(path, line, f"bytes that are not UTF-8 ({error.reason})", "save the file as UTF-8")


def _bad(path: Path, line: int, found: str, fix: str) -> BadLine:
    return BadLine(path, line, found, "an array of JSON objects or one object per line", fix)
