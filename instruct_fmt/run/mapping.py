"""The `datasets.map` callable: what comes in is told apart by its type, what goes out fits the call.

In: an Arrow table, a batch or a row, as `datasets` hands them out. Out: a table, columns, or one row.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any

from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.common.forks import undivided
from instruct_fmt.errors import Rejection, RowError, TooManyRejected

if TYPE_CHECKING:
    from instruct_fmt.formatter import Formatter
    from instruct_fmt.types import EncodedBatch

logger = logging.getLogger("instruct_fmt")

# A call of so many rows is judged by itself.
_ENOUGH = 100
# So many rejected rows of each reason are logged.
_TOLD = 5
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
    untouched = lazy and len(rows.keys_to_format) == len(rows.pa_table.column_names)
    if not batch:
        return _row(formatter, table_rows(rows.pa_table)[0] if untouched else dict(rows))
    if untouched:
        return logged(formatter, formatter.encode_batch(rows.pa_table)).table
    columns = list(rows)
    values = [rows[name] for name in columns]
    made = (dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True))
    result = logged(formatter, formatter.pipeline.run(made, columns, 0))
    return result.table if lazy else _columns(result.table)


class Tally:
    """The rows of all calls of one formatter in one process, and what of them was rejected. Threads may share it."""

    def __init__(self) -> None:
        self._rows = self._rejected = 0
        self._unread: set[str] = set()
        self._told: Counter[str] = Counter()
        self._skipped = False
        self._lock = Lock()

    def add(self, rows: int, rejected: int) -> tuple[int, int]:
        """Count a call; returns the rows so far, and the rejected ones among them."""
        with undivided, self._lock:
            self._rows += rows
            self._rejected += rejected
            return self._rows, self._rejected

    def reset(self) -> None:
        """Begin anew."""
        with undivided, self._lock:
            self._rows = self._rejected = 0

    def shown(self, rejected: Iterable[Rejection]) -> list[Rejection]:
        """Those of the rejected rows that are worth a line: the first few of each reason."""
        with undivided, self._lock:
            found = []
            for rejection in rejected:
                self._told[rejection.reason] += 1
                if self._told[rejection.reason] <= _TOLD:
                    found.append(rejection)
            return found

    def first_skipped(self, turns: int) -> bool:
        """Whether some turns are the first that are left out of the loss."""
        with undivided, self._lock:
            first = turns > 0 and not self._skipped
            self._skipped |= turns > 0
            return first

    def new(self, unread: Iterable[str]) -> list[str]:
        """Those of the paths that nothing reads that were not told before."""
        with undivided, self._lock:
            found = [path for path in unread if path not in self._unread]
            self._unread.update(found)
            return found


def logged(formatter: Formatter, batch: EncodedBatch) -> EncodedBatch:
    """Log what is rejected, and what nothing reads; more than `max_rejected` of the rows so far is an error.

    Raises:
        TooManyRejected: too many rows were rejected, of this call, or of all calls so far.
    """
    counted = [rejection for rejection in batch.rejected if rejection.reason != "over-length"]
    for rejection in formatter.tally.shown(batch.rejected):
        logger.warning("dropped, counted from the first row of a batch: %s", rejection.to_error())
    if formatter.tally.first_skipped(batch.counts["turns_skipped:history"] + batch.counts["turns_skipped:seam"]):
        logger.warning(
            "%d of %d turns of a batch are left out of the loss, because as history they read otherwise than the model "
            'writes them; fix: history="expand" makes a row of each',
            *(sum(batch.counts[f"turns_skipped:{name}"] for name in ("history", "seam")), batch.counts["turns"]),
        )
    for path in formatter.tally.new(batch.unread):
        found = batch.unread[path]
        logger.warning("read by nothing: %s, such as %s in row %d of a batch", path, found.example, found.row)
    rows, share = batch.counts["rows"], formatter.settings.max_rejected
    all_rows, all_rejected = formatter.tally.add(rows, len(counted))
    if not counted:
        return batch
    of_call = rows >= _ENOUGH and len(counted) > share * rows
    if of_call or all_rejected > share * all_rows:
        formatter.tally.reset()
        found_share = f"{len(counted)} of {rows} rows of a batch" if of_call else f"{all_rejected} of {all_rows} rows"
        raise TooManyRejected(
            f"{found_share} rejected, more than max_rejected={share}; the first: {counted[0].to_error()}; fix: correct "
            "the rows, or raise max_rejected; fmt.prepare(dataset) judges the whole dataset and lists all of them"
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
