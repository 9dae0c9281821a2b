"""The `datasets.map` callable: what comes in is told apart by its type, what goes out fits the call.

In: an Arrow table, a batch or a row, as `datasets` hands them out. Out: a table, columns, or one row.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from instruct_fmt.errors import RowError, TooManyRejected

if TYPE_CHECKING:
    from instruct_fmt.formatter import Formatter
    from instruct_fmt.types import EncodedBatch

logger = logging.getLogger("instruct_fmt")

# Columns whose value is a list in a single row too.
_LISTS = ("messages", "conversations", "prompt", "completion", "history", "tools", "documents", "chosen", "rejected")


def mapped(formatter: Formatter, rows: Any, formatting: ModuleType | None) -> Any:
    """Encode what `datasets` hands to a mapped function.

    Args:
        formatter: the formatter.
        rows: a `pa.Table`, a batch (a mapping of lists) or a row.
        formatting: the module `datasets.formatting.formatting`, if it is loaded.
    """
    import pyarrow as pa

    if isinstance(rows, pa.Table):
        return logged(formatter, formatter.encode_batch(rows)).table
    lazy = formatting is not None and isinstance(rows, formatting.LazyDict)
    batch = isinstance(rows, formatting.LazyBatch) if lazy and formatting is not None else _is_batch(rows, formatter)
    if not batch:
        return _row(formatter, dict(rows))
    if lazy and len(rows.keys_to_format) == len(rows.pa_table.column_names):  # nobody has touched it
        return logged(formatter, formatter.encode_batch(rows.pa_table)).table
    columns = list(rows)
    values = [rows[name] for name in columns]
    made = (dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True))
    result = logged(formatter, formatter.pipeline.run(made, columns, 0))
    return result.table if lazy else _columns(result.table)


def logged(formatter: Formatter, batch: EncodedBatch) -> EncodedBatch:
    """Log the rejected rows of a call; more than `max_rejected` of a call of some size is an error.

    Raises:
        TooManyRejected: too many rows of this call were rejected.
    """
    counted = [rejection for rejection in batch.rejected if rejection.reason != "over-length"]
    for rejection in batch.rejected:
        logger.warning("dropped: %s", rejection.to_error())
    rows, share = batch.counts["rows"], formatter.settings.max_rejected
    if rows >= 100 and len(counted) > share * rows:
        raise TooManyRejected(
            f"{len(counted)} of {rows} rows of a batch rejected, more than max_rejected={share}; the first: "
            f"{counted[0].to_error()}; fmt.prepare(dataset) lists all of them"
        )
    return batch


def _row(formatter: Formatter, row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return formatter.encode_arrays(row)
    except RowError as error:
        fix = f"{error.fix}; to drop such rows use map(fmt, batched=True, remove_columns=…) or fmt.prepare(dataset)"
        raise RowError(error.reason, error.path, error.found, error.expected, fix) from error


def _columns(table: Any) -> dict[str, list[Any]]:
    """Columns of int32 arrays: an `IterableDataset` takes no table, and would read Python's ints as int64."""
    return {
        name: [value.values.to_numpy() for value in table.column(name)] if table.num_rows else []
        for name in table.column_names
    }


def _is_batch(rows: Mapping[str, Any], formatter: Formatter) -> bool:
    """Whether a plain mapping holds several rows: every column is then a list, of lists where rows hold lists."""
    nested = {*_LISTS, *formatter.settings.field_map.values()}
    for name, value in rows.items():
        if not isinstance(value, Sequence) or isinstance(value, str):
            return False
        if name in nested and value and isinstance(value[0], Mapping):
            return False
    return True
