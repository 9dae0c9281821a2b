"""Preparing a whole dataset on this machine.

In: a formatter and a `datasets.Dataset` (or several such pairs). Out: a folder with `input_ids` and `labels`,
a manifest and a ledger of rejected rows, opened as `Prepared`. The rows that come out depend on neither
`num_proc` nor `batch_size`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from instruct_fmt.errors import DataError, Rejection, UsageError
from instruct_fmt.look.report import Report
from instruct_fmt.run import contents, manifest, packing, store
from instruct_fmt.run.checks import capacity_of, check_named, check_options, check_result
from instruct_fmt.run.digest import data_hash
from instruct_fmt.run.ledger import LEDGER_NAME, read_ledger, write_ledger
from instruct_fmt.run.manifest import HIT, Manifest
from instruct_fmt.run.read.bad_rows import bad_row_counts, bad_rows, bad_rows_once, mark
from instruct_fmt.run.read.unchanged import Unchanged
from instruct_fmt.run.recipe import TRAIN, VALIDATION, Recipe, needed
from instruct_fmt.run.results import write_result
from instruct_fmt.run.run_options import RunOptions
from instruct_fmt.run.work import (
    Formatting,
    Job,
    OutputFormat,
    Part,
    Source,
    encoded_columns,
    ledger_file,
    output_features,
    split,
)
from instruct_fmt.run.worker import run_parts
from instruct_fmt.types import Unread, add_unread

__all__ = ["Prepared", "RunOptions", "Source", "prepare", "prepare_sources"]

_PARTS_PER_WORKER = 4
_BATCH_BYTES = 12_000_000


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset.

    Attributes:
        dataset: `input_ids` and `labels` (int32), and the kept columns; memory-mapped. The rows to train on.
        report: what happened to the rows.
        rejected: every row that was left out, with the reason.
        validation: the rows that were held out, with the same columns; None where none were.
    """

    dataset: datasets.Dataset
    report: Report
    rejected: list[Rejection]
    validation: datasets.Dataset | None = None

    @property
    def splits(self) -> datasets.DatasetDict:
        """``train``, and ``validation`` where rows were held out."""
        held_out = {} if self.validation is None else {VALIDATION: self.validation}
        return datasets.DatasetDict({TRAIN: self.dataset, **held_out})


def prepare(  # noqa: PLR0913 - the options of a run, each by its name
    fmt: Formatting,
    dataset: datasets.Dataset | pa.Table,
    *,
    num_proc: int | None = None,
    batch_size: int | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    output_format: OutputFormat = "arrow",
    progress: bool = True,
    keep_columns: Sequence[str] = (),
    packing: int | bool = False,
    validation: float | None = None,
    shuffle: bool = False,
    seed: int = 42,
    deduplicate: bool = False,
    verify: bool = False,
) -> Prepared:
    """Encode a dataset; a result that still holds is opened instead of made again.

    Args:
        fmt: the formatter.
        dataset: a dataset or an Arrow table.
        num_proc: the most worker processes, each for a batch at least; None or 1 encodes in this process.
        batch_size: rows encoded at a time, which bounds memory; None takes as many as are some megabytes.
        output_dir: the folder of the result; None puts it into the cache of `datasets`.
        output_format: ``arrow`` or ``parquet``.
        progress: whether to show a progress bar.
        keep_columns: columns of the dataset to carry along.
        packing: puts whole rows together into sequences of so many tokens, best fit decreasing; True is the formatter's
            `max_length`. The result has `seq_lengths` beside `input_ids` and `labels`, for a collator without padding.
        validation: how many rows are held out, or which share of them below 1, as `Prepared.validation`: whole
            conversations, and none of which the text is trained on too.
        shuffle: whether the rows are in a random order.
        seed: which order, and which rows are held out.
        deduplicate: whether of rows with the same ids and labels only the first stays.
        verify: whether the content of an earlier result is compared with its checksums, though its files have the size
            and the time of writing that they had.

    Raises:
        DataError: the dataset is empty, or a file of it was written meanwhile.
        TooManyRejected: more rows were rejected than `max_rejected` allows (over-length apart).
        NothingToLearn: no token of the dataset would be trained.
        UsageError: an argument that cannot work.
    """
    options = RunOptions(
        None if output_dir is None else Path(output_dir),
        output_format,
        tuple(keep_columns),
        num_proc,
        batch_size,
        packing,
        Recipe(shuffle, seed, None, deduplicate, validation),
        progress,
        verify=verify,
    )
    return prepare_sources([Source("dataset", fmt, as_dataset(dataset))], options)


def prepare_sources(sources: Sequence[Source], options: RunOptions) -> Prepared:
    """The same for several datasets, each with its own formatter, into one result; see `prepare`."""
    asked = None if options.output_dir is None else store.place_of(options.output_dir)
    check_options(sources, options, asked)
    capacity = capacity_of(sources, options)
    made = encoded_columns(sources[0].fmt)
    columns = {"columns": " ".join((*options.keep_columns, *made))}
    if capacity is not None:
        columns = {"columns": " ".join((*made, packing.LENGTHS)), "packing": str(capacity)}
    facts = options.recipe.facts(sources)
    columns |= {name: json.dumps(fact, sort_keys=True) for name, fact in facts.items()}
    read = Unchanged.of(Path(file["filename"]) for source in sources for file in source.dataset.cache_files)
    new = manifest.describe(
        [source.fmt.facts() for source in sources],
        [data_hash(source.dataset) + mark(bad_rows(source.dataset)) for source in sources],
        {"format": options.output_format, **columns},
        [source.fmt.settings.template for source in sources],
    )
    target = asked or store.place_of(store.cache_folder() / new.key)
    store.sweep(target)
    changes = manifest.template_changes(manifest.read(target), new)
    if asked or target.exists():
        found = contents.verdict(target, new, thorough=options.verify)
    else:
        found = manifest.nearest(store.cache_folder(), new)
    if found != HIT or not options.reuse or not datasets.is_caching_enabled():
        found = "miss: made again as asked" if found == HIT else found
        new = _make(sources, options, new, target, read)
    name = ", ".join(source.name for source in sources)
    about = Report(name, {}, cache=found, output=str(target), changes=changes)
    try:
        return _open(target, new, options.output_format, about)
    finally:
        _check_opened(target, new)


def as_dataset(data: Any) -> datasets.Dataset:
    """A dataset or an Arrow table as a dataset; anything else is refused with what to call instead."""
    if isinstance(data, datasets.Dataset):
        return data
    if isinstance(data, pa.Table):
        return datasets.Dataset(data)
    fix = "pass a datasets.Dataset or a pyarrow.Table"
    if isinstance(data, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        fix = f"prepare each split by itself: fmt.prepare(dataset[split]) for the splits {', '.join(data)}"
    elif isinstance(data, datasets.IterableDataset):
        fix = "use dataset.map(fmt, batched=True, remove_columns=dataset.column_names) for a stream"
    raise UsageError("dataset", f"{type(data).__name__}", "a datasets.Dataset", fix)


def _make(sources: Sequence[Source], options: RunOptions, new: Manifest, target: Path, read: Unchanged) -> Manifest:
    features = [output_features(source, options.keep_columns) for source in sources]
    if any(found != features[0] for found in features):
        raise UsageError(
            "keep_columns",
            f"different types for {list(options.keep_columns)} among the datasets",
            "the same in all",
            "cast them first, or leave them out",
        )
    with store.staged(target, new, reuse=options.reuse, thorough=options.verify) as staging:
        sizes = [len(source.dataset) for source in sources]
        batch_size = options.batch_size or _batch_size(sources)
        batches = -(-sum(sizes) // batch_size)
        # A worker takes seconds to start: less than a batch is not worth one.
        num_proc = min(options.num_proc or 1, batches)
        if num_proc > 1:
            sources = [_spilled(source, staging.work, number) for number, source in enumerate(sources)]
        capacity = capacity_of(sources, options)
        arranged = needed(options.recipe, sources)
        output_format: OutputFormat = "arrow" if arranged or capacity is not None else options.output_format
        job = Job(tuple(sources), staging.work, features[0], batch_size, output_format, arranged)
        parts = split(sizes, 1 if num_proc == 1 else min(batches, num_proc * _PARTS_PER_WORKER))
        counts, unread = _encode(job, parts, num_proc, options.progress)
        counts.update(bad_row_counts(source.dataset for source in sources))
        ledger = _gather_ledger(job, parts, staging.result)
        check_named(sources, counts)
        check_result(sources, counts, ledger)
        read.check()
        write_result(job, parts, options, capacity, staging.result, new.key, counts)
        files = contents.described(staging.result)
        done = dataclasses.replace(new, counts=dict(counts), unread=unread, files=files)
        done.write(staging.result)
    return done


def _batch_size(sources: Sequence[Source]) -> int:
    """As many rows as are `_BATCH_BYTES` on average."""
    tables = [source.dataset.data for source in sources]
    rows, size = sum(int(table.num_rows) for table in tables), sum(int(table.nbytes) for table in tables)
    return max(1, _BATCH_BYTES * rows // max(size, 1))


def _encode(job: Job, parts: list[Part], num_proc: int, progress: bool) -> tuple[Counter[str], dict[str, Unread]]:
    total = sum(part.stop - part.start for part in parts)
    with datasets.utils.tqdm(total=total, unit="rows", desc="Preparing", disable=not progress) as bar:
        done = run_parts(job, parts, num_proc, bar.update)
    unread: dict[str, Unread] = {}
    for found in done:
        about = f"{job.sources[found.part.source].name}, " if len(job.sources) > 1 else ""
        add_unread(unread, ((f"{about}{path}", said) for path, said in found.unread.items()))
    return sum((found.counts for found in done), Counter()), unread


def _spilled(source: Source, work: Path, number: int) -> Source:
    """A dataset in memory is written to a file once, instead of being copied to each worker."""
    if source.dataset.cache_files:
        return source
    path = work / f"input-{number}.arrow"
    rows = source.dataset.with_format("arrow")
    schema = source.dataset.features.arrow_schema
    with pa.ipc.new_stream(str(path), schema) as writer:
        for start in range(0, len(source.dataset), 1000):
            writer.write_table(rows[start : start + 1000].cast(schema))
    return dataclasses.replace(source, dataset=datasets.Dataset.from_file(str(path)))


def _gather_ledger(job: Job, parts: list[Part], result: Path) -> list[tuple[str, Rejection]]:
    """Join the ledgers of all parts in row order; returns each rejection with its dataset's name."""
    found: list[tuple[str, Rejection]] = []
    bad = bad_rows_once(source.dataset for source in job.sources)
    for part in parts:
        rejections = read_ledger(ledger_file(job.folder, part))
        source = job.sources[part.source]
        name = source.name
        if not part.start:
            rejections = [*(row.rejection() for row in bad[part.source]), *rejections]
        write_ledger(result / LEDGER_NAME, rejections, name if len(job.sources) > 1 else None)
        found.extend((name, rejection) for rejection in rejections)
    (result / LEDGER_NAME).touch()
    return found


def _check_opened(target: Path, new: Manifest) -> None:
    """Refuse what another run has put there in the meantime.

    Raises:
        DataError: the folder holds another result than the one that was made or found.
    """
    now = manifest.read(target)
    if now is None or now.key != new.key:
        raise DataError(
            "output",
            f"the result of another run in {target}, put there while this one ended",
            "one run for a folder at a time",
            "name another folder for one of them",
        )


def _open(target: Path, found: Manifest, output_format: OutputFormat, about: Report) -> Prepared:
    if not found.counts:
        found = manifest.read(target) or found
    rejected = read_ledger(target / LEDGER_NAME)
    report = Report.of(about.name, found.counts, rejected, found.unread)
    report = dataclasses.replace(report, cache=about.cache, output=about.output, changes=about.changes)
    splits = store.load(target, output_format)
    return Prepared(splits[TRAIN], report, rejected, splits.get(VALIDATION))
