"""Whether files of the cache are still what was written: a disk that filled up or lost its power cuts them anywhere.

In: a file, and others that belong to it. Out: a *seal* beside it: sizes, times of writing and checksums of all of them.
The checksums are compared only where size or time differ.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from instruct_fmt.run.digest import file_digest

SUFFIX = ".seal.json"


def seal_beside(path: Path) -> Path:
    """Where the seal of a file is."""
    return path.with_name(path.name + SUFFIX)


def seal(path: Path, others: Sequence[Path]) -> None:
    """Seal a file and the others that were written with it."""
    found = [_looked(one) for one in (path, *others)]
    text = json.dumps(
        [[size, modified, file_digest(one)] for one, (size, modified) in zip((path, *others), found, strict=True)]
    )
    seal_beside(path).write_text(text, encoding="utf-8")


def is_sealed(path: Path, others: Sequence[Path]) -> bool:
    """Whether all of the files are there, as they were sealed."""
    with suppress(OSError, ValueError, TypeError):  # a seal that is missing or damaged seals nothing
        known = json.loads(seal_beside(path).read_text("utf-8"))
        if len(known) != 1 + len(others):
            return False
        return all(_is_same(one, *values) for one, values in zip((path, *others), known, strict=True))
    return False


def _is_same(path: Path, size: int, modified: int, digest: str) -> bool:
    found = _looked(path)
    return found[0] == size and (found[1] == modified or file_digest(path) == digest)


def _looked(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
