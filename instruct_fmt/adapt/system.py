"""System prompts that nothing would print, beside ready text or a record template without one: refused.

In: where the rows keep a system prompt, and what the user says about it. Out: an error for the first row with one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.fields import COLUMNS
from instruct_fmt.errors import UsageError, shown

ROLE = "system"
NAMES = COLUMNS[ROLE]
"""What a record template calls its system prompt."""


@dataclass(frozen=True, slots=True)
class Unplaced:
    """System prompts that have no place.

    Attributes:
        default: the option `system`.
        column: the column of the rows' own, or None.
        where: what has no place for them.
        cure: how it gets one.
    """

    default: str | None
    column: str | None
    where: str
    cure: str

    @classmethod
    def of(cls, asked: Asked, column: str | None, where: str, cure: str) -> Unplaced | None:
        """The system prompts of a dataset; None where the user lets them go."""
        return None if ROLE in asked.allow_dropped else cls(asked.system, column, where, cure)

    def check_default(self) -> None:
        """Refuse the option.

        Raises:
            UsageError: it says something.
        """
        if _says_something(self.default):
            fix = f"{self.cure}, or leave `system` out here"
            raise self._error(f"the option system={shown(self.default)}", fix)

    def check(self, row: Mapping[str, Any]) -> None:
        """Refuse a row's own.

        Raises:
            UsageError: the row has one.
        """
        if self.column is not None and _says_something(row.get(self.column)):
            fix = f"{self.cure}, or remove the column"
            raise self._error(f"{shown(row[self.column])} in the column {self.column!r}", fix)

    def fills(self, table: pa.Table) -> bool:
        """Whether any row of a table may have one."""
        if self.column is None:
            return False
        filled = table.column(self.column).drop_null()
        if pa.types.is_string(filled.type) or pa.types.is_large_string(filled.type):
            return bool(pc.any(pc.not_equal(filled, "")).as_py())
        return len(filled) > 0

    def _error(self, found: str, fix: str) -> UsageError:
        return UsageError(
            "a system prompt would vanish",
            found,
            f"none, because {self.where} has no place for it",
            f'{fix}, or let it go with allow_dropped=["{ROLE}"]',
        )


def looked_at(unplaced: Unplaced | None) -> tuple[str, ...]:
    """The column in which system prompts are looked for."""
    return () if unplaced is None or unplaced.column is None else (unplaced.column,)


def _says_something(value: object) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value is not None
