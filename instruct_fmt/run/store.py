"""Where results lie, and how they get there at once: written aside, then renamed.

In: a target folder. Out: a staging folder beside it that takes the target's place at the end, or vanishes on
any error. An earlier result stays as it was until then.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
from filelock import FileLock, Timeout

from instruct_fmt.errors import UsageError, shown
from instruct_fmt.run.contents import foreign, verdict
from instruct_fmt.run.ending import ended_by_exception
from instruct_fmt.run.exchange import exchange
from instruct_fmt.run.manifest import FILE_NAME, HIT, Manifest
from instruct_fmt.run.work import OutputFormat

_HOST = re.sub(r"[^A-Za-z0-9]", "", platform.node())[:24] or "host"
_LOCK, _EARLIER, _RESULT, _WORK = "lock", "earlier", "result", "work"
_PARTS = frozenset({_LOCK, _EARLIER, _RESULT, _WORK})
_STAGING = re.compile(r"\.tmp-[A-Za-z0-9]{1,24}-[0-9]+-[0-9a-f]{8}\Z")
# A staging folder without a lock is just being made, unless its maker died that very moment.
_ABANDONED_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Staging:
    """`result` becomes the target; `work` is for files that do not stay."""

    target: Path
    result: Path
    work: Path


def place_of(path: Path) -> Path:
    """The absolute path of an output folder.

    Raises:
        UsageError: it leads nowhere.
    """
    try:
        place = path.expanduser().resolve()
        str(place).encode()  # Arrow's libraries take no other names
    except (RuntimeError, ValueError, OSError) as error:  # no such user, a loop of links, a NUL
        raise UsageError(
            "output",
            f"{shown(str(path))}, which leads nowhere ({error})",
            "the path of a folder",
            "name another folder",
        ) from None
    return place


def cache_folder() -> Path:
    """The folder of results that were given no folder of their own, inside the cache of `datasets`."""
    return Path(datasets.config.HF_DATASETS_CACHE) / "instruct_fmt" / "prepared"


@contextmanager
def staged(target: Path, new: Manifest, *, reuse: bool, thorough: bool = False) -> Iterator[Staging]:
    """A staging folder on the target's file system; it takes the target's place if the block ends well.

    With `reuse`, the same result put there by another process in the meantime stays, since it may be in use.

    Raises:
        UsageError: the target exists and is not a result of this package, or holds something else beside one.
        OSError: the place cannot be written.
    """
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target)
    with ended_by_exception(), _base(target) as base:
        staging = Staging(target, base / _RESULT, base / _WORK)
        staging.result.mkdir()
        staging.work.mkdir()
        yield staging
        if not reuse or verdict(target, new, thorough=thorough) != HIT:
            _put_in_place(staging)


@contextmanager
def _base(target: Path) -> Iterator[Path]:
    """A folder beside the target, with a lock that tells whoever looks, on any machine, that it is in use."""
    while True:
        base = target.parent / f".{target.name}.tmp-{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        lock = FileLock(base / _LOCK)
        try:
            base.mkdir()
            with suppress(FileNotFoundError):  # whoever swept between the two lines took it for a dead process's
                lock.acquire()
            if lock.is_locked and (base / _LOCK).is_file():
                yield base
                return
        finally:
            lock.release()
            shutil.rmtree(base, ignore_errors=True)


def check_target(target: Path) -> None:
    """Refuse a place that is not to be replaced: somebody's files, a link that leads nowhere, the current folder.

    Raises:
        UsageError: it is such a place.
    """
    fix = "name another folder"
    if target.is_symlink():
        raise UsageError("output", f"{target}, a link that leads nowhere", "a folder", fix)
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError("output", f"{target}, which is a file", "a folder", fix)
    if target == Path.cwd() or target.is_mount():
        kind = "the top of a file system" if target.is_mount() else "the current folder"
        raise UsageError(
            "output",
            f"{target}, {kind}, which cannot be replaced as a whole",
            "a folder for the result alone",
            f"name a folder in it, such as {target / 'prepared'}",
        )
    if other := foreign(target):
        beside = "which is no part of the result there" if (target / FILE_NAME).is_file() else "and no earlier result"
        raise UsageError(
            "output",
            f"{target} with {shown(other)} in it, {beside}",
            "a new folder, an empty one or an earlier result alone",
            f"{fix}, or move that file away yourself",
        )


def sweep(target: Path) -> None:
    """Clear what a killed process left beside the target, on whatever machine; put back what it had set aside."""
    for left in sorted(target.parent.glob(f".{glob.escape(target.name)}.tmp-*")):
        if not _is_staging(left):
            continue
        lock = left / _LOCK
        if not lock.is_file():
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
            continue
        with suppress(Timeout, OSError), FileLock(lock, blocking=False):
            if (left / _EARLIER).is_dir() and not target.exists():
                (left / _EARLIER).rename(target)
            shutil.rmtree(left, ignore_errors=True)


def _is_staging(folder: Path) -> bool:
    """Whether a folder is one of ours, by its name and by what is in it; anything else is somebody's."""
    if not _STAGING.search(folder.name) or folder.is_symlink() or not folder.is_dir():
        return False
    with suppress(OSError):
        return _PARTS.issuperset(path.name for path in folder.iterdir())
    return False


def write_dataset_files(
    folder: Path, names: list[str], features: datasets.Features, key: str, split: str | None = None
) -> None:
    """The two files with which `datasets.load_from_disk` opens a folder of Arrow files."""
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": key[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    info = asdict(datasets.DatasetInfo(features=features))
    (folder / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True), encoding="utf-8")
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2), encoding="utf-8")


def write_splits(folder: Path, names: list[str]) -> None:
    """The file with which `datasets.load_from_disk` opens a folder that has one for each split."""
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": names}), encoding="utf-8")


def file_name(index: int, total: int, output_format: OutputFormat, split: str = "train") -> str:
    """The name of a data file in the result, as `save_to_disk` and `load_dataset` expect it."""
    number = f"{index:05d}-of-{total:05d}"
    # `load_dataset(folder)` takes files named so, and leaves the manifest beside them alone.
    return f"data/{split}-{number}.parquet" if output_format == "parquet" else f"data-{number}.arrow"


def load(folder: Path, output_format: OutputFormat) -> datasets.DatasetDict:
    """Open the splits of a result, ``train`` and perhaps ``validation``; Arrow files are memory-mapped."""
    if output_format == "arrow":
        found = datasets.load_from_disk(str(folder))
        return found if isinstance(found, datasets.DatasetDict) else datasets.DatasetDict(train=found)
    files: dict[str, list[str]] = {}
    for path in sorted((folder / "data").glob("*.parquet")):
        files.setdefault(path.name.partition("-")[0], []).append(str(path))
    with _quiet():
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_parquet(files[split], split=split) for split in sorted(files)}
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of `datasets` for a while."""
    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def _put_in_place(staging: Staging) -> None:
    """The result takes the target's name; what had it before goes to the staging folder, and with that."""
    try:
        staging.result.rename(staging.target)  # nothing there, or an empty folder
    except OSError as error:
        if not staging.target.is_dir():
            raise
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES):
            raise
    else:
        return
    in_one_step = exchange(staging.result, staging.target)
    if not in_one_step:
        _replace(staging)
    earlier = staging.result if in_one_step else staging.result.parent / _EARLIER
    if other := foreign(earlier):
        if not in_one_step:
            staging.target.rename(staging.result)
            earlier.rename(staging.target)
        else:
            exchange(staging.result, staging.target)
        raise UsageError(
            "output",
            f"{shown(other)} in {staging.target}, put there in the meantime",
            "an earlier result alone",
            "move it away, and prepare again",
        )


def _replace(staging: Staging) -> None:
    """In two steps, where the system has none; `sweep` mends what happens between them."""
    earlier = staging.result.parent / _EARLIER
    try:
        staging.target.rename(earlier)
        staging.result.rename(staging.target)
    finally:
        if earlier.exists() and not staging.target.exists():
            earlier.rename(staging.target)
