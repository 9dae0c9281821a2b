"""Reading CSV and TSV without guessing: every column is text, every row has the fields of the header.

In: a file whose first row names its columns. Out: Arrow batches of one schema. A quoted value may hold line breaks
and be long; a blank line is no row, and in a file of one column, between rows, a bad one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice, repeat
from pathlib import Path

import pyarrow as pa

from instruct_fmt.errors import DataError, shown
from instruct_fmt.run.read.bad_rows import BadRow, BadRows
from instruct_fmt.run.read.column_names import named_once
from instruct_fmt.run.read.packed import not_utf8, opened

_CHUNK_ROWS = 1000
_CHUNK_TEXT = 1 << 25
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons"}
# The module keeps four bytes for each character of the value that it reads.
_LONGEST_VALUE = 1 << 24
_BLOCK = 1 << 20
_LONGEST_LINE = 1 << 25
_MOST_BLANK = 1_000_000
_QUOTES = "each quoted value closed before the next column"
_QUOTES_FIX = 'put a value that holds `"` in quotes, each `"` in it as `""`'
# A row of a file: the line it begins on, and its fields.
Numbered = tuple[int, list[str]]


def csv_batches(path: Path, delimiter: str, bad: BadRows) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema of a file and its rows, a thousand at a time.

    Raises (on opening and on reading):
        DataError: a column has no name of its own, a row has other fields than the header, a quote is not closed, or
            the text is not UTF-8.
        OSError: the file cannot be read.
    """
    header_is_no_row = BadRows()
    header = next(_rows(path, delimiter, header_is_no_row), None)
    if header is None:
        raise DataError(path, "no rows", "a header and at least one row", "check the file")
    line, names = header
    if len(names) == 1:
        _check_separator(path, line, names[0], delimiter)
    schema = pa.schema([(name, pa.string()) for name in named_once(f"{path}, line {line}", names)])
    return schema, _batches(path, delimiter, schema, bad)


def _check_separator(path: Path, line: int, name: str, delimiter: str) -> None:
    other = next((mark for mark in _SEPARATORS if mark != delimiter and mark in name), None)
    if other:
        kind = {",": ", or name the file .csv", "\t": ", or name the file .tsv"}.get(other, "")
        raise DataError(
            f"{path}, line {line}",
            f"one column {shown(name)}, with {_SEPARATORS[other]} in its name",
            f"columns separated by {_SEPARATORS[delimiter]}",
            f"write the file with {_SEPARATORS[delimiter]}{kind}",
        )


def _batches(path: Path, delimiter: str, schema: pa.Schema, bad: BadRows) -> Iterator[pa.RecordBatch]:
    chunk: list[list[str]] = []
    size = 0
    for fields in _checked(path, delimiter, schema.names, bad):
        chunk.append(fields)
        size += sum(map(len, fields))
        if len(chunk) == _CHUNK_ROWS or size > _CHUNK_TEXT:
            yield _batch(chunk, schema)
            chunk, size = [], 0
    if chunk:
        yield _batch(chunk, schema)


def _batch(rows: list[list[str]], schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array(column, pa.string()) for column in zip(*rows, strict=True)], schema=schema
    )


def _checked(path: Path, delimiter: str, names: Sequence[str], bad: BadRows) -> Iterator[list[str]]:
    """The rows behind the header that have its width."""
    for line, fields in islice(_rows(path, delimiter, bad, blank_is_bad=len(names) == 1), 1, None):
        if len(fields) == len(names):
            bad.rows += 1
            yield fields
        else:
            found = f"{_count(fields)} ({shown(fields)})"
            expected = f"{_count(names)}, as in the header ({shown(list(names))})"
            bad.add(path, line, found, expected, "put values that hold the separator in quotes, or correct the row")


class _Lines:
    """The lines of a file as text; bytes that are not UTF-8 are surrogates, and `escaped` says that there were some."""

    def __init__(self, path: Path, file: io.BufferedReader) -> None:
        self._path, self._file = path, file
        self.escaped = False

    def __iter__(self) -> Iterator[str]:
        for encoding, block in zip(chain(["utf-8-sig"], repeat("utf-8")), self._blocks(), strict=False):
            # A lone carriage return ends a line, too.
            yield from io.StringIO(self._text(encoding, block), newline="")

    def _blocks(self) -> Iterator[bytes]:
        """The file in whole lines."""
        rest = b""
        while block := self._file.read(max(_BLOCK, len(rest))):
            end = block.rfind(b"\n") + 1
            if end:
                yield rest + block[:end]
            rest = block[end:] if end else rest + block
            if len(rest) > _LONGEST_LINE:
                found = f"{self._path}: found a line of more than {_LONGEST_LINE:,} bytes"
                raise DataError(f"{found}; expected shorter ones; fix: split the row, or remove it")
        if rest:
            yield rest

    def _text(self, encoding: str, raw: bytes) -> str:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            self.escaped = True
            return raw.decode(encoding, "surrogateescape")


def _rows(path: Path, delimiter: str, bad: BadRows, *, blank_is_bad: bool = False) -> Iterator[Numbered]:
    """All rows, blank ones left out; where quotes do not match, reading goes on with the next line.

    With `blank_is_bad`, a blank line between rows is a bad row: it may be a value that is empty.
    """
    with _long_values(), opened(path) as file:
        lines = _Lines(path, file)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        blank, rows = 0, 0
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader, None)
            except csv.Error as error:
                _add_wrong(path, line, error, bad)
                continue
            if fields is None:
                return
            if lines.escaped and (found := _escaped(fields)):
                bad.add(path, line, found, "text", "save the file as UTF-8")
            elif fields:
                if blank_is_bad and rows and blank:
                    found = f"{blank:,} blank lines before it" if blank > 1 else "a blank line before it"
                    bad.add(path, line, found, "a value in each line", 'write `""` for an empty value')
                blank, rows = 0, rows + 1
                yield line, fields
            elif (blank := blank + 1) > _MOST_BLANK:
                raise BadRow(str(path), line, f"{blank:,} blank lines", "rows", "remove them").error()


def _escaped(fields: Sequence[str]) -> str | None:
    """What was found where fields hold bytes that are not UTF-8."""
    try:
        ",".join(fields).encode("utf-8", "surrogateescape").decode()
    except UnicodeDecodeError as error:
        return not_utf8(error)
    return None


def _add_wrong(path: Path, line: int, error: csv.Error, bad: BadRows) -> None:
    """Add a row whose quotes do not match; one that goes on and on took the rows behind it along, and is an error."""
    kind = str(error)
    found = f"a row whose quotes do not match ({kind})"
    if "unexpected end" in kind or "field limit" in kind:
        if "field limit" in kind:
            found = f"a value of more than {_LONGEST_VALUE:,} characters, of a quote that is not closed or a large row"
            raise BadRow(str(path), line, found, "shorter ones", "close the quote, or take the row out").error()
        raise BadRow(str(path), line, found, _QUOTES, _QUOTES_FIX).error()
    bad.add(path, line, found, _QUOTES, _QUOTES_FIX)


@contextmanager
def _long_values() -> Iterator[None]:
    """Longer values than the module's own limit, one for the whole process, of 128 KiB."""
    before = csv.field_size_limit(_LONGEST_VALUE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _count(fields: Sequence[str]) -> str:
    return f"{len(fields)} field{'s' if len(fields) != 1 else ''}"
