"""Files that may be compressed: opened by their suffix; what is no such file, or is cut short, is refused by name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
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
def opened(path: Path) -> Iterator[Any]:
    """A file's bytes, unpacked.

    Raises:
        DataError: it is not packed as its name says, or is cut short.
        OSError: it cannot be opened.
    """
    packing = kinds_of(path)[1]
    if not packing:
        with path.open("rb") as file:
            _check_plain(path, file.read(10))
            file.seek(0)
            yield file
        return
    path.open("rb").close()  # a file that cannot be opened is no broken one
    try:
        with OPENERS[packing](path) as file:
            yield file
    except _BROKEN as error:
        raise DataError(
            f"{path}: found data that cannot be unpacked ({error}); expected a whole {packing} file; fix: write the "
            "file again, or name it by what it is"
        ) from error
