"""Reading a JSON array of objects through a window, so that neither the text nor the objects pile up.

In: a file that begins with `[`. Out: its elements, one at a time. What is no object, or says something that cannot
be kept, is a bad row; where the text itself goes wrong, nobody can say where the next object begins, so that this
ends the file with an error.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from instruct_fmt.errors import DataError, shown
from instruct_fmt.run.read.bad_rows import BadRow, BadRows
from instruct_fmt.run.read.json_values import DECODER, MOST_DEEP, SKIPPER, Refused, around, check_depth, syntax, why
from instruct_fmt.run.read.packed import LONGEST, MOST_MEMORY, large, of_values

Row = dict[str, Any]
Check = Callable[[Row], None]

EXPECTED = "an array of JSON objects or one object per line"
_BLOCK = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
# The longest word of JSON, and then some: an error this near the end may be one of the window.
_WORD = 16


class _Window:
    """The part of a text that is being read; it moves on, and grows where a value needs it."""

    def __init__(self, path: Path, file: io.BufferedReader, line: int) -> None:
        self.path, self._file, self._line = path, file, line
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.position, self.ended = "", 0, False

    def grow(self) -> None:
        """Let go what was read, and read at least as much as is left."""
        self._line += self.text.count("\n", 0, self.position)
        self.text, self.position = self.text[self.position :], 0
        memory = 2 * sys.getsizeof(self.text) + of_values(self.text.count, "[{,")
        if len(self.text) > LONGEST or (len(self.text) > _BLOCK and memory > MOST_MEMORY):
            raise self.error(0, f"{large(memory)}, in the object that begins here", "split the object, or remove it")
        raw = self._file.read(max(_BLOCK, len(self.text)))
        self.ended = not raw
        try:
            self.text += self._decoder.decode(raw, final=self.ended)
        except UnicodeDecodeError as error:
            line = self._line + self.text.count("\n") + raw.count(b"\n", 0, error.start)
            found = f"bytes that are not UTF-8 ({error.reason})"
            raise BadRow(str(self.path), line, found, EXPECTED, "save the file as UTF-8").error() from None

    def mark(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            found = _SPACE.match(self.text, self.position)
            self.position = found.end() if found else self.position
            if self.position < len(self.text) or self.ended:
                return self.text[self.position : self.position + 1]
            self.grow()

    def line(self, position: int) -> int:
        """The number of a line."""
        return self._line + self.text.count("\n", 0, position)

    def value(self, decoder: json.JSONDecoder = DECODER) -> tuple[Any, int]:
        """The value at the position, and where it ends."""
        while True:
            try:
                value, end = decoder.raw_decode(self.text, self.position)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self.text) - _WORD or error.msg.startswith("Unterminated")
                if self.ended or not cut:
                    raise
            else:
                if isinstance(value, dict) or end < len(self.text) or self.ended:
                    return value, end
            self.grow()

    def error(self, position: int, found: str, fix: str) -> DataError:
        """An error that ends the file."""
        return BadRow(str(self.path), self.line(position), found, EXPECTED, fix).error()


def array_rows(path: Path, file: io.BufferedReader, line: int, check: Check, bad: BadRows) -> Iterator[Row]:
    """The objects of an array.

    Args:
        path: the file's name.
        file: the file, at its start or behind blank lines.
        line: the number of the line there.
        check: what else a row must fulfil; raises `Refused`.
        bad: where bad rows go.

    Raises:
        DataError: the text is no array.
    """
    window = _Window(path, file, line)
    window.mark()
    window.position += 1
    if window.mark() != "]":
        yield from _elements(window, check, bad)
    window.position += 1
    if window.mark():
        raise window.error(window.position, around(window.text, window.position), "put one `]` at the end")


def _elements(window: _Window, check: Check, bad: BadRows) -> Iterator[Row]:
    while True:
        row = _element(window, check, bad)
        if row is not None:
            yield row
        mark = window.mark()
        if mark not in (",", "]") or not mark:
            fix = "put `,` between two objects and one `]` at the end"
            raise window.error(window.position, around(window.text, window.position), fix)
        if mark == "]":
            return
        window.position += 1
        window.mark()


def _element(window: _Window, check: Check, bad: BadRows) -> Row | None:
    """The next element; None where it is a bad row."""
    try:
        value, end = window.value()
        brackets = window.text.count("[", window.position, end) + window.text.count("{", window.position, end)
        if brackets > MOST_DEEP:
            check_depth(value)
        if isinstance(value, dict):
            check(value)
    except json.JSONDecodeError as error:
        raise window.error(error.pos, syntax(window.text, error), "correct the file there") from None
    except (Refused, RecursionError, ValueError) as error:
        _skip(window, bad, error)
        return None
    start, window.position = window.position, end
    if isinstance(value, dict):
        return value
    found = "null" if value is None else f"{type(value).__name__} {shown(value)}"
    bad.add(window.path, window.line(start), found, EXPECTED, "write each row as an object")
    return None


def _skip(window: _Window, bad: BadRows, error: Exception) -> None:
    """Pass over an element that is refused."""
    found, fix = why(error)
    found += ", in the object that begins here"
    try:
        end = window.value(SKIPPER)[1]
    except (RecursionError, json.JSONDecodeError):
        raise window.error(window.position, found, fix) from None
    begins = around(window.text, window.position)
    bad.add(window.path, window.line(window.position), f"{found} ({begins})", EXPECTED, fix)
    window.position = end
