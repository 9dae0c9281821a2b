"""Where results lie, and how they get there at once: written aside, then renamed.

In: a target folder. Out: a staging folder beside it that takes the target's place at the end, or vanishes on
any error. An earlier result stays as it was until then.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets

from instruct_fmt.errors import UsageError
from instruct_fmt.run.manifest import FILE_NAME, HIT, Manifest, verdict
from instruct_fmt.run.work import OutputFormat

_HOST = re.sub(r"[^A-Za-z0-9]", "", platform.node())[:24] or "host"


@dataclass(frozen=True, slots=True)
class Staging:
    """`result` becomes the target; `work` is for files that do not stay."""

    target: Path
    result: Path
    work: Path


def cache_folder() -> Path:
    """The folder of results that were given no folder of their own, inside the cache of `datasets`."""
    return Path(datasets.config.HF_DATASETS_CACHE) / "instruct_fmt" / "prepared"


@contextmanager
def staged(target: Path, new: Manifest, reuse: bool) -> Iterator[Staging]:
    """A staging folder on the target's file system; it takes the target's place if the block ends well.

    With `reuse`, the same result put there by another process in the meantime stays, since it may be in use.

    Raises:
        UsageError: the target exists and is not a result of this package.
        OSError: the place cannot be written.
    """
    target = target.resolve()
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target)
    base = target.parent / f".{target.name}.tmp-{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    staging = Staging(target, base / "result", base / "work")
    try:
        staging.result.mkdir(parents=True)
        staging.work.mkdir()
        yield staging
        if not reuse or verdict(target, new) != HIT:
            _swap(staging)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def check_target(target: Path) -> None:
    """Refuse a folder that holds somebody else's files, since it would be replaced."""
    if not target.exists() or (target / FILE_NAME).is_file():
        return
    if not target.is_dir() or any(target.iterdir()):
        raise UsageError(
            f"output: found {target}, which exists and has no {FILE_NAME} of this package; expected a new "
            "folder, an empty one or an earlier result; fix: name another folder, or remove this one yourself"
        )


def sweep(target: Path) -> None:
    """Clear what a killed process of this machine left beside the target; put back what it had set aside."""
    for left in sorted(target.parent.glob(f".{glob_escape(target.name)}.tmp-{_HOST}-*-*")):
        pid = left.name.rsplit("-", 2)[1]
        if pid.isdigit() and not _alive(int(pid)):
            if (left / "earlier").is_dir() and not target.exists():
                (left / "earlier").rename(target)
            shutil.rmtree(left, ignore_errors=True)


def glob_escape(name: str) -> str:
    """A name with glob characters taken literally."""
    return re.sub(r"([*?\[])", r"[\1]", name)


def write_dataset_files(folder: Path, names: list[str], features: datasets.Features, key: str) -> None:
    """The two files with which `datasets.load_from_disk` opens a folder of Arrow files."""
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": key[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    info = asdict(datasets.DatasetInfo(features=features))
    (folder / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True), encoding="utf-8")
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2), encoding="utf-8")


def file_name(index: int, total: int, output_format: OutputFormat) -> str:
    """The name of a data file in the result, as `save_to_disk` and `load_dataset` expect it."""
    number = f"{index:05d}-of-{total:05d}"
    # `load_dataset(folder)` takes files named so, and leaves the manifest beside them alone.
    return f"data/train-{number}.parquet" if output_format == "parquet" else f"data-{number}.arrow"


def load(folder: Path, output_format: OutputFormat) -> datasets.Dataset:
    """Open a result; Arrow files are memory-mapped."""
    if output_format == "arrow":
        found = datasets.load_from_disk(str(folder))
        assert isinstance(found, datasets.Dataset)
        return found
    files = sorted(str(path) for path in (folder / "data").glob("*.parquet"))
    with _quiet():
        found = datasets.Dataset.from_parquet(files)
    assert isinstance(found, datasets.Dataset)
    return found


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


def _swap(staging: Staging) -> None:
    earlier = staging.result.parent / "earlier"
    try:
        if staging.target.exists():
            staging.target.replace(earlier)
        staging.result.replace(staging.target)
    finally:
        if earlier.exists() and not staging.target.exists():
            earlier.replace(staging.target)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
