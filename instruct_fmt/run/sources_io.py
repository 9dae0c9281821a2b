"""Opening data by name: a local file, a folder, the embedded sample, or a dataset of the Hub.

In: a path or name, and a split. Out: a `datasets.Dataset`, memory-mapped. Nothing in the source is lost or
guessed: see `json_io` for JSON; every column of a CSV file is text.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from instruct_fmt.embedded import records_path, sample_path
from instruct_fmt.errors import DataError, UsageError
from instruct_fmt.run.json_io import JsonRows

__all__ = ["open_dataset"]

_EMBEDDED: dict[str, Callable[[], Path]] = {"embedded": sample_path, "embedded/records": records_path}
_HASH_BYTES = 1 << 20
# Part of the key of a converted file; raise it when the conversion changes.
_CONVERSION = "1"

Batches = tuple[pa.Schema, Iterable[pa.RecordBatch]]


def open_dataset(name: str, *, split: str = "train", subset: str | None = None) -> datasets.Dataset:
    """Open a dataset.

    Args:
        name: path of a file (`.json`, `.jsonl`, `.parquet`, `.csv`, `.tsv`, `.arrow`; JSON also with `.gz`)
            or of a folder, ``embedded`` (conversations), ``embedded/records``, or a name on the Hub.
        split: name of the split, or a slice such as ``train[:100]``; a single file is the split ``train``.
        subset: the configuration of a dataset on the Hub.

    Raises:
        DataError: the data is empty, broken or cannot be loaded.
        UsageError: there is no such file, kind of file or split.

    >>> open_dataset("embedded", split="train[:3]").num_rows
    3
    """
    path = _EMBEDDED[name]() if name in _EMBEDDED else Path(name).expanduser()
    if path.is_dir():
        return _folder(path, split)
    if path.is_file():
        return _slice(_file(path), split, str(path))
    if path.suffix.removesuffix(".gz") in _READERS or path.is_absolute() or name.startswith("."):
        raise UsageError(f"{name}: found no such file or folder; expected one; fix: correct the path")
    return _hub(name, split, subset)


def _file(path: Path) -> datasets.Dataset:
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if kind.lower() not in _READERS:
        raise UsageError(
            f"{path}: found a file of kind {path.suffix or '(none)'!r}; "
            f"expected one of {', '.join(_READERS)}; fix: convert or rename it"
        )
    if not path.stat().st_size:
        raise DataError(f"{path}: found an empty file; expected at least one row; fix: check how it was written")
    try:
        return _READERS[kind.lower()](path)
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: found data that cannot be read ({error}); expected a {kind} file; fix: write the file again"
        ) from error


def _json(path: Path) -> datasets.Dataset:
    def read() -> Batches:
        rows = JsonRows.open(path)
        return rows.schema, rows.batches()

    return _converted(path, read)


def _csv(path: Path) -> datasets.Dataset:
    """All columns as text: "NA" and "007" stay what they are."""

    def read() -> Batches:
        parse = pa.csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True)
        names = pa.csv.open_csv(path, parse_options=parse).schema.names
        convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        reader = pa.csv.open_csv(path, parse_options=parse, convert_options=convert)
        return reader.schema, reader

    return _converted(path, read)


def _parquet(path: Path) -> datasets.Dataset:
    def read() -> Batches:
        file = pq.ParquetFile(path)
        return file.schema_arrow, file.iter_batches(batch_size=1000)

    return _converted(path, read)


def _arrow(path: Path) -> datasets.Dataset:
    try:
        return datasets.Dataset.from_file(str(path))
    except pa.ArrowInvalid:
        # Not the stream format that `datasets` writes: the file format, also known as Feather.
        return datasets.Dataset(pa.ipc.open_file(pa.memory_map(str(path))).read_all())


_READERS: dict[str, Callable[[Path], datasets.Dataset]] = {
    ".json": _json,
    ".jsonl": _json,
    ".ndjson": _json,
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
    ".arrow": _arrow,
}


def _converted(path: Path, read: Callable[[], Batches]) -> datasets.Dataset:
    """The file as a memory-mapped Arrow file in the cache, named by its content; written once."""
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "instruct_fmt" / "sources"
    target = cache / f"{_content_hash(path)}.arrow"
    if not target.is_file():
        schema, batches = read()
        cache.mkdir(parents=True, exist_ok=True)
        staging = cache / f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            with pa.ipc.new_stream(str(staging), schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            staging.replace(target)
        finally:
            staging.unlink(missing_ok=True)
    return datasets.Dataset.from_file(str(target))


def _content_hash(path: Path) -> str:
    digest = hashlib.sha256(f"{_CONVERSION} {''.join(path.suffixes[-2:])}\n".encode())
    with path.open("rb") as file:
        for block in _blocks(file.read):
            digest.update(block)
    return digest.hexdigest()


def _blocks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while block := read(_HASH_BYTES):
        yield block


def _folder(path: Path, split: str) -> datasets.Dataset:
    """A folder of `save_to_disk`, or one of data files."""
    saved = (path / "state.json").is_file()
    if not saved and not (path / "dataset_dict.json").is_file():
        return _hub(str(path), split, None)
    found = datasets.load_from_disk(str(path))
    if isinstance(found, datasets.Dataset):
        return _slice(found, split, str(path))
    name = split.split("[")[0]
    if name not in found:
        raise UsageError(
            f"{path}: found no split {name!r}; expected one of {', '.join(found)}; fix: set `split` to one of them"
        )
    return _slice(found[name], split.replace(name, "train", 1), str(path))


def _slice(dataset: datasets.Dataset, split: str, name: str) -> datasets.Dataset:
    """Apply ``train[:100]`` to a dataset that is one split."""
    if split == "train":
        return dataset
    try:
        ranges = datasets.ReadInstruction.from_spec(split).to_absolute({"train": len(dataset)})
    except (ValueError, AssertionError) as error:
        raise UsageError(
            f"{name}: found split {split!r} ({error}); expected `train` or a slice of it such as "
            "`train[:100]`; fix: correct `split`, or leave it out"
        ) from error
    rows = [row for part in ranges for row in range(part.from_, part.to)]
    return dataset.select(rows)


def _hub(name: str, split: str, subset: str | None) -> datasets.Dataset:
    try:
        found = datasets.load_dataset(name, subset, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{name}: found no dataset that can be loaded ({_first_line(error)}); expected a local file, a "
            "folder or a dataset of the Hub; fix: check the name, the split and the network"
        ) from error
    assert isinstance(found, datasets.Dataset)
    return found


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
