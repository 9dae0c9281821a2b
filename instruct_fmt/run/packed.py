"""Files that may be compressed: opened by their suffix; what is no such file, or is cut short, is refused by name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from instruct_fmt.errors import DataError

OPENERS: Mapping[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_BROKEN = (EOFError, OSError, lzma.LZMAError, zlib.error)


def kinds_of(path: Path) -> tuple[str, str]:
    """The kind of a data file and of its compression, as suffixes in lower case; "" where there is none.

    >>> kinds_of(Path("rows.JSONL.gz")), kinds_of(Path("rows.tsv"))
    (('.jsonl', '.gz'), ('.tsv', ''))
    """
    suffix = path.suffix.lower()
    return (Path(path.stem).suffix.lower(), suffix) if suffix in OPENERS else (suffix, "")


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
