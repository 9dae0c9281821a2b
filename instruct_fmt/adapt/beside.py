"""Columns that an adapter does not read: refused where they say what a row means, listed where they do not.

In: the columns of a dataset, those that are read, and rows or tables. Out: an error for a row that must not be read
without them; or which rows say something there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.adapt.fields import COLUMNS
from instruct_fmt.adapt.values import at, root
from instruct_fmt.errors import RowError, let_go, shown
from instruct_fmt.types import Bools

Row = Mapping[str, Any]

_LABEL, _WEIGHT = "label", "weight"
# Fields that change what a row means: without them it would be another one.
_PARTS = ("tools", "documents", "images", "audios", "videos", "history", "chat_template_kwargs")
_MEDIA = frozenset({"images", "audios", "videos"})
_EMPTY_JSON = pa.array(["null", "[]", "{}", '""'])


@dataclass(frozen=True, slots=True)
class Beside:
    """The columns beside those that an adapter reads.

    Attributes:
        unread: those that nothing looks at.
        parts: those that hold a part of the row → what they are.
        read: for each such part the column that is read for it.
        label: the column that tells good examples from bad ones, or None.
        weight: the column of weights, or None.
    """

    unread: tuple[str, ...]
    parts: Mapping[str, str]
    read: Mapping[str, str]
    label: str | None
    weight: str | None

    @classmethod
    def of(cls, columns: Sequence[str], read: Collection[str], allow_dropped: Collection[str]) -> Beside:
        """The columns of a dataset that are not read; those in `allow_dropped` are not refused."""
        unread = tuple(name for name in columns if name not in read)
        asked = [name for name in unread if name not in allow_dropped]
        parts = {
            name: field for field in _PARTS if field not in allow_dropped for name in COLUMNS[field] if name in asked
        }
        taken = {field: name for field in _PARTS for name in COLUMNS[field] if name in read}
        judged = [name for name in (_LABEL, _WEIGHT) if name in asked]
        return cls(
            tuple(name for name in unread if name not in judged),
            parts,
            taken,
            _LABEL if _LABEL in judged else None,
            _WEIGHT if _WEIGHT in judged else None,
        )

    def check(self, row: Row) -> None:
        """Refuse a row that would be read as another one.

        Raises:
            RowError: ``not-preferred``, ``media``, ``field-dropped`` or ``bad-field``, with the column's path.
        """
        if self.label is not None and _is_false(row.get(self.label)):
            raise RowError(
                "not-preferred",
                at(root(self.label)),
                f"{shown(row[self.label])}: the row shows what not to write",
                "rows that show what to write; preferences are not supported",
                f"leave such rows out, as dataset.filter(lambda row: str(row[{self.label!r}]).lower() not in "
                "('false', '0')) does",
                changes=[let_go(self.label)._replace(about="reads the rows without it, if it says something else")],
            )
        if self.weight is not None and not _is_one(row.get(self.weight)):
            raise RowError(
                "bad-field",
                at(root(self.weight)),
                f"the weight {shown(row[self.weight])}",
                "1, or nothing; weights of rows are not supported",
                "leave rows of weight 0 out; remove the column",
                changes=[let_go(self.weight)._replace(about="reads all rows alike")],
            )
        for column, field in self.parts.items():
            if _says_something(row.get(column)):
                other = self.read.get(field)
                if other is not None:
                    raise RowError(
                        "field-dropped",
                        at(root(column)),
                        f"{shown(row[column])} in a second column of {field}; {other!r} is the one that is read",
                        f"the {field} of all rows in one column",
                        f"move them into {other!r}, in all rows",
                        changes=[let_go(column)._replace(about="reads the rows without it")],
                    )
                raise RowError(
                    "media" if field in _MEDIA else "field-dropped",
                    at(root(column)),
                    f"{shown(row[column])}, which nothing reads",
                    f"rows without {field}, because neither the format nor the template has a place for it",
                    "use a format and a template that have one, or remove the column",
                    changes=[let_go(column)._replace(about="reads the rows without it")],
                )

    def doubtful(self, table: pa.Table) -> Bools:
        """For each row of a table whether `check` has to look at it."""
        found = np.zeros(table.num_rows, np.bool_)
        for column in self.parts:
            found |= filled(table.column(column))
        if self.label is not None:
            column = table.column(self.label)
            good = pc.fill_null(column, True) if pa.types.is_boolean(column.type) else None
            found |= filled(column) if good is None else ~_mask(good)
        if self.weight is not None:
            column = table.column(self.weight)
            number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
            one = pc.fill_null(pc.equal(pc.cast(column, pa.float64()), 1), True) if number else None
            found |= filled(column) if one is None else ~_mask(one)
        return found

    def said(self, table: pa.Table) -> Iterator[tuple[str, Bools]]:
        """The columns that say something, and in which rows."""
        for name in self.unread:
            found = filled(table.column(name))
            if found.any():
                yield name, found
        if self.label is not None:
            strange = [not _is_judged(value) for value in table.column(self.label).to_pylist()]
            if any(strange):
                yield self.label, np.array(strange)

    def said_in(self, row: Row) -> Iterator[tuple[str, Any]]:
        """The same for a row."""
        for name in self.unread:
            if _says_something(row.get(name)):
                yield name, row[name]
        if self.label is not None and not _is_judged(row.get(self.label)):
            yield self.label, row[self.label]


def value_at(table: pa.Table, column: str, row: int) -> Any:
    """A value as the row has it."""
    return table_rows(table.select([column]).slice(row, 1))[0][column]


def filled(column: pa.ChunkedArray) -> Bools:
    """For each row whether a column says something: no null, no empty text, no empty list."""
    kind = column.type
    found = pc.is_valid(column)
    if isinstance(kind, pa.JsonType):
        texts = pa.chunked_array([chunk.storage for chunk in column.chunks], pa.string())
        found = pc.and_(found, pc.invert(pc.is_in(texts, _EMPTY_JSON.cast(texts.type))))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        found = pc.and_(found, pc.fill_null(pc.not_equal(column, pa.scalar("", kind)), False))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        found = pc.and_(found, pc.fill_null(pc.greater(pc.list_value_length(column), 0), False))
    return _mask(found)


def _says_something(value: Any) -> bool:
    if value is None or (isinstance(value, str) and value.strip() in ("", "[]", "{}", "null")):
        return False
    return bool(value) if isinstance(value, str | list | tuple | dict) else True


def _is_false(value: Any) -> bool:
    """Whether a label says that the row is a bad example."""
    if isinstance(value, str):
        return value.strip().lower() in ("false", "0")
    return isinstance(value, bool | int | float | np.bool_) and value == 0


def _is_judged(value: Any) -> bool:
    """Whether a label says that the row is a good example or a bad one, or nothing."""
    if isinstance(value, str):
        return value.strip().lower() in ("", "true", "false", "0", "1")
    return value is None or (isinstance(value, bool | int | float | np.bool_) and value in (0, 1))


def _is_one(value: Any) -> bool:
    return value is None or value == 1 or (isinstance(value, str) and value.strip() in ("", "1", "1.0"))


def _mask(array: Any) -> Bools:
    mask: Bools = np.asarray(
        array.to_numpy() if isinstance(array, pa.ChunkedArray) else array.to_numpy(False), np.bool_
    )
    return mask
