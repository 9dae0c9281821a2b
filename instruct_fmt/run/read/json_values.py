"""Decoding JSON so that nothing it says is lost: what Python would read as something else is refused."""

from __future__ import annotations

import json
from math import isinf
from typing import Any, NoReturn

from instruct_fmt.errors import shown

# Arrow, `datasets` and templates recurse; what is nested deeper than this is refused alike on every machine.
MOST_DEEP = 100
_AROUND = 40
TOO_DEEP = (f"values nested more than {MOST_DEEP} deep", "write the inner values as a text, or remove the object")


class Refused(Exception):
    """JSON that Python reads and that means two things, or nothing."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(found)
        self.found, self.fix = found, fix


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Refused(f"the key {shown(twice)} twice in one object", "keep one of the two, or rename one")
    return found


def _no_number(name: str) -> NoReturn:
    raise Refused(f"{name}, which is no number of JSON", "write null or a text in its place")


def _float(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise Refused(f"{shown(text)}, which is beyond the numbers of 64 bits", "write it as a text")
    return number


DECODER = json.JSONDecoder(object_pairs_hook=_object_of, parse_constant=_no_number, parse_float=_float)
# Finds the end of a value that `DECODER` refuses.
SKIPPER = json.JSONDecoder(parse_int=str, parse_float=str)


def check_depth(value: Any) -> None:
    """Refuse a value nested too deep; only one whose text has more than `MOST_DEEP` brackets can be.

    Raises:
        Refused: it is.
    """
    level = [value]
    for _ in range(MOST_DEEP):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]
        if not level:
            return
    raise Refused(*TOO_DEEP)


def why(error: Exception) -> tuple[str, str]:
    """What was found, and the fix, for JSON that is well formed and still cannot be read."""
    if isinstance(error, Refused):
        return error.found, error.fix
    if isinstance(error, RecursionError):
        return TOO_DEEP
    # The one `ValueError` that `int` raises here: Python limits the digits it reads.
    return "a whole number of too many digits", "write it as a text"


def around(text: str, position: int) -> str:
    """The text around a position of its line, for a message."""
    start, position = _line_start(text, position)
    stop = text.find("\n", position)
    first = max(start, position - _AROUND)
    found = text[first : min(position + _AROUND, stop if stop >= 0 else len(text))].strip()
    return shown(found, 2 * _AROUND + 10) if found else "the end of the file"


def _line_start(text: str, position: int) -> tuple[int, int]:
    """Where the line of a position starts, and the position; blanks at the end of the text belong to no line."""
    position = min(position, len(text.rstrip()))
    return text.rfind("\n", 0, position) + 1, position


def syntax(text: str, error: json.JSONDecodeError) -> str:
    """What was found where a text is no JSON."""
    start, position = _line_start(text, error.pos)
    return f"{around(text, error.pos)} ({error.msg.removesuffix(' at')} at column {position - start + 1})"
