"""Reading CSV and TSV without guessing: every column is text, every row has the fields of the header.

In: a file whose first row names its columns. Out: Arrow batches of one schema. A quoted value may hold line breaks
and be of any length; a blank line is no row.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pyarrow as pa

from instruct_fmt.errors import DataError, shown
from instruct_fmt.run.bad_rows import BadLine, BadRows
from instruct_fmt.run.packed import MAX_LINE, opened, too_long

MAX_COLUMNS = 2000
_CHUNK_ROWS = 1000
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_LONGEST = 2**31 - 1
# A row of a file: the line it begins on, and its fields.
Numbered = tuple[int, list[str]]


def csv_batches(path: Path, delimiter: str, bad: BadRows | None = None) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema of a file and its rows, a thousand at a time.

    Raises (on opening and on reading):
        DataError: a column has no name of its own, a row has other fields than the header, a quote is not closed, or
            the text is not UTF-8.
        OSError: the file cannot be read.
    """
    rows = _rows(path, delimiter)
    line, header = next(rows, (1, []))
    if not header:
        raise DataError(f"{path}: found no rows; expected a header and at least one row; fix: check the file")
    check_width(f"{path}, line {line}", len(header))
    if len(header) == 1:
        _check_separator(path, line, header[0], delimiter)
    schema = pa.schema([(name, pa.string()) for name in named_once(f"{path}, line {line}", header)])
    return schema, _batches(path, rows, schema, bad)


def check_width(where: str, columns: int) -> None:
    """Refuse data of more columns than anybody means."""
    if columns > MAX_COLUMNS:
        raise DataError(
            f"{where}: found {columns:,} columns; expected at most {MAX_COLUMNS:,}; fix: keep what a row needs, "
            "and put the rest into one column of objects"
        )


def named_once(where: str, names: Sequence[str]) -> Sequence[str]:
    """The names of columns, none of them empty or given twice."""
    often = Counter(names)
    wrong = next((name for name in names if not name.strip() or often[name] > 1), None)
    if wrong is None:
        return names
    found = (
        f"the column {wrong!r} twice" if wrong.strip() else f"a column without a name, number {names.index(wrong) + 1}"
    )
    raise DataError(f"{where}: found {found}; expected a name of its own for each column; fix: rename it in the file")


def _check_separator(path: Path, line: int, name: str, delimiter: str) -> None:
    other = next((mark for mark in _SEPARATORS if mark != delimiter and mark in name), None)
    if other:
        kind = {",": ", or name the file .csv", "\t": ", or name the file .tsv"}.get(other, "")
        raise DataError(
            f"{path}, line {line}: found one column {name!r}, with {_SEPARATORS[other]} in its name; expected "
            f"columns separated by {_SEPARATORS[delimiter]}; fix: write the file with {_SEPARATORS[delimiter]}{kind}"
        )


def _batches(path: Path, rows: Iterator[Numbered], schema: pa.Schema, bad: BadRows | None) -> Iterator[pa.RecordBatch]:
    width, count = len(schema), 0
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        whole: list[list[str]] = []
        for line, fields in chunk:
            if len(fields) == width:
                whole.append(fields)
                continue
            error = _wrong_width(path, line, fields, schema.names)
            if bad is None:
                raise error
            bad.add(error, count + len(whole))
        count += len(whole)
        if not whole:
            continue
        columns = zip(*whole, strict=True)
        yield pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in columns], schema=schema)


def _rows(path: Path, delimiter: str) -> Iterator[Numbered]:
    with _long_values(), opened(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        reader = csv.reader(_lines(path, text), delimiter=delimiter, strict=True)
        line = 1
        try:
            for fields in reader:
                if fields:
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{path}, line {line}: found a row whose quotes do not match ({error}); expected each quoted value "
                'closed before the next column; fix: put a value that holds `"` in quotes, each `"` in it as `""`'
            ) from None
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}, line {_first_bad_line(path)}: found bytes that are not UTF-8 ({error.reason}); "
                "expected text; fix: save the file as UTF-8"
            ) from None


def _lines(path: Path, text: io.TextIOWrapper) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise too_long(path, number)
        yield line


@contextmanager
def _long_values() -> Iterator[None]:
    """Values of any length: the module's own limit, one for the whole process, is 128 KiB."""
    before = csv.field_size_limit(_LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _first_bad_line(path: Path) -> int:
    """The line of the first bytes that are not UTF-8; the decoder knows only its own block."""
    with opened(path) as file:
        for number, raw in enumerate(file, 1):
            try:
                raw.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _wrong_width(path: Path, line: int, fields: Sequence[str], names: Sequence[str]) -> BadLine:
    return BadLine(
        path,
        line,
        f"{_count(fields)} ({shown(list(fields))})",
        f"{_count(names)}, as in the header ({shown(list(names))})",
        "put values that hold the separator in quotes, or correct the row",
    )


def _count(fields: Sequence[str]) -> str:
    return f"{len(fields)} field{'s' if len(fields) != 1 else ''}"
