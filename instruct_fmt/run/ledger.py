"""The ledger of rejected rows: one JSON object a line, beside the prepared dataset.

In: rejections. Out: `rejected.jsonl`, and the rejections again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from instruct_fmt.errors import DataError, Rejection

LEDGER_NAME = "rejected.jsonl"


def write_ledger(path: Path, rejections: Iterable[Rejection], dataset: str | None = None) -> None:
    """Append rejected rows to a file, one JSON object per line, with the name of their dataset if given."""
    about = {} if dataset is None else {"dataset": dataset}
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({**about, **rejection.to_dict()}) + "\n" for rejection in rejections)


def read_ledger(path: Path) -> list[Rejection]:
    """The rejected rows in a ledger file.

    Raises:
        DataError: a line is none of a ledger.
    """
    if not path.is_file():
        return []
    # Most rows share reason, expectation and fix: keep each text once.
    texts: dict[str, str] = {}
    rejections = []
    with path.open(encoding="utf-8") as file:
        try:
            for line in file:
                fields = json.loads(line)
                row = fields.pop("row")
                fields.pop("dataset", None)
                shared = {name: texts.setdefault(text, text) for name, text in fields.items()}
                rejections.append(Rejection(row, **shared))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise DataError(
                f"{path}, line {len(rejections) + 1}",
                "no rejected row",
                "an object with row, reason, path, found, expected and fix",
                "prepare again with --force",
            ) from None
    return rejections
