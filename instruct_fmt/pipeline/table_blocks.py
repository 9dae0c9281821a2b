"""Blocks of a table: rows of plain shape stay columns from beginning to end.

In: a table. Out: finished blocks of the output, in the table's order, and which rows are left for `other_rows.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa

from instruct_fmt.adapt.columns.arrow import check_whole
from instruct_fmt.adapt.rows.plain import MAX_CHARACTERS
from instruct_fmt.common.threads import in_order, rows_at_a_time
from instruct_fmt.pipeline.batch import Block
from instruct_fmt.pipeline.dataset_stages import DatasetStages
from instruct_fmt.pipeline.grouping import shape_groups
from instruct_fmt.pipeline.planned_rows import run_planned
from instruct_fmt.pipeline.unread import check_named


def block_starts(table: pa.Table) -> range:
    """Where the blocks of a table begin, each as large as is kind to the caches."""
    return range(0, table.num_rows, rows_at_a_time(table.num_rows, table.nbytes))


def check_blocks(table: pa.Table, starts: range) -> None:
    """See that the table's buffers are whole."""
    in_order(lambda start: check_whole(table.slice(start, starts.step)), starts)


def run_blocks(stages: DatasetStages, table: pa.Table, starts: range, first_row: int) -> Iterator[Block]:
    """Encode the blocks on all cores; rows without a plan are left."""
    yield from in_order(partial(_run_block, stages, table, starts.step, first_row), starts)


def _run_block(stages: DatasetStages, table: pa.Table, size: int, first_row: int, start: int) -> Block:
    """Encode the rows of plain shape that have a plan."""
    block = table.slice(start, size)
    settings = stages.settings
    asked = stages.stages.asked
    small = block.nbytes <= MAX_CHARACTERS  # else each row is asked its size
    shapes = list(shape_groups(block, stages.source, asked, stages.read, settings.reasoning)) if small else []
    done = run_planned(stages, shapes, np.arange(block.num_rows) + start + first_row)
    for shape in shapes if settings.field_map else ():
        here = int(np.count_nonzero(~done.left[shape.places]))
        named = check_named(shape.example(0), settings.field_map) if here else ()
        done.counts.update({f"named:{name}": here for name in named})
    return done
