"""Two folders get each other's names in one step, so that at no moment one of the names is missing.

Linux has `renameat2(…, RENAME_EXCHANGE)`, macOS `renamex_np(…, RENAME_SWAP)`; neither is in Python's library. Not every
file system can do it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_HERE = -100  # AT_FDCWD: the paths are not relative to an open folder
_SWAP = 2  # RENAME_EXCHANGE, and RENAME_SWAP
_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


def exchange(one: Path, other: Path) -> bool:
    """Swap two names on one file system; False where the system cannot.

    Raises:
        OSError: either is missing, or may not be renamed.
    """
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            failed = library.renamex_np(os.fsencode(one), os.fsencode(other), ctypes.c_uint(_SWAP))
        else:
            paths = (_HERE, os.fsencode(one), _HERE, os.fsencode(other))
            failed = library.renameat2(*paths, ctypes.c_uint(_SWAP))
    except (AttributeError, TypeError, OSError):  # no such function, or no such library
        return False
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(other))
