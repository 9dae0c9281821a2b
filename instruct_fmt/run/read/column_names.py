"""What a column may be called, and how many there may be, whatever the kind of file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from instruct_fmt.errors import DataError, shown

# `datasets` takes about a tenth of a millisecond for each, at every step.
MOST_COLUMNS = 2000


def named_once(where: str, names: Sequence[str]) -> Sequence[str]:
    """The names of columns, none of them empty or given twice.

    Raises:
        DataError: one is, cannot be held, or there are too many.
    """
    if len(names) > MOST_COLUMNS:
        raise too_many(where)
    counts = Counter(names)
    for number, name in enumerate(names, 1):
        wrong = f"the column {name!r} twice" if counts[name] > 1 else name_fault(name)
        if not name.strip():
            wrong = f"a column without a name, number {number}"
        if wrong:
            raise DataError(where, wrong, "a name of its own for each column", "rename it in the file")
    return names


def name_fault(name: str) -> str | None:
    """What is wrong with a name that `datasets` or Arrow cannot hold; None where nothing is."""
    if "\0" in name:
        return f"the column {shown(name)}, whose name holds a NUL"
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"the key {shown(name)}, which holds half a surrogate pair"
    return None


def too_many(where: str) -> DataError:
    """The error for too many columns."""
    return DataError(
        where,
        f"more than {MOST_COLUMNS:,} columns",
        f"at most {MOST_COLUMNS:,}",
        "put what changes from row to row into one column, as an object or a list",
    )
