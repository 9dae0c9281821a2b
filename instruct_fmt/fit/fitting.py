"""The last word on an encoded row: whether it is short enough, and whether there is anything to learn from it.

In: the trained flags of a row, and on demand the characters of its ids. Out: the places of the ids that stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from instruct_fmt.errors import DataError, RowError
from instruct_fmt.fit.length import Overlength, truncate, truncate_prompt
from instruct_fmt.fit.long_rows import LongRows, first_tokens, without_prompts
from instruct_fmt.types import Bools, Ints, Range


class Spans(Protocol):
    """The characters of each id of a row, half-open."""

    @property
    def starts(self) -> Ints: ...

    @property
    def ends(self) -> Ints: ...


@dataclass(frozen=True, slots=True)
class Fitting:
    """What becomes of long rows.

    Attributes:
        max_length: the most tokens of a row; None for no limit.
        overlength: what becomes of a row that has more.
    """

    max_length: int | None
    overlength: Overlength

    def is_long(self, sizes: Ints) -> Bools:
        """For rows of so many ids whether they are too long; shape (rows,)."""
        if self.max_length is None:
            return np.zeros(len(sizes), np.bool_)
        return np.greater(sizes, self.max_length)

    def kept(self, trained: Bools, spans: Callable[[], Spans], removable: Sequence[Range], number: int) -> Ints | None:
        """The places of the ids that stay, ascending; None for all of them.

        Args:
            trained: one flag for each id; shape (ids,).
            spans: the characters of the ids, asked for where the row is to be shortened.
            removable: text of the prompt that may be cut into, in characters.
            number: the row's number, for the message.

        Raises:
            RowError: the row is too long and stays so, or nothing of it is trained.
            DataError: with `overlength="error"`, it is too long.
        """
        places = None
        if self.max_length is not None and len(trained) > self.max_length:
            error = self.too_long(len(trained), number)
            if self.overlength == "error":
                raise DataError(str(error))
            places = self._shortened(trained, spans, removable, self.max_length)
            if places is None:
                raise error
            if not trained[places].any():
                raise self.unlearnable(len(trained), number)
        elif not trained.any():
            raise RowError("nothing-to-learn", "$", "no trained token", "at least one", "leave the row out")
        return places

    def cut(self, rows: LongRows) -> tuple[Bools, Bools]:
        """Of many rows that are too long, which tokens stay, and for each row whether it becomes short enough."""
        assert self.max_length is not None
        if self.overlength == "truncate":
            return first_tokens(rows, self.max_length), np.ones(len(rows.offsets) - 1, np.bool_)
        return without_prompts(rows, self.max_length)

    def _shortened(
        self, trained: Bools, spans: Callable[[], Spans], removable: Sequence[Range], limit: int
    ) -> Ints | None:
        if self.overlength == "drop":
            return None
        found = spans()
        if self.overlength == "truncate":
            return truncate(found.starts, found.ends, limit)
        return truncate_prompt(found.starts, found.ends, trained, removable, limit)

    def too_long(self, tokens: int, number: int | None = None) -> RowError:
        """What to say of a row of so many tokens."""
        limit = self.max_length
        return RowError("over-length", "$", f"{tokens} tokens", f"at most {limit}", f"max_length={tokens}", number)

    def unlearnable(self, tokens: int, number: int | None = None) -> RowError:
        """What to say of a row of so many tokens of which nothing stays that is trained."""
        error = self.too_long(tokens, number)
        left = f"{tokens} tokens, of which the first {self.max_length} hold nothing that is trained"
        return RowError("over-length", "$", left, error.expected, error.fix, number)
