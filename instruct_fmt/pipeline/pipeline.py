"""The stages in their order: rows → examples → marked texts → ids → table.

In: rows, one row, or a table. Out: an `EncodedBatch`. A row that cannot be encoded becomes a `Rejection`, never a
guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa

from instruct_fmt.adapt.columns.arrow import filled_nulls, table_rows
from instruct_fmt.adapt.rows.plain import plain_row
from instruct_fmt.encode.row_encoder import EncodedRow
from instruct_fmt.errors import RowError
from instruct_fmt.pipeline.batch import Batch
from instruct_fmt.pipeline.dataset_stages import DatasetStages
from instruct_fmt.pipeline.other_rows import admitted, encode_one, fitted, run_rows
from instruct_fmt.pipeline.stages import Shared, Stages
from instruct_fmt.pipeline.table_blocks import block_starts, check_blocks, run_blocks
from instruct_fmt.pipeline.trials import Trials
from instruct_fmt.pipeline.unread import of_columns, of_table
from instruct_fmt.settings import Settings
from instruct_fmt.template.plan.planning import Planning
from instruct_fmt.tokenizer.vocabulary import Vocabulary
from instruct_fmt.types import EncodedBatch, TemplateSource, add_unread

Row = Mapping[str, Any]


class Pipeline:
    """Runs rows through the stages.

    Args:
        stages: the stages of one formatter.
    """

    def __init__(self, stages: Stages) -> None:
        self.stages = stages

    @classmethod
    def compiled(
        cls, settings: Settings, source: TemplateSource, vocabulary: Vocabulary, planning: Planning
    ) -> Pipeline:
        """Make the stages.

        Raises:
            TemplateError: the template does not compile or reads a clock that is not pinned.
            UsageError: an option that cannot work.
        """
        return cls(Stages(settings, Shared(settings, source, vocabulary), planning))

    def changed(self, settings: Settings) -> Pipeline:
        """The same with other settings; what does not depend on them is shared."""
        return Pipeline(self.stages.changed(settings))

    def planned(self, planning: Planning) -> Pipeline:
        """The same without the plans made so far, and with others to come."""
        return Pipeline(self.stages.planned(planning))

    @cached_property
    def trials(self) -> Trials:
        """Finds the options that cure a row."""
        return Trials(self)

    def run(self, rows: Iterable[Row], columns: Sequence[str], first_row: int) -> EncodedBatch:
        """Encode rows; bad ones become rejections.

        Args:
            rows: Python rows.
            columns: the names of the dataset's columns.
            first_row: the number of the first row in the dataset.

        Raises:
            UsageError: the columns fit no format.
            DataError: with `overlength="error"`, a row that is too long.
        """
        batch, given = Batch(weighted=self.stages.weighted), list(rows)
        batch.counts["rows"] = len(given)
        kept, places = admitted(batch, given, np.arange(first_row, first_row + len(given)))
        if not kept:
            return batch.finish()
        stages = self.stages.of(columns, kept[0])
        add_unread(batch.unread, of_columns(stages.adapter.beside, kept, first_row))
        run_rows(stages, self.trials.with_tried_fix, batch, kept, places + first_row, np.zeros(len(kept), np.bool_))
        return self._finish(batch, stages)

    def run_one(self, row: Row) -> list[EncodedRow]:
        """Encode a single row; with `history="expand"` it makes several.

        Raises:
            RowError: the row cannot be encoded.
            UsageError: the columns fit no format.
        """
        row = plain_row(row)
        columns = list(row)
        try:
            return self.encode_one(row, columns)
        except RowError as error:
            raise self.trials.with_tried_fix(error, row, columns) from error

    def encode_one(self, row: Row, columns: Sequence[str]) -> list[EncodedRow]:
        """`run_one`, its errors without a look for cures."""
        return encode_one(self.stages.of(columns, row), row)

    def run_table(self, table: pa.Table, first_row: int) -> EncodedBatch:
        """`run` for a table: rows of plain shape stay columns, the others become Python rows."""
        batch, starts = Batch(weighted=self.stages.weighted), block_starts(table)
        if not table.num_rows:
            return batch.finish()
        batch.counts["rows"] = table.num_rows
        check_blocks(table, starts)
        batch.counts.update({f"null:{path}": count for path, count in filled_nulls(table).items()})
        stages = self.stages.of(table.column_names)
        add_unread(batch.unread, of_table(stages.adapter.beside, table, first_row))
        left, tried = np.ones(table.num_rows, np.bool_), np.zeros(table.num_rows, np.bool_)
        for start, block in zip(starts, run_blocks(stages, table, starts, first_row), strict=True):
            batch.add_block(block, in_order=True)
            left[start : start + starts.step] = block.left
            tried[start : start + starts.step] = block.tried
        if left.any():
            numbers = np.flatnonzero(left)
            rest = table if len(numbers) == table.num_rows else table.take(pa.array(numbers))
            kept, places = admitted(batch, table_rows(rest), numbers + first_row)
            explain = self.trials.with_tried_fix
            run_rows(stages, explain, batch, kept, numbers[places] + first_row, tried[numbers[places]])
        return self._finish(batch, stages)

    @staticmethod
    def _finish(batch: Batch, stages: DatasetStages) -> EncodedBatch:
        batch.counts.update(stages.planner.take_counts())
        return batch.finish(partial(fitted, stages))
