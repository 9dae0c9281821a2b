"""Values that many rows or messages share, each read once.

In: an Arrow column. Out: the different values, and which of them each row has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.adapt.values import root
from instruct_fmt.errors import RowError
from instruct_fmt.types import Ints

TEXT = pa.large_string()


@dataclass(frozen=True, slots=True)
class Distinct:
    """A value for each row, or for each message: `values[codes[i]]`; none where the code is negative."""

    codes: Ints
    values: Sequence[Any]

    def take(self, rows: Ints) -> Distinct:
        """The values of some rows."""
        return Distinct(self.codes[rows], self.values)


def column_of(distinct: Distinct, path: Sequence[str | int], text: Callable[[Any], str] = str) -> pa.Array:
    """What is at a path inside each row's value, as a column of text; each different value is looked at once."""
    used, codes = np.unique(distinct.codes, return_inverse=True)
    found = []
    for code in used.tolist():
        value = distinct.values[code]
        for key in path:
            value = value[key]
        found.append(text(value))
    return pa.array(found, TEXT).take(pa.array(codes))


def read_distinct(child: pa.Array, read: Callable[[Any, Any], Any]) -> Distinct:
    """What an adapter makes of values, each different text once; None for those that it refuses."""
    if is_text(child.type):
        encoded = child.dictionary_encode(null_encoding="encode")
        codes, given = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()
    else:
        codes = np.arange(len(child))
        given = [row["value"] for row in table_rows(pa.table({"value": child}))]
    made: list[Any] = []
    for value in given:
        try:
            made.append(read(value, root("")))
        except (RowError, RecursionError):  # the row's adapter says what is wrong with it
            made.append(None)
    return Distinct(codes, made)


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
