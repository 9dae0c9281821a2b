"""One part of a run: a range of rows of one dataset, encoded batch by batch into one file.

In: a `Job`, the same for all parts, and a `Part`. Out: a data file and a ledger of rejected rows in the job's
folder, and their counts (`Done`). Memory is bounded by the batch. The same code runs in the main process and
in worker processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from instruct_fmt.common.loss_weights import LossWeights
from instruct_fmt.emit import WEIGHTS
from instruct_fmt.errors import DataError
from instruct_fmt.run.ledger import write_ledger
from instruct_fmt.types import EncodedBatch, Ints, Unread, add_unread

OutputFormat = Literal["arrow", "parquet"]
COLUMNS = ("input_ids", "labels")
_IDS = datasets.List(datasets.Value("int32"))
FEATURES: Mapping[str, Any] = {**dict.fromkeys(COLUMNS, _IDS), WEIGHTS: datasets.List(datasets.Value("float32"))}
"""The columns that a run may make."""


class Formatting(Protocol):
    """What a run needs of a `Formatter`."""

    @property
    def settings(self) -> Any: ...

    def facts(self) -> dict[str, str]: ...

    def encode_batch(self, table: pa.Table, first_row: int = 0) -> EncodedBatch: ...


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset and the formatter for it.

    Attributes:
        name: for messages.
        fmt: the formatter.
        dataset: the rows.
        weight: how many of its rows are wanted for how many of the others', where datasets are interleaved.
        epochs: how often each of its rows is there.
        held_out: whether it is for validation.
    """

    name: str
    fmt: Formatting
    dataset: datasets.Dataset
    weight: float | None = None
    epochs: float = 1
    held_out: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """What all parts of a run share.

    Attributes:
        sources: datasets with their formatters.
        folder: where data files and ledgers are written; it exists.
        features: the columns of the result.
        batch_size: rows encoded at a time.
        output_format: ``arrow`` (IPC stream) or ``parquet``.
        arranged: whether the rows are put into another order, and so the numbers of theirs in their datasets kept.
    """

    sources: tuple[Source, ...]
    folder: Path
    features: datasets.Features
    batch_size: int
    output_format: OutputFormat
    arranged: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """The rows `start` to `stop` (half-open) of the dataset number `source`."""

    index: int
    source: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Done:
    """A finished part. Its files are `data_file` and `numbers_file` (missing where no row was emitted or no number is
    wanted) and `ledger_file`.

    Attributes:
        counts: the numbers of `EncodedBatch.counts`.
        unread: what nothing read of its rows.
    """

    part: Part
    counts: Counter[str]
    unread: dict[str, Unread] = field(default_factory=dict)


def split(sizes: list[int], pieces: int) -> list[Part]:
    """Cut datasets of these sizes into about `pieces` parts, in order.

    >>> [(p.source, p.start, p.stop) for p in split([4, 2], 2)]
    [(0, 0, 3), (0, 3, 4), (1, 0, 2)]
    """
    step = max(1, -(-sum(sizes) // pieces))
    ranges = [
        (source, start, min(start + step, size)) for source, size in enumerate(sizes) for start in range(0, size, step)
    ]
    return [Part(index, *found) for index, found in enumerate(ranges)]


def data_file(folder: Path, part: Part) -> Path:
    """The file of encoded rows of a part."""
    return folder / f"part-{part.index:05d}.data"


def numbers_file(folder: Path, part: Part) -> Path:
    """The file of the numbers that a part's rows have in their dataset, int64."""
    return folder / f"part-{part.index:05d}.npy"


def ledger_file(folder: Path, part: Part) -> Path:
    """The file of rejected rows of a part."""
    return folder / f"part-{part.index:05d}.jsonl"


def encode_part(job: Job, part: Part, progress: Callable[[int], object]) -> Done:
    """Encode one part and write its files; `progress` is called with the rows done since the last call."""
    for left in (make(job.folder, part) for make in (data_file, ledger_file, numbers_file)):
        left.unlink(missing_ok=True)  # of a worker that died over this part
    source = job.sources[part.source]
    rows = source.dataset.with_format("arrow")
    counts: Counter[str] = Counter()
    unread: dict[str, Unread] = {}
    numbers: list[Ints] = []
    opened = partial(data_writer, data_file(job.folder, part), job.features.arrow_schema, job.output_format)
    # One table is written while the next one is made.
    with ExitStack() as stack, ThreadPoolExecutor(1, "instruct_fmt") as aside:
        writer: Any = None
        writing: Future[None] | None = None
        for start in range(part.start, part.stop, job.batch_size):
            table: pa.Table = rows[start : min(start + job.batch_size, part.stop)]
            batch = _encoded(job, source, table, start)
            counts.update(batch.counts)
            counts.update(_lengths(batch.table))
            add_unread(unread, batch.unread.items())
            write_ledger(ledger_file(job.folder, part), batch.rejected)
            if writing is not None:
                writing.result()
            if job.arranged:
                numbers.append(batch.rows)
            if batch.table.num_rows:
                writer = writer or stack.enter_context(opened())
                writing = aside.submit(writer.write_table, _output(job, batch, table, start))
            progress(table.num_rows)
        if writing is not None:
            writing.result()
    if sum(map(len, numbers)):
        np.save(numbers_file(job.folder, part), np.concatenate(numbers))
    return Done(part, counts, unread)


def _lengths(table: pa.Table) -> dict[str, int]:
    """How many rows have so many tokens at the most, and more than half as many: by powers of two."""
    sizes = pc.list_value_length(table.column("input_ids")).to_numpy()
    powers = np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.int64)
    return {f"length:{2**power}": count for power, count in enumerate(np.bincount(powers).tolist()) if count}


def _encoded(job: Job, source: Source, table: pa.Table, start: int) -> EncodedBatch:
    """The rows of a batch; an error about one says whose it is, where there are several datasets."""
    try:
        return source.fmt.encode_batch(table, start)
    except DataError as error:
        if len(job.sources) == 1:
            raise
        raise DataError(f"{source.name}, {error}") from error


def encoded_columns(fmt: Formatting) -> tuple[str, ...]:
    """The columns that a formatter makes."""
    return (*COLUMNS, WEIGHTS) if LossWeights.of(fmt.settings.loss_weights).is_column else COLUMNS


def output_features(source: Source, keep_columns: tuple[str, ...]) -> datasets.Features:
    """The columns of the result: the kept ones, then `input_ids`, `labels` and perhaps `loss_weights`."""
    kept: Mapping[str, Any] = {name: source.dataset.features[name] for name in keep_columns}
    return datasets.Features({**kept, **{name: FEATURES[name] for name in encoded_columns(source.fmt)}})


def _output(job: Job, batch: EncodedBatch, table: pa.Table, start: int) -> pa.Table:
    kept = [name for name in job.features if name not in FEATURES]
    origin = table.select(kept).take(pa.array(batch.rows - start)) if kept else None
    columns = [origin.column(name) for name in kept] if origin is not None else []
    made = job.features.arrow_schema
    columns += [batch.table.column(name).cast(made.field(name).type) for name in FEATURES if name in job.features]
    return pa.Table.from_arrays(columns, schema=job.features.arrow_schema)


def data_writer(path: Path, schema: pa.Schema, output_format: OutputFormat) -> Any:
    """What writes tables to a file; a context manager."""
    if output_format == "parquet":
        return pq.ParquetWriter(path, schema)
    return pa.ipc.new_stream(str(path), schema)
