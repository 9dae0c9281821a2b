"""Rows of a data file that cannot be read: the first one is an error, or all are listed and left out.

In: what a reader found, with file and line. Out: a `DataError`, or `BadRow` values, kept in a file beside the
converted data, from where a run takes them into its ledger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from instruct_fmt.errors import DataError, Rejection

if TYPE_CHECKING:
    from datasets import Dataset

OnBadRow = Literal["error", "reject"]
REASON = "bad-row"
SUFFIX = ".bad.jsonl"
# Beyond so many the file is of another kind, rather than a file with bad rows.
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read.

    Attributes:
        file: the path of its file.
        line: the line on which it begins.
        found: what is wrong, with the text around it.
        expected: what would have been right.
        fix: what the user can do.
        row: how many rows of the file were read before it.
    """

    file: str
    line: int
    found: str
    expected: str
    fix: str
    row: int = 0

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.file}, line {self.line}"

    def error(self) -> DataError:
        """The same as an error."""
        return DataError(self.where, self.found, self.expected, self.fix)

    def rejection(self) -> Rejection:
        """The same as a line of the ledger; it is no row of the dataset, and has no number there."""
        return Rejection(None, REASON, self.where, self.found, self.expected, self.fix)


@dataclass(slots=True)
class BadRows:
    """What becomes of bad rows: each is an error, or kept in `found`; readers count good ones in `rows`."""

    on_bad_row: OnBadRow = "error"
    found: list[BadRow] = field(default_factory=list)
    rows: int = 0

    def add(self, path: Path, line: int, found: str, expected: str, fix: str) -> None:
        """One more.

        Raises:
            DataError: bad rows are errors, or there are too many.
        """
        bad = BadRow(str(path), line, found, expected, fix, self.rows)
        if self.on_bad_row == "error":
            raise replace(bad, fix=f"{fix}, or leave such rows out with on_bad_row: reject beside its `path`").error()
        if len(self.found) == _MOST:
            raise DataError(
                path,
                f"more than {_MOST:,} rows that cannot be read, the first: {self.found[0].error()}",
                f"at most {_MOST:,}",
                "check how the file was written",
            )
        self.found.append(bad)

    def write(self, path: Path) -> None:
        """Write what was found, one JSON object a line."""
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(bad)) + "\n" for bad in self.found)


def no_rows(path: Path, bad: BadRows) -> DataError:
    """The error for a file without a row that can be read."""
    first = f" that can be read, the first bad one: {bad.found[0].error()}" if bad.found else ""
    return DataError(path, f"no rows{first}", "at least one", "check how it was written")


def list_beside(converted: Path) -> Path:
    """Where the bad rows of a converted file are listed."""
    return converted.with_name(converted.name + SUFFIX)


def bad_rows(dataset: Dataset) -> list[BadRow]:
    """The rows of the files behind a dataset that could not be read, whichever part of its rows it holds.

    They are found by the converted file that the dataset maps, so that slices, copies and other processes find them.
    """
    return [bad for place in _lists(dataset) for bad in _listed(place)]


def bad_rows_once(datasets: Iterable[Dataset]) -> list[list[BadRow]]:
    """`bad_rows` of each dataset; those of a file that several are parts of, with the first one alone."""
    seen: set[Path] = set()
    found = []
    for dataset in datasets:
        places = [place for place in _lists(dataset) if place not in seen]
        seen.update(places)
        found.append([bad for place in places for bad in _listed(place)])
    return found


def _lists(dataset: Dataset) -> list[Path]:
    return list(dict.fromkeys(list_beside(Path(found["filename"])) for found in dataset.cache_files))


def _listed(place: Path) -> list[BadRow]:
    if not place.is_file():
        return []
    with place.open(encoding="utf-8") as file:
        return [BadRow(**json.loads(line)) for line in file]


def bad_row_counts(datasets: Iterable[Dataset]) -> dict[str, int]:
    """What bad rows add to the counts of a run: rows that came in, and were rejected."""
    number = sum(map(len, bad_rows_once(datasets)))
    return {"rows": number, f"rejected:{REASON}": number} if number else {}


def mark(found: Sequence[BadRow]) -> str:
    """A hash of bad rows; empty where there are none."""
    text = "\n".join(json.dumps(asdict(bad)) for bad in found)
    return hashlib.sha256(text.encode()).hexdigest() if found else ""
