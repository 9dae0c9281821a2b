"""Data files as text in UTF-8: unpacked by their suffix, and recoded from UTF-16 or UTF-32 by their first bytes.

In: a path. Out: a file of bytes, in which a line has a bound. What is not packed as its name says, is cut short,
goes on behind its end or unpacks to a great many times its size is refused by name.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from instruct_fmt.errors import DataError, shown

# The longest line, and about the most memory that reading one row may take.
LONGEST = 1 << 27
MOST_MEMORY = 400_000_000
LIGHT = 1 << 23
_BLOCK = 1 << 16
# No text that somebody wrote packs so well; what is small unpacked may.
_FREE_SIZE, _MOST_TIMES = 1 << 26, 200

_MARKS: Mapping[str, bytes] = {
    ".gz": rb"\x1f\x8b",
    ".bz2": rb"BZh[1-9]1AY&SY",
    ".xz": rb"\xfd7zXZ\0",
    ".zst": rb"\x28\xb5\x2f\xfd",
}
# The longer marks first: that of UTF-32 begins as that of UTF-16 does.
_RECODED: Mapping[bytes, str] = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_UNMARKED: Mapping[str, bytes] = {"UTF-16LE": rb"[^\0]\0[^\0]\0", "UTF-16BE": rb"\0[^\0]\0[^\0]"}
_BROKEN = (EOFError, OSError, lzma.LZMAError, zlib.error)
_NOT_FIRST = bytes(range(0x80, 0xC0))


class _Streams:
    """Reads packed streams, one behind the other; unlike `bz2.open` and `lzma.open`, nothing else behind them."""

    def __init__(self, file: BinaryIO, new: Callable[[], Any]) -> None:
        self._file, self._new = file, new
        self._stream = new()

    def read(self, size: int) -> bytes:
        while True:
            block = b""
            if self._stream.eof:
                block = self._stream.unused_data or self._file.read(_BLOCK)
                if not block:
                    return b""
                self._stream = self._new()
            elif self._stream.needs_input:
                block = self._file.read(_BLOCK)
                if not block:
                    raise EOFError("it is cut short")
            if found := self._stream.decompress(block, size):
                return bytes(found)


def _zstd(file: BinaryIO) -> Any:
    return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")


OPENERS: Mapping[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": lambda file: _Streams(file, bz2.BZ2Decompressor),
    ".xz": lambda file: _Streams(file, lzma.LZMADecompressor),
    ".zst": _zstd,
}


class _Unpacked(io.RawIOBase):
    """What a packed file holds, as long as it is no bomb."""

    def __init__(self, path: Path, packing: str, file: BinaryIO) -> None:
        self._path, self._packing = path, packing
        self._most = max(_FREE_SIZE, _MOST_TIMES * path.stat().st_size)
        self._size = 0
        self._inner = OPENERS[packing](file)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._inner.read(len(buffer))
        except _BROKEN as error:
            raise DataError(
                self._path,
                f"data that cannot be unpacked ({error})",
                f"a whole {self._packing} file",
                "write the file again, or name it by what it is",
            ) from error
        self._size += len(block)
        if self._size > self._most:
            raise bomb(self._path, self._most)
        buffer[: len(block)] = block
        return len(block)


class _Recoded(io.RawIOBase):
    """A text as UTF-8."""

    def __init__(self, path: Path, file: BinaryIO, encoding: str) -> None:
        self._path, self._file, self._encoding = path, file, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = b"start"
        while block and not self._rest:
            block = self._file.read(_BLOCK)
            try:
                self._rest = self._decoder.decode(block, final=not block).encode()
            except UnicodeDecodeError as error:
                raise DataError(
                    self._path,
                    f"bytes that are not {self._encoding.upper()} ({error.reason}), as the first ones say",
                    "text",
                    "save the file as UTF-8",
                ) from None
        given, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


def kinds_of(path: Path) -> tuple[str, str]:
    """The kind of a data file and of its compression, as suffixes in lower case; "" where there is none.

    >>> kinds_of(Path("rows.JSONL.gz")), kinds_of(Path("rows.tsv"))
    (('.jsonl', '.gz'), ('.tsv', ''))
    """
    suffix = path.suffix.lower()
    return (Path(path.stem).suffix.lower(), suffix) if suffix in OPENERS else (suffix, "")


def bomb(path: Path, most: int) -> DataError:
    """The error for a file that unpacks to more than anybody writes."""
    return DataError(
        path,
        f"a file of {path.stat().st_size:,} bytes that unpacks to more than {most:,}",
        f"at most {_MOST_TIMES} times its size",
        "check how it was written, or unpack it and name the unpacked file",
    )


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """A file's text as bytes in UTF-8, perhaps behind a byte order mark.

    Raises:
        DataError: it is not packed as its name says, is cut short, or is no text that can be told.
        OSError: it cannot be opened.
    """
    packing = kinds_of(path)[1]
    with path.open("rb") as raw:
        file: Any = io.BufferedReader(_Unpacked(path, packing, raw), _BLOCK) if packing else raw
        start = file.peek(16)[:16]
        if not packing:
            _check_plain(path, start)
        _check_marked(path, start)
        encoding = next((name for mark, name in _RECODED.items() if start.startswith(mark)), None)
        yield io.BufferedReader(_Recoded(path, file, encoding), _BLOCK) if encoding else file


def numbered_lines(file: io.BufferedReader, first: int = 1) -> Iterator[tuple[int, list[bytes]]]:
    """The lines of a file that are not blank, each in a list from which it can be taken: a large one is held once.

    What a line has beyond `LONGEST` bytes and one is left out; numbers count from `first`.
    """
    number, most, read = first, LONGEST + 1, file.readline
    while (line := [read(most)])[0]:
        cut = len(line[0]) == most
        if line[0].isspace() and not cut:
            number += skip_blank(file)
        else:
            yield number, line
        number += 1
        while cut and (rest := read(_BLOCK)):
            cut = not rest.endswith(b"\n")


def skip_blank(file: io.BufferedReader) -> int:
    """Skip white space up to the next text, by the block; returns how many lines that are."""
    lines = 0
    while ahead := file.peek():
        blank = len(ahead) - len(ahead.lstrip())
        last = ahead.rfind(b"\n", 0, blank) + 1
        if not last:
            break
        lines += file.read(last).count(b"\n")
    return lines


def too_large(raw: bytes) -> str | None:
    """What was found where a row is longer, or would take more memory as Python values, than it may; else None."""
    if len(raw) > LONGEST:
        return f"a row of more than {LONGEST:,} bytes"
    if len(raw) < LIGHT:
        return None
    characters = len(raw) if raw.isascii() else len(raw.translate(None, _NOT_FIRST))
    memory = 2 * _width(raw) * characters + of_values(raw.count)
    return None if memory <= MOST_MEMORY else large(memory)


def not_utf8(error: UnicodeDecodeError) -> str:
    """What was found where bytes are not UTF-8, with the text around."""
    around = error.object[max(0, error.start - 30) : error.start + 30]
    return f"bytes that are not UTF-8 ({error.reason}) in {shown(around)}"


def of_values(number_of: Callable[[Any], int], marks: Any = (b"[", b"{", b",")) -> int:
    """About the memory of the values in a row of JSON, texts apart, by the marks between them."""
    opening, brace, comma = map(number_of, marks)
    return 64 * (opening + brace) + 40 * comma


def large(memory: int) -> str:
    """What was found where a row takes too much memory."""
    return f"a row that takes about {memory:,} bytes of memory, where {MOST_MEMORY:,} are the most"


def _width(raw: bytes) -> int:
    """The bytes that Python takes for each character."""
    if raw.isascii():
        return 1
    return 4 if re.search(rb"[\xf0-\xf4]", raw) else 2 if re.search(rb"[\xc4-\xef]", raw) else 1


def _check_plain(path: Path, start: bytes) -> None:
    """Refuse a packed file whose name does not say so: no text begins like this."""
    found = next((suffix for suffix, mark in _MARKS.items() if re.match(mark, start)), None)
    if found:
        raise DataError(path, f"data packed as {found}", "text, as the name says", f"rename it to {path.name}{found}")


def _check_marked(path: Path, start: bytes) -> None:
    """Refuse text of two bytes a character that has no byte order mark."""
    found = next((name for name, mark in _UNMARKED.items() if re.match(mark, start)), None)
    if found:
        raise DataError(
            path,
            f"text that looks like {found} and has no byte order mark",
            "UTF-8",
            f"save the file as UTF-8, as `iconv -f {found} -t UTF-8` does",
        )
