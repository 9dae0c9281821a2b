"""Files that may be compressed: opened by their suffix; what is no such file, or is cut short, is refused by name."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from instruct_fmt.errors import DataError


def _zstd(path: Path) -> io.BufferedReader:
    return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))


OPENERS: Mapping[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _zstd}
_MARKS: Mapping[str, bytes] = {
    ".gz": rb"\x1f\x8b",
    ".bz2": rb"BZh[1-9]1AY&SY",
    ".xz": rb"\xfd7zXZ\0",
    ".zst": rb"\x28\xb5\x2f\xfd",
}
MAX_LINE = 100_000_000
"""In bytes."""
_SNIFFED = 4096
_UNICODE = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BROKEN = (EOFError, OSError, lzma.LZMAError, zlib.error)


def kinds_of(path: Path) -> tuple[str, str]:
    """The kind of a data file and of its compression, as suffixes in lower case; "" where there is none.

    >>> kinds_of(Path("rows.JSONL.gz")), kinds_of(Path("rows.tsv"))
    (('.jsonl', '.gz'), ('.tsv', ''))
    """
    suffix = path.suffix.lower()
    return (Path(path.stem).suffix.lower(), suffix) if suffix in OPENERS else (suffix, "")


def _check_plain(path: Path, start: bytes) -> None:
    """Refuse a packed file whose name does not say so: no text begins like this."""
    found = next((suffix for suffix, mark in _MARKS.items() if re.match(mark, start)), None)
    if found:
        raise DataError(
            f"{path}: found data packed as {found}; expected text, as the name says; "
            f"fix: rename it to {path.name}{found}"
        )


@contextmanager
def _as_utf8(path: Path, file: Any, start: bytes) -> Iterator[Any]:
    """A text file, whatever Unicode it is written in, if its mark says so; without one it is UTF-8."""
    encoding = next((name for mark, name in _UNICODE if start.startswith(mark)), None)
    if encoding is None:
        if b"\0" in start:
            raise DataError(
                f"{path}: found a NUL at byte {start.index(0)}; expected text in UTF-8; fix: save the file as UTF-8, "
                "or write it again if it holds something else"
            )
        yield file
        return
    with tempfile.TemporaryFile() as found:
        try:
            for block in io.TextIOWrapper(file, encoding, newline=""):
                found.write(block.encode())
        except UnicodeError as error:
            raise DataError(
                f"{path}: found text that is not {encoding}, as its mark says ({error}); expected UTF-8; "
                "fix: save the file as UTF-8"
            ) from None
        found.seek(0)
        yield found


def lines(path: Path, file: Any) -> Iterator[bytes]:
    """The lines of an open file, none of them longer than anybody's row.

    Raises:
        DataError: a line is.
    """
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise too_long(path, number)
        yield line


def too_long(path: Path, line: int) -> DataError:
    """The error for a line that is too long."""
    return DataError(
        f"{path}, line {line}: found a line of more than {MAX_LINE:,} bytes; expected one row a line; fix: split the "
        "row, or check that the file is what its name says"
    )


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file's bytes, unpacked.

    Raises:
        DataError: it is not packed as its name says, or is cut short.
        OSError: it cannot be opened.
    """
    packing = kinds_of(path)[1]
    if not packing:
        with path.open("rb") as file:
            start = file.read(_SNIFFED)
            _check_plain(path, start)
            file.seek(0)
            with _as_utf8(path, file, start) as text:
                yield text
        return
    path.open("rb").close()  # a file that cannot be opened is no broken one
    try:
        with OPENERS[packing](path) as file:
            start = file.read(_SNIFFED)
        with OPENERS[packing](path) as file, _as_utf8(path, file, start) as text:
            yield text
    except _BROKEN as error:
        raise DataError(
            f"{path}: found data that cannot be unpacked ({error}); expected a whole {packing} file; fix: write the "
            "file again, or name it by what it is"
        ) from error
