"""A plugin of pytest that notes where the package makes an error, and a list of all places that do.

In: a run of the tests with ``-p error_sites`` and ``ERROR_SITES`` naming a file. Out: that file, a JSON list of places.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import instruct_fmt.errors as errors

PACKAGE = Path(errors.__file__).parent
CLASSES = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.InstructFmtError)
}
_seen: set[tuple[str, int]] = set()


def pytest_configure() -> None:
    """Note the place of each error that is made."""

    def noted(cls: Any, *arguments: Any, **_: Any) -> Any:
        frame = sys._getframe(1)
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            _seen.add((str(path.relative_to(PACKAGE)), frame.f_lineno))
        return Exception.__new__(cls, *arguments)

    errors.InstructFmtError.__new__ = noted  # type: ignore[method-assign]


def pytest_sessionfinish() -> None:
    """Write the places down."""
    Path(os.environ["ERROR_SITES"]).write_text(json.dumps(sorted(_seen)))


def sites() -> Iterator[tuple[str, int, int, str]]:
    """All places that make an error: the file, the first and the last line, and the code's beginning."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES:
                last = node.end_lineno or node.lineno
                yield str(path.relative_to(PACKAGE)), node.lineno, last, ast.unparse(node)[:100]
