"""What a name of data leads to: a file, a folder, or nothing here; what would hang or never end is refused at once."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from instruct_fmt.errors import UsageError, shown

Place = Literal["file", "folder", "nothing"]

_KINDS: Mapping[str, Callable[[int], bool]] = {
    "a pipe": stat.S_ISFIFO,
    "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
    "a socket": stat.S_ISSOCK,
}
_NOTHING = (errno.ENOENT, errno.ENOTDIR)


def place_of(name: str, path: Path) -> Place:
    """What is at a path; links are followed.

    Raises:
        UsageError: no file or folder that can be read, such as a pipe or a link to nowhere.
    """
    try:
        mode = path.stat().st_mode
    except ValueError as error:
        raise _refused(name, f"a name that no file can have ({error})", "correct the name") from None
    except OSError as error:
        return _missing(name, path, error)
    if found := odd_kind(mode):
        raise _refused(name, found, "write the data to a file, and name that")
    if not os.access(path, os.R_OK):
        raise _refused(name, "no permission to read it", "change its mode, or read it as its owner")
    return "folder" if stat.S_ISDIR(mode) else "file"


def odd_kind(mode: int) -> str | None:
    """What a thing is that is neither file nor folder; None for these two."""
    return next((kind for kind, is_kind in _KINDS.items() if is_kind(mode)), None)


def home(name: str) -> Path:
    """A name as a path, `~` at its start as the folder of a user.

    Raises:
        UsageError: there is no such user, or no name.
    """
    if not name.strip():
        raise _refused(repr(name), "an empty name", "name a file, a folder or a dataset")
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise _refused(name, "no such user", "write the path in full") from None


def _missing(name: str, path: Path, error: OSError) -> Place:
    if error.errno == errno.ELOOP:
        raise _refused(name, "a link that leads to itself", "correct the link")
    if error.errno in _NOTHING:
        if path.is_symlink():
            raise _refused(
                name, f"a link to {path.readlink()}, where there is no such file or folder", "correct the link"
            )
        return "nothing"
    raise _refused(name, f"a path that cannot be read ({error.strerror})", "correct the path")


def _refused(name: str, found: str, fix: str) -> UsageError:
    about = name if len(name) <= 500 else shown(name)
    return UsageError(about, found, "a file or a folder of data", fix)
