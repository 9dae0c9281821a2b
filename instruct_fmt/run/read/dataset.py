"""Opening data by name: a local file, a folder, the embedded sample, or a dataset of the Hub.

In: a path or name, and a split. Out: a `datasets.Dataset`, memory-mapped. Nothing in the source is lost or
guessed: see `json_io` for JSON; every column of a CSV file is text. Suffixes count whatever their case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import datasets
import pyarrow as pa
import yaml

from instruct_fmt.embedded import records_path, sample_path
from instruct_fmt.errors import DataError, UsageError, shown
from instruct_fmt.run.read.arrow_io import arrow_file, parquet_batches
from instruct_fmt.run.read.bad_rows import BadRows, OnBadRow, no_rows
from instruct_fmt.run.read.converted import Batches, converted, unchanged
from instruct_fmt.run.read.csv_io import csv_batches
from instruct_fmt.run.read.folder_io import check_members, has_own_rules, split_files
from instruct_fmt.run.read.json_io import JsonRows
from instruct_fmt.run.read.packed import OPENERS, kinds_of
from instruct_fmt.run.read.places import home, place_of
from instruct_fmt.run.read.text_io import text_batches

__all__ = ["open_dataset"]

_EMBEDDED: dict[str, Callable[[], Path]] = {"embedded": sample_path, "embedded/records": records_path}
_DOCUMENT = "document"
_GLOB = frozenset("*?[")
_LONG = 300
# What `datasets` raises for names, cards, scripts and folders that it cannot read.
_NOT_LOADED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    RuntimeError,
    datasets.exceptions.DatasetsError,
    pa.ArrowException,
    yaml.YAMLError,
)


def open_dataset(
    name: str, *, split: str = "train", subset: str | None = None, on_bad_row: OnBadRow = "error"
) -> datasets.Dataset:
    """Open a dataset.

    Args:
        name: path of a file (`.json`, `.jsonl`, `.csv`, `.tsv`, `.txt`, these also with `.gz`, `.bz2`, `.xz` or
            `.zst`; `.parquet`, `.arrow`) or of a folder, ``embedded`` (conversations), ``embedded/records``, or a
            name on the Hub. A `.txt` file has one row a line, in a column `text`; a line of blanks is none.
        split: name of the split, or a slice such as ``train[:100]``; a single file is the split ``train``.
        subset: the configuration of a dataset on the Hub; ``document`` makes one row of each whole `.txt` file.
        on_bad_row: what becomes of a row of JSON, CSV or text that cannot be read: ``error``, or ``reject``, which
            leaves it out; `bad_rows.bad_rows(dataset)` lists them, and `prepare` puts them into its ledger.

    The files of a folder are of one kind, and each is read as it would be alone; which are a split, their names say as
    in `datasets`, or the folder's dataset card, in which case `datasets` reads them.

    Raises:
        DataError: the data is empty, broken or cannot be loaded.
        UsageError: there is no such file, kind of file or split.

    >>> open_dataset("embedded", split="train[:3]").num_rows
    3
    """
    if on_bad_row not in get_args(OnBadRow):
        raise UsageError("on_bad_row", f"{on_bad_row!r}", "'error' or 'reject'", "use one of them, or leave it out")
    path = _EMBEDDED[name]() if name in _EMBEDDED else home(name)
    place = "nothing" if not _GLOB.isdisjoint(name) and not path.exists() else place_of(name, path)
    if place == "folder":
        return _folder(path, split, subset, on_bad_row)
    if place == "file":
        return _slice(_file(path, subset, on_bad_row), split, str(path))
    if not _GLOB.isdisjoint(name):
        raise UsageError(name, "a pattern", "one file or folder", "name each file under `datasets`")
    if kinds_of(path)[0] in _READERS or path.is_absolute() or name.startswith("."):
        raise UsageError(name, "no such file or folder", "one", "correct the path")
    return _hub(name, split, subset)


def _file(path: Path, subset: str | None, on_bad_row: OnBadRow) -> datasets.Dataset:
    kind, packing = kinds_of(path)
    if kind not in _READERS or (packing and kind in _WHOLE):
        raise UsageError(
            path,
            f"a file of kind {kind + packing or '(none)'!r}",
            f"one of {', '.join(_READERS)}, those of text also with {', '.join(OPENERS)}",
            "convert or rename it",
        )
    if subset is not None and (kind, subset) != (".txt", _DOCUMENT):
        raise UsageError(
            path,
            f"the name {subset!r} for a file",
            f"none, which is for datasets of the Hub, or {_DOCUMENT!r} for a whole .txt file as one row",
            "leave `name` out",
        )
    return _read([path], kind, on_bad_row, whole=subset is not None)


def _read(paths: Sequence[Path], kind: str, on_bad_row: OnBadRow, *, whole: bool = False) -> datasets.Dataset:
    """Files of one kind as one dataset; JSON files share their columns' types, others must agree on them."""
    empty = next((path for path in paths if not path.stat().st_size), None)
    if empty:
        raise DataError(empty, "an empty file", "at least one row", "check how it was written")
    reader = partial(_text, whole=True) if whole else _READERS[kind]
    parts: list[datasets.Dataset] = []
    for group in [paths] if reader is _json else [[path] for path in paths]:
        parts.append(reader(*group, bad=BadRows(on_bad_row)))
        if parts[-1].features != parts[0].features:
            raise DataError(
                f"{group[0]}",
                f"the columns {shown(parts[-1].features)}",
                f"those of {paths[0]}, {shown(parts[0].features)}",
                "give both files the same columns, or name each under `datasets`",
            )
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _json(*paths: Path, bad: BadRows) -> datasets.Dataset:
    def read(bad: BadRows) -> Batches:
        rows = JsonRows.open(*paths, bad=bad)
        return rows.schema, rows.batches()

    return converted(paths, read, bad)


def _csv(path: Path, *, delimiter: str, bad: BadRows) -> datasets.Dataset:
    """All columns as text: "NA" and "007" stay what they are."""
    return converted([path], partial(csv_batches, path, delimiter), bad)


def _text(path: Path, *, bad: BadRows, whole: bool = False) -> datasets.Dataset:
    return converted([path], partial(text_batches, path, whole=whole), bad, _DOCUMENT if whole else "")


def _parquet(path: Path, *, bad: BadRows) -> datasets.Dataset:
    return converted([path], lambda _: parquet_batches(path), bad)


def _arrow(path: Path, *, bad: BadRows) -> datasets.Dataset:
    check = unchanged([path])
    batches = arrow_file(path)
    check()
    found = datasets.Dataset.from_file(str(path)) if batches is None else converted([path], lambda _: batches, bad)
    if not len(found):
        raise no_rows(path, bad)
    return found


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
# Kinds that are compressed inside, if at all.
_WHOLE = (".parquet", ".arrow")


def _folder(path: Path, split: str, subset: str | None, on_bad_row: OnBadRow) -> datasets.Dataset:
    """A folder of `save_to_disk`, or one of data files."""
    saved = (path / "state.json").is_file()
    if not saved and not (path / "dataset_dict.json").is_file():
        return _data_folder(path, split, subset, on_bad_row)
    if subset is not None:
        raise UsageError(path, f"the name {subset!r} for a saved dataset", "none", "leave `name` out")
    found = _saved(path)
    if isinstance(found, datasets.Dataset):
        return _slice(_whole(found), split, str(path))
    name = split.split("[")[0]
    if name not in found:
        raise UsageError(path, f"no split {name!r}", f"one of {', '.join(found)}", "set `split` to one of them")
    return _slice(_whole(found[name]), split.replace(name, "train", 1), str(path))


def _saved(path: Path) -> datasets.Dataset | datasets.DatasetDict:
    try:
        return datasets.load_from_disk(str(path))
    except _NOT_LOADED as error:
        raise DataError(
            path,
            f"a saved dataset that cannot be loaded ({_first_line(error)})",
            "what `save_to_disk` writes",
            "save it again",
        ) from error


def _whole(dataset: datasets.Dataset) -> datasets.Dataset:
    """A saved dataset whose files hold what they should."""
    for found in dataset.cache_files:
        arrow_file(Path(found["filename"]))
    return dataset


def _data_folder(path: Path, split: str, subset: str | None, on_bad_row: OnBadRow) -> datasets.Dataset:
    check_members(path, _READERS)
    if subset not in (None, _DOCUMENT) or has_own_rules(path):
        return _hub(str(path), split, subset)
    parts = []
    for part in split.split("+"):
        name = part.split("[")[0]
        files = split_files(path, name, _READERS)
        if not files:
            return _hub(str(path), split, subset)
        found = _file(files[0], subset, on_bad_row) if len(files) == 1 else _many(path, files, subset, on_bad_row)
        parts.append(_slice(found, part.replace(name, "train", 1), str(path)))
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _many(path: Path, files: Sequence[Path], subset: str | None, on_bad_row: OnBadRow) -> datasets.Dataset:
    kind = kinds_of(files[0])[0]
    if subset is not None and kind != ".txt":
        raise UsageError(path, f"the name {subset!r} for files of kind {kind!r}", ".txt files", "leave `name` out")
    return _read(files, kind, on_bad_row, whole=subset is not None)


def _slice(dataset: datasets.Dataset, split: str, name: str) -> datasets.Dataset:
    """Apply ``train[:100]`` to a dataset that is one split."""
    if split == "train":
        return dataset
    try:
        ranges = datasets.ReadInstruction.from_spec(split).to_absolute({"train": len(dataset)})
    except (ValueError, AssertionError) as error:
        raise UsageError(
            name,
            f"split {split!r} ({error})",
            "`train` or a slice of it such as `train[:100]`",
            "correct `split`, or leave it out",
        ) from error
    rows = [row for part in ranges for row in range(part.from_, part.to)]
    return dataset.select(rows)


def _hub(name: str, split: str, subset: str | None) -> datasets.Dataset:
    try:
        found = datasets.load_dataset(name, subset, split=split)
    except _NOT_LOADED as error:
        raise DataError(
            name,
            f"no dataset that can be loaded ({_first_line(error)})",
            "a local file, a folder or a dataset of the Hub",
            "check the name, the split and the network",
        ) from error
    assert isinstance(found, datasets.Dataset)
    return found


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0] or type(error).__name__
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"
