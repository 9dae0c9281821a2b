"""Lines of a data file that are no rows: an error that says where, or a rejected row like others.

In: what is wrong with a line. Out: a `BadLine`, which a reader raises, or that `BadRows` collects for the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from instruct_fmt.errors import DataError, Rejection
from instruct_fmt.run.ledger import read_ledger, write_ledger


class BadLine(DataError):
    """One line that is no row.

    Args:
        path, line: where it is, lines counted from 1.
        found: what is there.
        expected: what would be right.
        fix: what to do.
    """

    def __init__(self, path: Path, line: int, found: str, expected: str, fix: str) -> None:
        self.where, self.found, self.expected, self.fix = f"{path}, line {line}", found, expected, fix
        super().__init__(f"{self.where}: found {found}; expected {expected}; fix: {fix}")

    def __reduce__(self) -> tuple[type[DataError], tuple[str]]:
        return DataError, (str(self),)


@dataclass
class BadRows:
    """Lines that were left out.

    Attributes:
        found: each as a rejection; its row is the number of the row that follows it.
        first_row: the number of the first row of the file that is read.
    """

    found: list[Rejection] = field(default_factory=list)
    first_row: int = 0

    def starting(self, row: int) -> BadRows:
        """The same, for a file whose rows begin with this number."""
        self.first_row = row
        return self

    def add(self, error: BadLine, rows_before: int) -> None:
        """One more, behind so many rows of its file."""
        row = self.first_row + rows_before
        fix = f"{error.fix}, or remove the line"
        self.found.append(Rejection(row, "bad-row", error.where, error.found, error.expected, fix))

    def write(self, path: Path) -> None:
        """Keep what was found."""
        path.unlink(missing_ok=True)
        write_ledger(path, self.found)

    def read(self, path: Path) -> None:
        """Take what was kept."""
        self.found.extend(read_ledger(path))
