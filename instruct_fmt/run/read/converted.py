"""Data files converted once: an Arrow file in the cache, named by the bytes that it was made from.

In: paths, and how to read them. Out: a memory-mapped `datasets.Dataset`. The bytes are read twice, once for the name
and once to convert them, or only once where they are converted already; a file that is another one behind than it was
before (its place on the disk, its size or its time) has changed in between, and is an error, which costs no third
reading and holds for readers that seek.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import datasets
import pyarrow as pa

from instruct_fmt.errors import DataError
from instruct_fmt.run.read.bad_rows import BadRows, list_beside, no_rows
from instruct_fmt.run.read.packed import kinds_of
from instruct_fmt.run.read.sealed import is_sealed, seal, seal_beside
from instruct_fmt.run.read.unchanged import identity

# Part of the key of a converted file; raise it when the conversion changes.
_CONVERSION = "5"
_HASH_BYTES = 1 << 20

Batches = tuple[pa.Schema, Iterable[pa.RecordBatch]]


def converted(
    paths: Sequence[Path], read: Callable[[BadRows], Batches], bad: BadRows, how: str = ""
) -> datasets.Dataset:
    """The files as a memory-mapped Arrow file in the cache, with a list of bad rows beside it; written once.

    Raises:
        DataError: a file changed while it was read, or what `read` raises.
        OSError: a file cannot be read, or the cache not be written.
    """
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "instruct_fmt" / "sources"
    check = unchanged(paths)
    # The list of bad rows names the files, so that those of the same bytes share none.
    places = "\n".join(map(str, paths)) if bad.on_bad_row == "reject" else ""
    target = cache / f"{_content_hash(paths, f'{how} {bad.on_bad_row} {places!r}')}.arrow"
    check()
    beside = [list_beside(target)] if bad.on_bad_row == "reject" else []
    if not is_sealed(target, beside):
        with _staged(target) as staging:
            _write(staging, paths, read, bad)
            check()
    return datasets.Dataset.from_file(str(target))


def _write(place: Path, paths: Sequence[Path], read: Callable[[BadRows], Batches], bad: BadRows) -> None:
    schema, batches = read(bad)
    with pa.ipc.new_stream(str(place), schema) as writer:
        rows = sum(_written(writer, batch) for batch in batches)
    if not rows:
        raise no_rows(paths[0], bad)
    if bad.on_bad_row == "reject":
        bad.write(list_beside(place))


def _written(writer: pa.ipc.RecordBatchStreamWriter, batch: pa.RecordBatch) -> int:
    writer.write_batch(batch)
    return int(batch.num_rows)


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A file that takes the target's place at the end, behind its list of bad rows and its seal."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.parent / f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}"
    beside = list_beside(staging), seal_beside(staging)
    try:
        yield staging
        seal(staging, [found for found in beside[:1] if found.is_file()])
        for found, place in zip(beside, (list_beside(target), seal_beside(target)), strict=True):
            if found.is_file():
                found.replace(place)
        staging.replace(target)
    finally:
        for found in (staging, *beside):
            found.unlink(missing_ok=True)


def unchanged(paths: Sequence[Path]) -> Callable[[], None]:
    """What refuses files that changed since this call, by a `DataError`."""
    before = [identity(path) for path in paths]

    def check() -> None:
        for path, found in zip(paths, before, strict=True):
            if identity(path) != found:
                raise DataError(
                    path,
                    "a file that changed while it was read",
                    "it to stay as it is",
                    "wait until it is written, and start again",
                )

    return check


def _content_hash(paths: Sequence[Path], how: str) -> str:
    digest = hashlib.sha256(f"{_CONVERSION} {how}\n".encode())
    for path in paths:
        digest.update(f"{''.join(kinds_of(path))} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(_HASH_BYTES):
                digest.update(block)
    return digest.hexdigest()
