"""What the command line says of an error, and the exit code of its kind."""

from __future__ import annotations

import errno

from instruct_fmt.errors import InstructFmtError, TemplateError, TokenizerError, UsageError


def told(error: Exception) -> tuple[int, str]:
    """The exit code of an error, and its message."""
    if isinstance(error, UsageError | TemplateError | TokenizerError):
        return 2, f"error: {error}"
    if isinstance(error, InstructFmtError):
        return 1, f"error: {error}"
    if isinstance(error, OSError):
        return 2, f"error: {_of_system(error)}"
    if isinstance(error, MemoryError):
        return 3, "error [memory]: there is not enough memory; fix: a smaller batch_size, or fewer processes"
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return 3, f"error [internal]: {what}; nobody foresaw this; fix: `instruct-fmt --debug …` shows where it comes from"


_SYSTEM = {
    errno.ENOSPC: (
        "space on that disk",
        "free some, or name another folder (`output`; HF_DATASETS_CACHE for the cache)",
    ),
    errno.EDQUOT: ("a quota that has room", "free some, or name another folder (`output`; HF_DATASETS_CACHE)"),
    errno.EACCES: ("a place that this user may use", "change its permissions, or name another one"),
    errno.EPERM: ("a place that this user may use", "change its permissions, or name another one"),
    errno.EROFS: ("a place that can be written", "name another folder (`output`; HF_DATASETS_CACHE for the cache)"),
    errno.ENOENT: ("a file or folder that is there", "correct the path, or change to a folder that is there"),
    errno.ENOTDIR: ("a folder in its place", "correct the path"),
    errno.EEXIST: ("a folder in its place", "correct the path"),
    errno.EISDIR: ("a file in its place", "correct the path"),
    errno.ENAMETOOLONG: ("a shorter name", "name another file or folder"),
    errno.EMFILE: ("fewer open files", "raise the limit, `ulimit -n`"),
}


def _of_system(error: OSError) -> str:
    """An error of the operating system, with what to do."""
    place = " and ".join(str(name) for name in (error.filename, error.filename2) if name)
    said = error.strerror or str(error)
    found = f"{place}: found {said[:1].lower()}{said[1:]}" if place else f"found {said[:1].lower()}{said[1:]}"
    expected, fix = _SYSTEM.get(error.errno or 0, ("the system to do it", "check the path and the disk"))
    return f"{found}; expected {expected}; fix: {fix}"
