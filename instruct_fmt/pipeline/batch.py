"""What becomes of the rows of one call.

In: encoded rows, as blocks and one by one, and errors. Out: an `EncodedBatch`, its rows in the order of the dataset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from instruct_fmt.emit import empty_table, table_of
from instruct_fmt.encode.row_encoder import EncodedRow, RowEncoder
from instruct_fmt.errors import Rejection, RowError, in_order
from instruct_fmt.types import Bools, EncodedBatch, Ints, Marked, Unread, add_unread

Numbered = tuple[Ints, pa.Table]
Explain = Callable[[RowError], RowError]
Fit = Callable[[int, RowEncoder, Marked, EncodedRow], EncodedRow]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that are done.

    Attributes:
        numbers: the rows' numbers in the dataset, ascending.
        table: their `input_ids` and `labels`.
        counts: numbers for the report.
        left: for each row that went in whether it is still to be done.
        tried: for each row that went in whether it had a plan.
        rejected: rows among them that are left out.
        unread: what nothing read of them.
    """

    numbers: Ints
    table: pa.Table
    counts: Counter[str]
    left: Bools
    tried: Bools
    rejected: Sequence[Rejection] = field(default=())
    unread: Sequence[tuple[str, Unread]] = ()


class Batch:
    """Collects rows until all of a call are there; `weighted` tells whether rows have weights of the loss."""

    def __init__(self, *, weighted: bool = False) -> None:
        self._weighted = weighted
        self.counts: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        self.unread: dict[str, Unread] = {}
        self._waiting: list[tuple[int, RowEncoder, Marked, Explain, str]] = []
        self._blocks: list[Numbered] = []
        self._others: list[Numbered] = []

    def add(self, number: int, encoder: RowEncoder, marked: Marked, explain: Explain, path: str) -> None:
        """A marked row, to be encoded together with others.

        Args:
            number: its number in the dataset.
            encoder: encodes it.
            marked: the row.
            explain: makes what the user sees of an error about it.
            path: how it was marked, for the report.
        """
        self._waiting.append((number, encoder, marked, explain, path))

    def add_block(self, block: Block, *, in_order: bool) -> None:
        """Rows that are done; with `in_order`, all of them come behind those of the blocks before."""
        (self._blocks if in_order else self._others).append((block.numbers, block.table))
        self.counts.update(block.counts)
        for rejection in block.rejected:
            self._reject(rejection)
        add_unread(self.unread, block.unread)

    def reject(self, error: RowError, number: int) -> None:
        """A row that is left out."""
        self._reject(Rejection.from_error(error, number))

    def note(self, path: str, found: Unread) -> None:
        """Something that nothing read."""
        add_unread(self.unread, [(path, found)])

    def finish(self, fit: Fit | None = None) -> EncodedBatch:
        """Encode what waits, and put everything in order.

        Args:
            fit: the last word on each row that waits: a shorter one, or a `RowError`; None where no row waits.
        """
        others = [block for block in (*self._others, *(self._encode_waiting(fit) if fit else ())) if len(block[0])]
        self.rejected.sort(key=in_order)
        blocks = [block for block in self._blocks if len(block[0])]
        if others:
            blocks = _merged(blocks, *_sorted(others))
        if not blocks:
            return EncodedBatch(
                empty_table(weighted=self._weighted), np.zeros(0, np.int64), self.rejected, +self.counts, self.unread
            )
        rows = np.concatenate([numbers for numbers, _ in blocks])
        table = _concatenated([table for _, table in blocks])
        self.counts["expanded"] = len(rows) - 1 - int(np.count_nonzero(np.diff(rows)))
        return EncodedBatch(table, rows, self.rejected, +self.counts, self.unread)

    def _reject(self, rejection: Rejection) -> None:
        self.counts[f"rejected:{rejection.reason}"] += 1
        self.rejected.append(rejection)

    def _encode_waiting(self, fit: Fit) -> Iterator[Numbered]:
        encoded: dict[int, EncodedRow | RowError] = {}
        for encoder in {id(encoder): encoder for _, encoder, *_ in self._waiting}.values():
            places = [place for place, entry in enumerate(self._waiting) if entry[1] is encoder]
            results = encoder.encode([self._waiting[place][2] for place in places])
            encoded.update(zip(places, results, strict=True))
        numbers, rows = [], []
        for place, (number, encoder, marked, explain, path) in enumerate(self._waiting):
            result = encoded[place]
            try:
                if isinstance(result, RowError):
                    raise result
                row = fit(number, encoder, marked, result)
            except RowError as error:
                self.reject(explain(error), number)
                continue
            numbers.append(number)
            rows.append(row)
            self.counts.update(marked.counts)
            self.counts.update(row.counts)
            self.counts["neutralised"] += row.neutralised
            self.counts.update(counted(path, encoder.backend, 1, len(row.ids), int(row.trained.sum())))
        if rows:
            offsets = np.cumsum([0, *(len(row.ids) for row in rows)])
            ids, trained = np.concatenate([row.ids for row in rows]), np.concatenate([row.trained for row in rows])
            weights = [row.weights for row in rows if row.weights is not None] if self._weighted else []
            found = np.concatenate(weights) if weights else None
            yield np.asarray(numbers, np.int64), table_of(ids, trained, offsets, found)


def counted(path: str, backend: str, rows: int, tokens: int, trained: int) -> Mapping[str, int]:
    """The numbers of encoded rows for the report."""
    return {
        "emitted": rows,
        "tokens": tokens,
        "trained_tokens": trained,
        f"path:{path}": rows,
        f"backend:{backend}": rows,
    }


def _sorted(blocks: list[Numbered]) -> Numbered:
    """All rows of blocks, in the order of the dataset."""
    numbers, table = np.concatenate([block[0] for block in blocks]), _concatenated([block[1] for block in blocks])
    if (np.diff(numbers) >= 0).all():
        return numbers, table
    order = np.argsort(numbers, kind="stable")
    return numbers[order], table.take(pa.array(order))


def _merged(blocks: list[Numbered], numbers: Ints, table: pa.Table) -> list[Numbered]:
    """Blocks with other rows put where they belong; blocks that none belongs to stay as they are."""
    found, start = [], 0
    for place, block in enumerate(blocks):
        last = place == len(blocks) - 1
        stop = len(numbers) if last else int(np.searchsorted(numbers, block[0][-1], side="right"))
        others = (numbers[start:stop], table.slice(start, stop - start))
        found.append(_sorted([block, others]) if start < stop else block)
        start = stop
    return found or [(numbers, table)]


def _concatenated(tables: list[pa.Table]) -> pa.Table:
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")
