"""How large a row may be.

A row of millions of tokens is no example of anything, and takes gigabytes on its way: it is left out, under its own
reason, before it is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruct_fmt.errors import RowError

MAX_CHARACTERS = 5_000_000


def check_size(row: Mapping[str, Any]) -> None:
    """Refuse a row of more than `MAX_CHARACTERS` characters of text.

    Raises:
        RowError: it has more.
    """
    size, waiting = 0, list[Any](row.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            size += len(value)
            if size > MAX_CHARACTERS:
                raise RowError(
                    "too-large",
                    "$",
                    f"more than {MAX_CHARACTERS:,} characters",
                    f"at most {MAX_CHARACTERS:,} in a row",
                    "split the row, or leave it out",
                )
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
