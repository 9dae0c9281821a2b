"""Packing: rows of the lengths of real ones, put together here and by TRL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from benchlib.child import Job, Result, timed
from instruct_fmt.run import packing
from instruct_fmt.run.encoded import EncodedTables

CAPACITY = 4096
ROWS = 1_000_000
_BLOCK = 10_000


def packed(job: Job) -> Result:
    """The rows put together here, the sequences written."""
    dataset = _rows(job)
    target = Path("packed.arrow")

    def once() -> packing.Packing:
        rows = EncodedTables([dataset.data.table])
        found = packing.plan_packing(rows.lengths, CAPACITY)
        with pa.ipc.new_stream(str(target), packing.packed_features(dataset.features).arrow_schema) as writer:
            for table in packing.packed(rows, found):
                writer.write_table(table)
        return found

    first, cpu, found = timed(once)
    return Result(0.0, first, len(dataset), cpu=cpu, tokens=int(found.lengths.sum()), facts={"filled": found.share})


def trl_packed(job: Job) -> Result:
    """`pack_dataset`, as `SFTTrainer` calls it."""
    from trl import pack_dataset

    dataset = _rows(job)
    first, cpu, found = timed(lambda: pack_dataset(dataset, CAPACITY))
    tokens = int(pc.sum(pc.list_value_length(dataset.data.column("input_ids"))).as_py())
    return Result(0.0, first, len(dataset), cpu=cpu, tokens=tokens, facts={"filled": tokens / len(found) / CAPACITY})


def _rows(job: Job) -> datasets.Dataset:
    """Rows of zeros whose lengths are drawn from those of the prepared rows."""
    import instruct_fmt as ifmt

    given = datasets.Dataset.from_file(job.data)
    fmt = ifmt.compile(job.template, job.tokenizer, max_length=CAPACITY)
    ids = fmt.encode_table(given.data.table).column("input_ids")
    known = pc.list_value_length(ids).to_numpy().astype(np.int64)
    number = min(ROWS, 40 * len(known))
    lengths = np.random.default_rng(0).choice(known, number)
    path = Path("lengths.arrow")
    schema = datasets.Features({name: datasets.List(datasets.Value("int32")) for name in ("input_ids", "labels")})
    with pa.ipc.new_stream(str(path), schema.arrow_schema) as writer:
        for table in _blocks(lengths, schema.arrow_schema):
            writer.write_table(table)
    return datasets.Dataset.from_file(str(path))


def _blocks(lengths: npt.NDArray[np.int64], schema: pa.Schema) -> Iterator[pa.Table]:
    for start in range(0, len(lengths), _BLOCK):
        offsets = np.concatenate([[0], np.cumsum(lengths[start : start + _BLOCK])]).astype(np.int32)
        column = pa.ListArray.from_arrays(offsets, np.zeros(offsets[-1], np.int32))
        yield pa.Table.from_arrays([column, column], schema=schema)


SIDES: dict[str, Callable[[Job], Result]] = {"packed": packed, "trl_packed": trl_packed}
