"""Small files that are read whole, such as configurations and templates: only files, and only of reasonable size.

A pipe would be waited for, a device never ends, and a name may lead nowhere.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from instruct_fmt.errors import UsageError, shown

_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def read_whole(path: Path, limit: int) -> bytes:
    """The bytes of a file.

    Raises:
        UsageError: it is no file, has more bytes than `limit`, or no file can have that name.
        OSError: it cannot be opened.
    """
    try:
        number = os.open(path, os.O_RDONLY | _NO_WAIT)
    except ValueError as error:  # a NUL, or half a character
        raise UsageError(f"{shown(str(path))}", f"no name of a file ({error})", "one", "correct it") from None
    with os.fdopen(number, "rb") as file:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or device"
            raise UsageError(path, kind, "a file", "name a file, or copy it to one")
        if found.st_size > limit:
            raise UsageError(path, f"a file of {found.st_size:,} bytes", f"at most {limit:,}", "name another file")
        return file.read(limit + 1)


def read_json(path: Path, limit: int) -> Any:
    """The value in a JSON file.

    Raises:
        UsageError: as `read_whole`, and where it is no JSON.
        OSError: it cannot be opened.
    """
    try:
        return json.loads(read_whole(path, limit))
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(path, f"text that is no JSON ({what})", "JSON", "correct the file") from None


def expanded(name: str | os.PathLike[str]) -> Path:
    """A path with `~` as the folder that it stands for.

    Raises:
        UsageError: it stands for none.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise UsageError(name, f"no such user ({error})", "a path", "correct the path") from None


def is_name(text: str) -> bool:
    """Whether a file may have this path."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
