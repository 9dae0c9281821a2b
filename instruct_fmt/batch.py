"""What becomes of the rows of one call.

In: encoded rows, as blocks and one by one, and errors. Out: an `EncodedBatch`, its rows in the order of the dataset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from instruct_fmt.emit import table_of
from instruct_fmt.encode.encoder import EncodedRow, Encoder
from instruct_fmt.encode.planned import Block, joined
from instruct_fmt.errors import Rejection, RowError
from instruct_fmt.types import EncodedBatch, Ints, Marked

Fit = Callable[[int, Encoder, Marked, EncodedRow], EncodedRow]


class Batch:
    """Collects rows until all of a call are there."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        self._waiting: list[tuple[int, Encoder, Marked]] = []
        self._blocks: list[tuple[Ints, Block]] = []

    def add(self, number: int, encoder: Encoder, marked: Marked) -> None:
        """A marked row, to be encoded together with others."""
        self._waiting.append((number, encoder, marked))

    def add_block(self, numbers: Ints, block: Block, marked: Marked, backend: str) -> None:
        """Rows that are encoded, with their numbers in the dataset."""
        rows = len(numbers)
        self._blocks.append((numbers, block))
        self.counts.update({name: count * rows for name, count in marked.counts.items()})
        self._count("plan", backend, rows, len(block.ids), int(block.trained.sum()))

    def reject(self, error: RowError, number: int) -> None:
        """A row that is left out."""
        rejection = Rejection.from_error(error, number)
        self.counts[f"rejected:{rejection.reason}"] += 1
        self.rejected.append(rejection)

    def finish(self, fit: Fit) -> EncodedBatch:
        """Encode what waits, and put everything in order.

        Args:
            fit: the last word on each row that waits: a shorter one, or a `RowError`.
        """
        self._encode_waiting(fit)
        self.rejected.sort(key=lambda rejection: rejection.row)
        numbers = np.concatenate([np.zeros(0, np.int64), *(numbers for numbers, _ in self._blocks)])
        order = np.argsort(numbers, kind="stable")
        block = joined([block for _, block in self._blocks])
        if (order[1:] < order[:-1]).any():
            block = block.take(order)
        rows = numbers[order]
        self.counts["expanded"] = len(rows) - len(np.unique(rows))
        return EncodedBatch(table_of(block.ids, block.trained, block.offsets), rows, self.rejected, +self.counts)

    def _encode_waiting(self, fit: Fit) -> None:
        encoded: dict[int, EncodedRow | RowError] = {}
        for encoder in {id(encoder): encoder for _, encoder, _ in self._waiting}.values():
            places = [place for place, entry in enumerate(self._waiting) if entry[1] is encoder]
            results = encoder.encode([self._waiting[place][2] for place in places])
            encoded.update(zip(places, results, strict=True))
        numbers, rows = [], []
        for place, (number, encoder, marked) in enumerate(self._waiting):
            result = encoded[place]
            try:
                if isinstance(result, RowError):
                    raise result
                row = fit(number, encoder, marked, result)
            except RowError as error:
                self.reject(error, number)
                continue
            numbers.append(number)
            rows.append(row)
            self.counts.update(marked.counts)
            self.counts["neutralised"] += row.neutralised
            self._count("jinja", encoder.backend, 1, len(row.ids), int(row.trained.sum()))
        offsets = np.cumsum([0, *(len(row.ids) for row in rows)])
        if rows:
            ids, trained = np.concatenate([row.ids for row in rows]), np.concatenate([row.trained for row in rows])
            self._blocks.append((np.asarray(numbers, np.int64), Block(ids, trained, offsets)))

    def _count(self, path: str, backend: str, rows: int, tokens: int, trained: int) -> None:
        counted = {"emitted": rows, "tokens": tokens, "trained_tokens": trained}
        self.counts.update({**counted, f"path:{path}": rows, f"backend:{backend}": rows})
