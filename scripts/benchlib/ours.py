"""This package's side of each comparison. A function is one `Job`, run in a fresh process; imports are not timed."""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from transformers import AutoTokenizer

import instruct_fmt as ifmt
from benchlib.child import Job, Result, timed
from benchlib.rows import SAMPLED
from instruct_fmt.errors import TokenizerError, UsageError

BACKENDS = ("tokenizers", "gigatoken", "fastokens")
BATCH_SIZES = (1, 7, 257, 100_000)


def ready(job: Job) -> tuple[datasets.Dataset, ifmt.Formatter, float]:
    """The dataset, the formatter with its engine made, and the seconds that the formatter took."""
    dataset = datasets.Dataset.from_file(job.data)
    rows: pa.Table = dataset.with_format("arrow")[:1]
    assert AutoTokenizer  # transformers loads its classes when they are named
    with suppress(ImportError):  # what the engine loads when it is first used
        importlib.import_module("awkward")
    options = {"now": datetime(2026, 1, 1), **json.loads(job.options)}
    start = time.perf_counter()
    fmt = ifmt.compile(job.template, job.tokenizer, backend=job.backend, **options)
    fmt.encode_batch(rows)
    return dataset, fmt, time.perf_counter() - start


def prepare(job: Job) -> Result:
    """`fmt.prepare`, output written."""
    dataset, fmt, setup = ready(job)

    def once(name: str) -> Any:
        return fmt.prepare(dataset, num_proc=job.num_proc, output_dir=Path(name), progress=False)

    first, cpu, prepared = timed(lambda: once("first"))
    warm = timed(lambda: once("warm"))[0] if job.warm else None
    counts = prepared.report.counts
    refused = {rejection.row for rejection in prepared.rejected}
    numbers = [number for number in range(min(SAMPLED, len(dataset))) if number not in refused]
    sample = dict(zip(numbers, prepared.dataset[: len(numbers)]["input_ids"], strict=True))
    labels = dict(zip(numbers, prepared.dataset[: len(numbers)]["labels"], strict=True))
    both = {str(number): [sample[number], labels[number]] for number in numbers}
    return Result(setup, first, len(dataset), warm, cpu, counts["tokens"], facts=dict(counts), sample=both)


def core(job: Job) -> Result:
    """`fmt.encode_batch` over batches, nothing written."""
    dataset, fmt, setup = ready(job)

    def once() -> Counter[str]:
        counts: Counter[str] = Counter()
        for table, start in batches(dataset, job.batch_size):
            counts.update(fmt.encode_batch(table, start).counts)
        return counts

    first, cpu, counts = timed(once)
    warm = timed(once)[0] if job.warm else None
    return Result(setup, first, len(dataset), warm, cpu, counts["tokens"], facts=dict(counts))


def map_batched(job: Job) -> Result:
    """`dataset.map(fmt, batched=True)`."""
    return _mapped(job, batched=True)


def map_rows(job: Job) -> Result:
    """`dataset.map(fmt)`, row by row."""
    return _mapped(job, batched=False)


def _mapped(job: Job, *, batched: bool) -> Result:
    dataset, fmt, setup = ready(job)
    first, cpu, found = timed(lambda: dataset.map(fmt, batched=batched, remove_columns=dataset.column_names))
    tokens = int(pc.sum(pc.list_value_length(found.data.column("input_ids"))).as_py())
    return Result(setup, first, len(dataset), cpu=cpu, tokens=tokens)


def same(job: Job) -> Result:
    """One digest of ids and labels for each way to get them; its seconds mean nothing."""
    dataset, fmt, setup = ready(job)
    made: dict[str, str] = {}
    facts: dict[str, Any] = {"digests": made, "without": []}
    made["batches of 1000"], counts = _digest_of(fmt, dataset, 1000)
    facts["planned"] = counts["path:plan"]
    for size in BATCH_SIZES:
        fresh = ifmt.compile(job.template, fmt.tokenizer)
        made[f"batches of {size}"], counts = _digest_of(fresh, dataset, size)
        if size == 1:  # too few rows at a time for a plan
            facts["planned one by one"] = counts["path:plan"]
    for name in BACKENDS:
        try:
            other = ifmt.compile(job.template, fmt.tokenizer, backend=name)
            made[f"backend {name}"] = _digest_of(other, dataset, 1000)[0]
        except (TokenizerError, UsageError):
            facts["without"].append(name)
    for workers in (1, 2):
        prepared = fmt.prepare(dataset, num_proc=workers, output_dir=Path(f"made-{workers}"), progress=False)
        made[f"prepare, num_proc={workers}"] = digest(prepared.dataset.data.table)
    return Result(setup, 0.0, len(dataset), facts=facts)


def batches(dataset: datasets.Dataset, size: int) -> Iterator[tuple[pa.Table, int]]:
    """The dataset's rows as tables, and the number of their first row."""
    rows = dataset.with_format("arrow")
    for start in range(0, len(dataset), size):
        yield rows[start : start + size], start


def _digest_of(fmt: ifmt.Formatter, dataset: datasets.Dataset, size: int) -> tuple[str, Counter[str]]:
    counts: Counter[str] = Counter()
    tables = []
    for table, start in batches(dataset, size):
        batch = fmt.encode_batch(table, start)
        tables.append(batch.table)
        counts.update(batch.counts)
    return digest(pa.concat_tables(tables)), counts


def digest(table: pa.Table) -> str:
    """A hash of ids and labels, whatever the batches and the width of the list offsets."""
    found = hashlib.sha256()
    for name in ("input_ids", "labels"):
        for part in (pc.list_value_length(table.column(name)).cast(pa.int64()), pc.list_flatten(table.column(name))):
            found.update(part.to_numpy().tobytes())
    return found.hexdigest()[:16]


SIDES: dict[str, Callable[[Job], Result]] = {
    "prepare": prepare,
    "core": core,
    "map_batched": map_batched,
    "map_rows": map_rows,
    "same": same,
}
