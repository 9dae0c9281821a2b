"""From the encoded parts of a run to the files of its result.

In: a job, its parts, and how they are arranged. Out: data files in the folder of the result, with what `datasets` needs
to open them: as one dataset, or as a `DatasetDict` where rows are held out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import datasets
import pyarrow as pa

from instruct_fmt.run import packing, store
from instruct_fmt.run.encoded import EncodedParts, EncodedTables, opened
from instruct_fmt.run.recipe import arranged
from instruct_fmt.run.run_options import RunOptions
from instruct_fmt.run.work import Job, Part, data_file, data_writer
from instruct_fmt.types import Ints


def write_result(
    job: Job,
    parts: Sequence[Part],
    options: RunOptions,
    capacity: int | None,
    folder: Path,
    key: str,
    counts: Counter[str],
) -> None:
    """Write the data files of a result.

    Args:
        job: the run.
        parts: its parts, all of them encoded.
        options: how it was to be done.
        capacity: how many tokens a packed sequence may have; None where nothing is packed.
        folder: the folder of the result.
        key: the name of the result, for `datasets`.
        counts: numbers for the report, to which more are added.

    Raises:
        DataError: a split has no row, or a row is longer than a sequence.
    """
    features = job.features if capacity is None else packing.packed_features(job.features)
    writer = _Writer(folder, features, options, key)
    filled = [part for part in parts if data_file(job.folder, part).exists()]
    if not job.arranged:
        if capacity is None:
            writer.move([data_file(job.folder, part) for part in filled])
        else:
            writer.write(None, _packed(EncodedTables([opened(job, part) for part in filled]), None, capacity, counts))
        return
    rows = EncodedParts(job, filled)
    splits = arranged(options.recipe, job.sources, rows, counts)
    for split in splits:
        tables = rows.tables(split.numbers) if capacity is None else _packed(rows, split.numbers, capacity, counts)
        writer.write(split.name if len(splits) > 1 else None, tables)
    if len(splits) > 1 and options.output_format == "arrow":
        store.write_splits(folder, [split.name for split in splits])


class _Writer:
    """Writes the files of splits.

    Args:
        folder: the folder of the result.
        features: its columns.
        options: how it was to be done.
        key: the name of the result.
    """

    def __init__(self, folder: Path, features: datasets.Features, options: RunOptions, key: str) -> None:
        self._folder, self._features, self._format, self._key = folder, features, options.output_format, key

    def write(self, split: str | None, tables: Iterable[pa.Table]) -> None:
        """Write the rows of a split; None is the only one."""
        folder = self._folder_of(split)
        name = store.file_name(0, 1, self._format, split or "train")
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        schema = self._features.arrow_schema
        with data_writer(folder / name, schema, self._format) as writer:
            for table in tables:
                writer.write_table(table.cast(schema))
        self._opened_by_datasets(folder, [name], split)

    def move(self, paths: Sequence[Path]) -> None:
        """Give files that are written already their names in the result."""
        names = [store.file_name(index, len(paths), self._format) for index in range(len(paths))]
        for path, name in zip(paths, names, strict=True):
            (self._folder / name).parent.mkdir(exist_ok=True)
            path.replace(self._folder / name)
        self._opened_by_datasets(self._folder, names, None)

    def _folder_of(self, split: str | None) -> Path:
        return self._folder / split if split and self._format == "arrow" else self._folder

    def _opened_by_datasets(self, folder: Path, names: list[str], split: str | None) -> None:
        if self._format == "arrow":
            store.write_dataset_files(folder, names, self._features, self._key, split)


def _packed(rows: EncodedTables, numbers: Ints | None, capacity: int, counts: Counter[str]) -> Iterable[pa.Table]:
    """Rows put together into sequences."""
    found = packing.plan_packing(rows.lengths, capacity, numbers)
    counts["packed:capacity"] = capacity
    counts["packed:sequences"] += len(found.packs)
    counts["packed:rows"] += len(found.packs.rows)
    counts["packed:tokens"] += int(rows.lengths[found.packs.rows].sum())
    return packing.packed(rows, found)
