"""Reading plain text: one row a line, or one of the whole file, in a column `text`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from instruct_fmt.run.read.bad_rows import BadRow, BadRows
from instruct_fmt.run.read.packed import LONGEST, not_utf8, numbered_lines, opened, too_large

_TEXT = "text"
_CHUNK_ROWS = 10_000
_CHUNK_TEXT = 1 << 25


def text_batches(path: Path, bad: BadRows, *, whole: bool) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema of a file and its rows.

    Raises (on reading):
        DataError: it is not UTF-8, or a row is too large.
        OSError: the file cannot be read.
    """
    schema = pa.schema([(_TEXT, pa.string())])
    return schema, _batches(_document(path) if whole else _lines(path, bad), schema)


def _batches(rows: Iterator[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    chunk: list[str] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row)
        if len(chunk) == _CHUNK_ROWS or size > _CHUNK_TEXT:
            yield pa.RecordBatch.from_arrays([pa.array(chunk, pa.string())], schema=schema)
            chunk, size = [], 0
    if chunk:
        yield pa.RecordBatch.from_arrays([pa.array(chunk, pa.string())], schema=schema)


def _lines(path: Path, bad: BadRows) -> Iterator[str]:
    with opened(path) as file:
        for number, line in numbered_lines(file):
            found = too_large(line[0])
            try:
                text = "" if found else line.pop().decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                found = not_utf8(error)
            if found:
                bad.add(path, number, found, "a line of text in UTF-8", "save the file as UTF-8, in shorter lines")
            elif text.strip():
                bad.rows += 1
                yield text


def _document(path: Path) -> Iterator[str]:
    with opened(path) as file:
        raw = file.read(LONGEST + 1)
    found, line = too_large(raw), 1
    try:
        text = "" if found else raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found, line = not_utf8(error), 1 + raw.count(b"\n", 0, error.start)
    if found:
        raise BadRow(str(path), line, found, "a text in UTF-8", "save the file as UTF-8, in smaller files").error()
    yield text
