"""Reading JSON and JSON lines without losing anything.

In: a file that holds an array of objects, or one object per line. Out: Arrow batches of one schema. A column
that Arrow cannot hold as it is (types mixed, nulls or changing keys inside, half a surrogate pair) becomes a
column of JSON, the `Json()` feature of `datasets`, and its values stay what they were.

A nested null is such a case because Arrow cannot tell it from a key that was never there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from instruct_fmt.errors import DataError, shown
from instruct_fmt.run.packed import opened

Row = dict[str, Any]
# A shape is a name in `_LEAVES`, ("list", shape) or ("struct", ((key, shape), …)).
Shape = Any

_CHUNK_ROWS = 1000
# The usual names of what holds the rows, where a file is one object.
_HOLDERS = ("data", "rows", "train", "test", "validation", "examples", "instances", "items", "records")
_MAX_KEYS = 64
_LEAVES: Mapping[str, pa.DataType] = {
    "null": pa.null(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "json": pa.json_(),
}
_NAMES: Mapping[type, str] = {bool: "bool", int: "int", float: "float", str: "string"}


@dataclass(frozen=True)
class JsonRows:
    """The rows of a JSON file: its Arrow schema, and `batches()` to read them.

    Raises (both on opening and on reading):
        DataError: the file is empty, a line is no JSON object, or the text is not UTF-8.
        OSError: the file cannot be read.
    """

    path: Path
    schema: pa.Schema

    @classmethod
    def open(cls, path: Path) -> JsonRows:
        """Read the file once to find its columns and their types."""
        shapes: dict[str, Shape] = {}
        count = 0
        for row in read_rows(path):
            count += 1
            for name, value in row.items():
                shapes[name] = merge(shapes.get(name, "null"), _safe_shape(value))
        if not shapes:
            raise DataError(f"{path}: found no rows; expected at least one JSON object; fix: check the file")
        if count == 1:
            _check_rows(path, row)
        return cls(path, pa.schema([pa.field(name, arrow_type(shape)) for name, shape in shapes.items()]))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, a thousand at a time."""
        rows = read_rows(self.path)
        while chunk := list(islice(rows, _CHUNK_ROWS)):
            columns = [_column([row.get(field.name) for row in chunk], field.type) for field in self.schema]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)


class _Refused(ValueError):
    """JSON that Python reads and that means two things, or nothing."""


def _object_of(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Refused(f"the key {next(name for name in names if names.count(name) > 1)!r} twice in one object")
    return found


def _no_number(name: str) -> NoReturn:
    raise _Refused(f"{name}, which is no number of JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object_of, parse_constant=_no_number)


def read_rows(path: Path) -> Iterator[Row]:
    """The objects of a file, one at a time; see `JsonRows` for the errors."""
    with opened(path) as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    yield from _array_rows(path) if start.startswith(b"[") else _line_rows(path)


def shape_of(value: Any, nested: bool = False) -> Shape:
    """How Arrow could hold a value; "json" where it could not without a loss.

    >>> shape_of({"role": "user", "content": ["a"]})
    ('struct', (('role', 'string'), ('content', ('list', 'string'))))
    >>> shape_of([1, "a"]), shape_of([None])
    ('json', 'json')
    """
    if value is None:
        return "json" if nested else "null"
    if isinstance(value, dict):
        fields = tuple((key, shape_of(item, True)) for key, item in value.items())
        # An empty struct cannot be written to Parquet.
        fits = 0 < len(fields) <= _MAX_KEYS and all(key.isascii() or _encodes(key) for key in value)
        return ("struct", fields) if fits and not _any_json(fields) else "json"
    if isinstance(value, list):
        item: Shape = "null"
        for shape in dict.fromkeys(shape_of(item, True) for item in value):
            item = merge(item, shape)
        return "json" if item == "json" else ("list", item)
    if isinstance(value, str):
        return "string" if value.isascii() or _encodes(value) else "json"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "json"
    return _NAMES[type(value)]


def merge(left: Shape, right: Shape) -> Shape:
    """The shape that holds both without a loss.

    >>> merge("string", "null"), merge("string", "int")
    ('string', 'json')
    """
    if left == right or right == "null":
        return left
    if left == "null":
        return right
    if isinstance(left, str) or isinstance(right, str) or left[0] != right[0]:
        return "json"
    if left[0] == "list":
        item = merge(left[1], right[1])
        return "json" if item == "json" else ("list", item)
    return _merge_structs(dict(left[1]), dict(right[1]))


def arrow_type(shape: Shape) -> pa.DataType:
    """The Arrow type of a shape."""
    if isinstance(shape, str):
        return _LEAVES[shape]
    if shape[0] == "list":
        return pa.list_(arrow_type(shape[1]))
    return pa.struct([pa.field(key, arrow_type(found)) for key, found in shape[1]])


def _merge_structs(left: dict[str, Shape], right: dict[str, Shape]) -> Shape:
    """Keys may be missing on either side (Arrow fills in null), but their order must be one and the same."""
    common = [key for key in left if key in right]
    if common != [key for key in right if key in left]:
        return "json"
    keys: list[str] = []
    rest = iter(left)
    for key in right:
        if key in left:
            keys.extend(_until(rest, key))
        keys.append(key)
    keys.extend(rest)
    if len(keys) > _MAX_KEYS:
        return "json"
    fields = tuple((key, merge(left.get(key, "null"), right.get(key, "null"))) for key in keys)
    return "json" if _any_json(fields) else ("struct", fields)


def _safe_shape(value: Any) -> Shape:
    try:
        return shape_of(value)
    except RecursionError:
        return "json"


def _until(keys: Iterator[str], stop: str) -> Iterator[str]:
    for key in keys:
        if key == stop:
            return
        yield key


def _any_json(fields: tuple[tuple[str, Shape], ...]) -> bool:
    return any(shape == "json" for _, shape in fields)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.JsonType):
        texts = [None if value is None else json.dumps(value) for value in values]
        return pa.ExtensionArray.from_storage(kind, pa.array(texts, pa.string()))
    return pa.array(values, kind)


def _line_rows(path: Path) -> Iterator[Row]:
    with opened(path) as file:
        for number, raw in enumerate(file, 1):
            if raw.strip():
                yield _object(path, number, _parsed(path, number, raw))


def _parsed(path: Path, number: int, raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        return _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise _not_utf8(path, number, error) from None
    except json.JSONDecodeError as error:
        found = f"{shown(text.strip())} ({error.msg} at column {error.colno})"
        raise _bad(path, number, found, "correct or remove the line") from None
    except _Refused as error:
        raise _bad(path, number, str(error), "correct or remove the line") from None
    except RecursionError:
        raise _bad(path, number, "objects nested too deep", "remove the line") from None


def _array_rows(path: Path) -> Iterator[Row]:
    with opened(path) as file:
        raw = file.read()
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
        except _Refused as error:
            line = text.count("\n", 0, position) + 1
            raise _bad(path, line, f"{error}, in the object that begins here", "correct the object") from None
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


def _check_rows(path: Path, row: Row) -> None:
    """Refuse a file whose only object holds the rows, as one of columns or of splits does."""
    lists = [name for name, value in row.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    found = [name for name in _HOLDERS if name in lists]
    if found:
        raise DataError(
            f"{path}: found one object with a list of objects under {' and '.join(map(repr, found))}; expected an "
            f"array of JSON objects or one object per line; fix: write the list alone, as `jq .{found[0]}` does"
        )


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    return _bad(path, line, f"bytes that are not UTF-8 ({error.reason})", "save the file as UTF-8")


def _bad(path: Path, line: int, found: str, fix: str) -> DataError:
    return DataError(
        f"{path}, line {line}: found {found}; expected an array of JSON objects or one object per line; fix: {fix}"
    )
