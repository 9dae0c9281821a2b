"""The door for rows: plain data of a reasonable size, and nothing that runs somebody's code.

In: a row as a caller hands it over. Out: the same row, where it is plain already, or a copy in exact `dict`, `list` and
`str`; whatever is none of these, a date or an image, stays what it is, for the adapter to name. A row of millions of
tokens is no example of anything, and takes gigabytes on its way: it is left out before it is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from instruct_fmt.common.foreign_errors import ForeignError, foreign_errors
from instruct_fmt.errors import RowError

MAX_CHARACTERS, MAX_VALUES = 5_000_000, 1_000_000
_LEAVES = (int, float, bool, type(None))
_NAMES = (str, *_LEAVES)
_ONLY_TEXT = frozenset({str})
_LARGEST = 10**4000
"""Python itself writes out no number of more than 4,300 digits."""


def plain_row(row: Any) -> Mapping[str, Any]:
    """A row, safe to look at.

    Raises:
        RowError: it is no mapping, is too large, holds itself, or cannot be read.
    """
    if type(row) is dict and _is_plain(row):
        return row
    if not isinstance(row, Mapping):
        raise RowError(
            "bad-field", "$", f"a {type(row).__name__}", "a row: names and values", "pass one row, as a dict"
        )
    try:
        with foreign_errors():
            copy = _Copy().of(row)
    except ForeignError as error:
        found = f"values that cannot be read ({error})"
        raise RowError("bad-field", "$", found, "plain data", "convert them") from None
    assert isinstance(copy, dict)
    return copy


def _is_plain(row: Mapping[str, Any]) -> bool:
    """Whether there is nothing to copy; also the place where size is counted."""
    characters, values, waiting = 0, 0, [row]
    while waiting:
        value: Any = waiting.pop()
        values += 1
        kind = type(value)
        if kind is str:
            characters += len(value)
        elif kind is dict:
            values += len(value)
            waiting.extend(value.values())
            if not _ONLY_TEXT.issuperset(map(type, value)):
                return False
        elif kind is int:
            _check_number(value)
        elif kind is list:
            waiting.extend(value)
        elif kind not in _LEAVES and isinstance(value, str | Mapping | list | tuple):
            return False
        if characters > MAX_CHARACTERS or values > MAX_VALUES:
            raise _too_large(characters > MAX_CHARACTERS)
    return True


class _Copy:
    """Copies values, counting them."""

    def __init__(self) -> None:
        self._values = self._characters = 0

    def of(self, value: Any) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _too_large(False)
        if isinstance(value, str):
            self._characters += str.__len__(value)
            if self._characters > MAX_CHARACTERS:
                raise _too_large(True)
            return str.__str__(value) if type(value) is str else "".join(str.__iter__(value))
        if isinstance(value, Mapping):
            names = list(islice(iter(value), MAX_VALUES))
            if strange := next((name for name in names if not isinstance(name, _NAMES)), None):
                found = f"a name that is a {type(strange).__name__}"
                raise RowError("bad-field", "$", found, "names that are text", "rename it")
            return {self.of(name): self.of(value[name]) for name in names}
        if isinstance(value, list):
            return [self.of(item) for item in list.__iter__(value)]
        if isinstance(value, tuple):
            return tuple(self.of(item) for item in tuple.__iter__(value))
        if type(value) is int:
            _check_number(value)
        return value


def _check_number(value: int) -> None:
    if not -_LARGEST < value < _LARGEST:
        raise RowError("bad-field", "$", "a number of thousands of digits", "numbers", "write it as text")


def _too_large(text: bool) -> RowError:
    what = f"{MAX_CHARACTERS:,} characters" if text else f"{MAX_VALUES:,} values"
    return RowError("too-large", "$", f"more than {what}", f"at most {what} in a row", "split the row, or leave it out")
