"""Fixes that are options: each is tried on the row that needs it before it is named.

In: an error with changes of the call that may cure its row. Out: the error with those that do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from instruct_fmt.errors import Change, InstructFmtError, RowError
from instruct_fmt.settings import changed_settings

if TYPE_CHECKING:
    from instruct_fmt.pipeline.pipeline import Pipeline

Row = Mapping[str, Any]
_MAX_CHANGED = 32


class Trials:
    """Tries changes of the call on rows of one pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._changed: dict[str, Pipeline] = {}

    def with_tried_fix(self, error: RowError, row: Row, columns: Sequence[str]) -> RowError:
        """The error with those of its changes that cure the row; it says so where none does."""
        if not error.changes:
            return error
        worked = [change for change in error.changes if self._works(change, row, columns)]
        fix = "; or ".join([error.fix, *(f"{change.code} {change.about}" for change in worked)])
        if not worked:
            fix = f"{fix}; no option that was tried on the row helps"
        return RowError(error.reason, error.path, error.found, error.expected, fix, error.row)

    def reads(self, change: Change, row: Row, path: str) -> bool:
        """Whether with a change a row comes out, and what stands at `path` is read in one of its turns."""
        # Reasoning is often printed in the last turn alone.
        wide = change._replace(settings={**change.settings, "history": "expand"})
        try:
            batch = self._with(wide).run([row], list(row), 0)
        except InstructFmtError:
            return False
        return bool(batch.table.num_rows) and not batch.rejected and path not in batch.unread

    def _works(self, change: Change, row: Row, columns: Sequence[str]) -> bool:
        """Whether a row comes out, with something to learn."""
        try:
            found = self._with(change).encode_one(row, columns)
        except InstructFmtError:
            return False
        return all(encoded.trained.any() for encoded in found)

    def _with(self, change: Change) -> Pipeline:
        key = repr(change.settings)
        if key not in self._changed:
            if len(self._changed) >= _MAX_CHANGED:
                self._changed.clear()
            self._changed[key] = self._pipeline.changed(
                changed_settings(self._pipeline.stages.settings, change.settings)
            )
        return self._changed[key]
