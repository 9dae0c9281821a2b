"""What lies in the folder of a result: its own files, whether they are still as written, and anybody else's.

In: a folder and its manifest. Out: names of files, relative to the folder. No link is followed, and no name that a
manifest gives is used as a path before the folder was seen to hold it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from instruct_fmt.common.threads import in_order
from instruct_fmt.run.digest import file_digest
from instruct_fmt.run.manifest import FILE_NAME, HIT, File, Manifest, compare, read

# What `datasets` keeps beside the files of a dataset that is mapped; `cleanup_cache_files` removes it too.
_CACHES = "cache-*.arrow"
_SPLITS = ("", "train", "validation")


def described(folder: Path) -> dict[str, File]:
    """Every file of a folder that was just written, for its manifest."""
    names = sorted(name for name in _members(folder) if name != FILE_NAME)
    return dict(zip(names, in_order(lambda name: _described(folder / name), names), strict=True))


def verdict(folder: Path, new: Manifest, *, thorough: bool = False) -> str:
    """Whether the result in `folder` is the one that `new` describes, complete and unchanged.

    Args:
        folder: an earlier result, or nothing.
        new: what is wanted.
        thorough: whether the contents are compared of files too that have the size and the time of writing.
    """
    old = read(folder)
    if old is None:
        return "miss: nothing prepared here before"
    found = compare(old, new)
    damage = _damage(folder, old, thorough=thorough) if found == HIT else None
    return f"miss: {damage}" if damage else found


def foreign(folder: Path) -> str | None:
    """The first file or folder in `folder` that is no part of a result of this package; None where all is."""
    manifest = read(folder)
    own = {FILE_NAME, *manifest.files} if manifest else set()
    return next((name for name in _members(folder) if name not in own and not (manifest and _is_cache(name))), None)


def _is_cache(name: str) -> bool:
    split, _, file = name.rpartition("/")
    return fnmatchcase(file, _CACHES) and split in _SPLITS


def _members(folder: Path) -> Iterator[str]:
    """Whatever is no folder with something in it; a link is a link, wherever it leads."""
    for root, folders, files in os.walk(folder, onerror=_raise):
        base = Path(root)
        links = [name for name in folders if (base / name).is_symlink()]
        for name in (*files, *links):
            yield (base / name).relative_to(folder).as_posix()
        if base != folder and not folders and not files:
            yield base.relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    raise error


def _described(path: Path) -> File:
    found = path.stat()
    return File(found.st_size, found.st_mtime_ns, file_digest(path))


def _damage(folder: Path, manifest: Manifest, *, thorough: bool) -> str | None:
    """What is wrong with the first file that is not what was written."""
    present = set(_members(folder))
    if missing := next((name for name in manifest.files if name not in present), None):
        return f"{missing} is missing"
    names = list(manifest.files)
    changed = in_order(lambda name: _changed(folder / name, manifest.files[name], thorough=thorough), names)
    return next((f"{name} is not what was written" for name, wrong in zip(names, changed, strict=True) if wrong), None)


def _changed(path: Path, written: File, *, thorough: bool) -> bool:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_size != written.size:
        return True
    if found.st_mtime_ns == written.modified and not thorough:
        return False
    return file_digest(path) != written.digest
