"""Opening data by name: a local file, a folder, the embedded sample, or a dataset of the Hub.

In: a path or name, and a split. Out: a `datasets.Dataset`, memory-mapped. Nothing in the source is lost or
guessed: see `json_io` for JSON; every column of a CSV file is text. Suffixes count whatever their case.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from instruct_fmt.embedded import records_path, sample_path
from instruct_fmt.errors import DataError, UsageError, shown
from instruct_fmt.files import expanded
from instruct_fmt.run.arrow_types import plain_batches, plain_schema
from instruct_fmt.run.bad_rows import BadLine, BadRows
from instruct_fmt.run.csv_io import check_width, csv_batches, named_once
from instruct_fmt.run.folder_io import has_own_rules, split_files
from instruct_fmt.run.json_io import JsonRows
from instruct_fmt.run.packed import MAX_LINE, OPENERS, kinds_of, lines, opened, too_long
from instruct_fmt.run.unchanged import Unchanged

__all__ = ["open_dataset"]

_EMBEDDED: dict[str, Callable[[], Path]] = {"embedded": sample_path, "embedded/records": records_path}
_HASH_BYTES = 1 << 20
# Part of the key of a converted file; raise it when the conversion changes.
_CONVERSION = "5"
_DOCUMENT = "document"
_TEXT_ROWS = 10_000
_BATCH_BYTES = 16_000_000
_GLOB = frozenset("*?[")

Batches = tuple[pa.Schema, Iterable[pa.RecordBatch]]


def open_dataset(
    name: str, *, split: str = "train", subset: str | None = None, bad: BadRows | None = None
) -> datasets.Dataset:
    """Open a dataset.

    Args:
        name: path of a file (`.json`, `.jsonl`, `.csv`, `.tsv`, `.txt`, these also with `.gz`, `.bz2`, `.xz` or
            `.zst`; `.parquet`, `.arrow`) or of a folder, ``embedded`` (conversations), ``embedded/records``, or a
            name on the Hub. A `.txt` file has one row a line, in a column `text`; a line of blanks is none.
        split: name of the split, or a slice such as ``train[:100]``; a single file is the split ``train``.
        subset: the configuration of a dataset on the Hub; ``document`` makes one row of each whole `.txt` file.
        bad: takes the lines of a single text file that are no rows; without it the first of them is an error.

    The files of a folder are of one kind, and each is read as it would be alone; which are a split, their names say as
    in `datasets`, or the folder's dataset card, in which case `datasets` reads them.

    Raises:
        DataError: the data is empty, broken or cannot be loaded.
        UsageError: there is no such file, kind of file or split.

    >>> open_dataset("embedded", split="train[:3]").num_rows
    3
    """
    path = _EMBEDDED[name]() if name in _EMBEDDED else expanded(name)
    if path.is_dir():
        return _folder(path, split, subset)
    if path.is_file():
        return _slice(_file(path, subset, bad), split, str(path))
    if not _GLOB.isdisjoint(name):
        raise UsageError(f"{name}: found a pattern; expected one file or folder; fix: name each file under `datasets`")
    if path.is_symlink():
        raise UsageError(
            f"{name}: found a link to {path.readlink()}, where there is no such file or folder; expected one; "
            "fix: correct the link"
        )
    if kinds_of(path)[0] in _READERS or path.is_absolute() or name.startswith("."):
        raise UsageError(f"{name}: found no such file or folder; expected one; fix: correct the path")
    return _hub(name, split, subset)


def _file(path: Path, subset: str | None, bad: BadRows | None = None) -> datasets.Dataset:
    kind, packing = kinds_of(path)
    if kind not in _READERS or (packing and kind in _WHOLE):
        raise UsageError(
            f"{path}: found a file of kind {kind + packing or '(none)'!r}; expected one of {', '.join(_READERS)}, "
            f"those of text also with {', '.join(OPENERS)}; fix: convert or rename it"
        )
    if subset is not None and (kind, subset) != (".txt", _DOCUMENT):
        raise UsageError(
            f"{path}: found the name {subset!r} for a file; expected none, which is for datasets of the Hub, or "
            f"{_DOCUMENT!r} for a whole .txt file as one row; fix: leave `name` out"
        )
    if bad is not None and kind in _LENIENT and subset is None:
        return _lenient(path, kind, bad)
    return _read([path], kind, whole=subset is not None)


def _lenient(path: Path, kind: str, bad: BadRows) -> datasets.Dataset:
    """A file without the lines that are no rows, which go to `bad`; they are kept beside the converted file."""

    def read() -> Batches:
        if kind in (".csv", ".tsv"):
            return csv_batches(path, "\t" if kind == ".tsv" else ",", bad)
        if kind == ".txt":
            return _text_batches(path, bad=bad)
        rows = JsonRows.open(path, bad=bad)
        return rows.schema, rows.batches()

    found = _converted([path], read, "without bad rows", bad)
    if not len(found):
        raise DataError(f"{path}: found no rows but bad ones; expected at least one; fix: check how it was written")
    return found


def _read(paths: Sequence[Path], kind: str, *, whole: bool = False) -> datasets.Dataset:
    """Files of one kind as one dataset; JSON files share their columns' types, others must agree on them."""
    empty = next((path for path in paths if not path.stat().st_size), None)
    if empty:
        raise DataError(f"{empty}: found an empty file; expected at least one row; fix: check how it was written")
    reader = partial(_text, whole=True) if whole else _READERS[kind]
    parts: list[datasets.Dataset] = []
    for group in [paths] if reader is _json else [[path] for path in paths]:
        try:
            parts.append(reader(*group))
        except pa.ArrowException as error:
            raise DataError(
                f"{group[0]}: found data that cannot be read ({error}); expected a {kind} file; "
                "fix: write the file again"
            ) from error
        if not len(parts[-1]):
            raise DataError(f"{group[0]}: found no rows; expected at least one; fix: check how it was written")
        if parts[-1].features != parts[0].features:
            raise DataError(
                f"{group[0]}: found the columns {shown(parts[-1].features)}; expected those of {paths[0]}, "
                f"{shown(parts[0].features)}; fix: give both files the same columns, or name each under `datasets`"
            )
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _json(*paths: Path) -> datasets.Dataset:
    def read() -> Batches:
        rows = JsonRows.open(*paths)
        return rows.schema, rows.batches()

    return _converted(paths, read)


def _csv(path: Path, *, delimiter: str) -> datasets.Dataset:
    """All columns as text: "NA" and "007" stay what they are."""
    return _converted([path], lambda: csv_batches(path, delimiter))


def _text(path: Path, *, whole: bool = False) -> datasets.Dataset:
    """One row a line, or one of the whole file."""
    return _converted([path], lambda: _text_batches(path, whole=whole), _DOCUMENT if whole else "")


def _text_batches(path: Path, *, whole: bool = False, bad: BadRows | None = None) -> Batches:
    schema = pa.schema([(_TEXT, pa.string())])

    def rows() -> Iterator[str]:
        with opened(path) as file:
            if whole:
                raw = file.read(MAX_LINE + 1)
                if len(raw) > MAX_LINE:
                    raise too_long(path, 1)
                yield _decoded(path, 1, raw)
                return
            count = 0
            for number, raw in enumerate(lines(path, file), 1):
                try:
                    line = _decoded(path, number, raw).rstrip("\r\n")
                except BadLine as error:
                    if bad is None:
                        raise
                    bad.add(error, count)
                    continue
                if line.strip():
                    count += 1
                    yield line

    def batches() -> Iterator[pa.RecordBatch]:
        found = rows()
        while chunk := list(islice(found, _TEXT_ROWS)):
            yield pa.RecordBatch.from_arrays([pa.array(chunk, pa.string())], schema=schema)

    return schema, batches()


def _decoded(path: Path, line: int, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        what = f"bytes that are not UTF-8 ({error.reason}: {shown(raw[max(error.start - 20, 0) : error.start + 20])})"
        raise BadLine(path, line, what, "text", "save the file as UTF-8") from None


def _parquet(path: Path) -> datasets.Dataset:
    with path.open("rb") as raw:
        raw.seek(max(path.stat().st_size - 4, 0))
        if raw.read() != b"PAR1":
            raise DataError(
                f"{path}: found no Parquet file, or one that is cut short; expected one that ends in PAR1; "
                "fix: write the file again"
            )

    def read() -> Batches:
        file = pq.ParquetFile(path)
        _check_groups(path, file)
        names = file.schema_arrow.names
        check_width(str(path), len(names))
        named_once(str(path), names)
        schema = plain_schema(str(path), file.schema_arrow)
        return schema, plain_batches(file.iter_batches(batch_size=_rows_at_a_time(file)), schema)

    return _converted([path], read)


def _arrow(path: Path) -> datasets.Dataset:
    source = pa.memory_map(str(path))
    stream = True
    try:
        reader = pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        # Not the stream format that `datasets` writes: the file format, also known as Feather.
        source.seek(0)
        reader, stream = pa.ipc.open_file(source), False
    given = reader.schema
    check_width(str(path), len(given.names))
    named_once(str(path), given.names)
    schema = plain_schema(str(path), given)
    if stream and schema.equals(given, check_metadata=True):
        return datasets.Dataset.from_file(str(path))
    batches = reader if stream else map(reader.get_batch, range(reader.num_record_batches))
    return _converted([path], lambda: (schema, plain_batches(batches, schema)))


def _check_groups(path: Path, file: pq.ParquetFile) -> None:
    """Refuse a group of few rows that would take more memory than any row needs."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        if group.total_byte_size > MAX_LINE * max(group.num_rows, 1):
            raise DataError(
                f"{path}: found rows of {group.total_byte_size // max(group.num_rows, 1):,} bytes; expected at most "
                f"{MAX_LINE:,} each; fix: split the rows"
            )


def _rows_at_a_time(file: pq.ParquetFile) -> int:
    """Rows whose values are some megabytes on average, if the file says how large they are."""
    found = file.metadata
    size = sum(found.row_group(number).total_byte_size for number in range(found.num_row_groups))
    return int(max(1, min(1000, _BATCH_BYTES * found.num_rows // max(size, 1))))


_READERS: dict[str, Callable[..., datasets.Dataset]] = {
    ".json": _json,
    ".jsonl": _json,
    ".ndjson": _json,
    ".parquet": _parquet,
    ".csv": partial(_csv, delimiter=","),
    ".tsv": partial(_csv, delimiter="\t"),
    ".txt": _text,
    ".arrow": _arrow,
}
# Kinds whose rows are lines.
_LENIENT = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt")
# Kinds that are compressed inside, if at all.
_WHOLE = (".parquet", ".arrow")
_TEXT = "text"


def _converted(
    paths: Sequence[Path], read: Callable[[], Batches], how: str = "", bad: BadRows | None = None
) -> datasets.Dataset:
    """The files as a memory-mapped Arrow file in the cache, named by its content; written once."""
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "instruct_fmt" / "sources"
    for path in paths:
        if kinds_of(path)[0] not in _WHOLE:
            with opened(path):  # what is no text at all is refused before it is read to its end
                pass
    before = Unchanged.of(paths)
    target = cache / f"{_content_hash(paths, how)}.arrow"
    if not target.is_file():
        schema, batches = read()
        cache.mkdir(parents=True, exist_ok=True)
        staging = cache / f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            with pa.ipc.new_stream(str(staging), schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            before.check()
            if bad is not None:
                bad.write(_beside(target))
            staging.replace(target)
        finally:
            staging.unlink(missing_ok=True)
    elif bad is not None:
        bad.read(_beside(target))
    return datasets.Dataset.from_file(str(target))


def _beside(target: Path) -> Path:
    """The file of the lines that were left out of a converted one."""
    return target.with_suffix(".bad.jsonl")


def _content_hash(paths: Sequence[Path], how: str) -> str:
    digest = hashlib.sha256(f"{_CONVERSION} {how}\n".encode())
    for path in paths:
        digest.update(f"{''.join(kinds_of(path))} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            for block in _blocks(file.read):
                digest.update(block)
    return digest.hexdigest()


def _blocks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while block := read(_HASH_BYTES):
        yield block


def _folder(path: Path, split: str, subset: str | None) -> datasets.Dataset:
    """A folder of `save_to_disk`, or one of data files."""
    saved = (path / "state.json").is_file()
    if not saved and not (path / "dataset_dict.json").is_file():
        return _data_folder(path, split, subset)
    if subset is not None:
        raise UsageError(f"{path}: found the name {subset!r} for a saved dataset; expected none; fix: leave `name` out")
    found = datasets.load_from_disk(str(path))
    if isinstance(found, datasets.Dataset):
        return _slice(found, split, str(path))
    name = split.split("[")[0]
    if name not in found:
        raise UsageError(
            f"{path}: found no split {name!r}; expected one of {', '.join(found)}; fix: set `split` to one of them"
        )
    return _slice(found[name], split.replace(name, "train", 1), str(path))


def _data_folder(path: Path, split: str, subset: str | None) -> datasets.Dataset:
    if subset not in (None, _DOCUMENT) or has_own_rules(path):
        return _hub(str(path), split, subset)
    parts = []
    for part in split.split("+"):
        name = part.split("[")[0]
        files = split_files(path, name, _READERS)
        if not files:
            return _hub(str(path), split, subset)
        found = _file(files[0], subset) if len(files) == 1 else _many(path, files, subset)
        parts.append(_slice(found, part.replace(name, "train", 1), str(path)))
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _many(path: Path, files: Sequence[Path], subset: str | None) -> datasets.Dataset:
    kind = kinds_of(files[0])[0]
    if subset is not None and kind != ".txt":
        raise UsageError(
            f"{path}: found the name {subset!r} for files of kind {kind!r}; expected .txt files; fix: leave `name` out"
        )
    return _read(files, kind, whole=subset is not None)


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
