"""Whether the files under a dataset are still those that were read at the start.

In: paths. Out: an error where a file was written while it was read: the hash that names the result would then be of
other rows than the ones that were encoded. Datasets are memory-mapped, so every look at a row reads the file again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from instruct_fmt.errors import DataError

# Device, number, size and time of writing (ns): what differs where a file was written or replaced.
Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Files, and what they were."""

    files: dict[Path, Identity]

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Unchanged:
        """Files as they are now; those that are not there are no matter."""
        found = ((path, identity(path)) for path in paths)
        return cls({path: known for path, known in found if known is not None})

    def check(self) -> None:
        """Refuse a file that is no longer what it was.

        Raises:
            DataError: one was written, replaced or removed.
        """
        for path, before in self.files.items():
            if identity(path) != before:
                raise DataError(
                    path,
                    "a file that was changed while it was read",
                    "the same file until the end",
                    "prepare again when nothing writes to it, or from a copy",
                )


def identity(path: Path) -> Identity | None:
    """What tells that a file was written; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
