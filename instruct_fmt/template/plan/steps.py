"""What templates make of a field's text, and what they ask of it: of one text, and of a column of them.

In: an `Expression`'s steps and a `Guard`'s question. Out: the same values and answers that Python's own methods give
inside a template. What Arrow does alike is done by Arrow; for the rest each different text is looked at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.common.reasoning import parted
from instruct_fmt.template.plan.json_form import rewritten
from instruct_fmt.types import Bools, Ints

TEXT = pa.large_string()
# What str.strip() strips, spelled out: engines differ in what they call a blank.
BLANKS = "".join(map(chr, [*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)])) + (
    "\u2028\u2029\u202f\u205f\u3000"
)


class _Absent(Enum):
    ABSENT = "absent"


ABSENT = _Absent.ABSENT
"""What is at a path of an object that does not lead anywhere."""


class Step(NamedTuple):
    """A step from a text to another: its name, and what else it depends on, which can be hashed."""

    name: str
    args: tuple[Any, ...] = ()


THOUGHTS, ANSWER = Step("in_block", (1,)), Step("in_block", (3,))
"""From a content that begins with a block of reasoning to that, and to what is behind it."""


class _Way(NamedTuple):
    """A step or a question, of a text and of a column; a column without a way of its own goes text by text."""

    of_text: Callable[..., Any]
    of_column: Callable[..., pa.Array] | None = None


def _strip(text: str, side: str, blanks: str) -> str:
    return {"both": str.strip, "left": str.lstrip, "right": str.rstrip}[side](text, blanks)


def _strip_column(column: pa.Array, side: str, blanks: str) -> pa.Array:
    return {"both": pc.utf8_trim, "left": pc.utf8_ltrim, "right": pc.utf8_rtrim}[side](column, blanks)


def _piece(text: str, separator: str, number: int) -> str:
    pieces = text.split(separator, number + 1)
    return pieces[number] if number < len(pieces) else ""


def _piece_column(column: pa.Array, separator: str, number: int) -> pa.Array:
    """The pieces with this number; nothing where there are fewer."""
    lists = pc.split_pattern(column, separator, max_splits=number + 1)
    starts, sizes = _starts_of(lists), pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    chosen = pa.array(starts + number, mask=sizes <= number)
    return lists.values.take(chosen).fill_null("")


def _starts_of(lists: pa.Array) -> Ints:
    offsets: Ints = np.asarray(lists.offsets, np.int64)[:-1]
    return offsets


Edge: TypeAlias = int | tuple[str, int] | None
"""An edge of a slice: a place, one from the end of the text on, `("end", -2)`, or none."""


def _slice(text: str, start: Edge, stop: Edge) -> str:
    first, last = (len(text) + edge[1] if isinstance(edge, tuple) else edge for edge in (start, stop))
    return text[first:last]


def _method(text: str, name: str, *args: Any) -> Any:
    return getattr(str, name)(text, *args)


@lru_cache(maxsize=1024)
def _loaded(text: str) -> Any:
    """The value of a text of JSON; several questions are asked about each."""
    return json.loads(text)


def member(text: str, path: tuple[str | int, ...]) -> Any:
    """What is at a path of a text of JSON; `ABSENT` where there is nothing."""
    value = _loaded(text)
    for step in path:
        if isinstance(value, dict):
            if step not in value:
                return ABSENT
        elif not isinstance(value, list) or not isinstance(step, int) or not -len(value) <= step < len(value):
            return ABSENT
        value = value[step]
    return value


def kind_of(value: Any) -> str:
    """What a template may do with a member of an object: the name of its type; of what is no text, itself."""
    if value is ABSENT:
        return str(ABSENT.value)
    if isinstance(value, str | dict | list):
        return type(value).__name__
    return json.dumps(value)


def _member_text(text: str, path: tuple[str | int, ...]) -> str:
    value = member(text, path)
    if value is ABSENT:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _inside(text: str, path: tuple[str | int, ...]) -> Any:
    """The object or list at a path; an empty one where there is none."""
    value = member(text, path)
    return value if isinstance(value, dict | list) else ()


def _speaks(value: Any) -> bool:
    """Whether a text inside a value says something."""
    if isinstance(value, str):
        return bool(value.strip())
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_speaks, inside))


def _in_block(text: str, number: int) -> str:
    parts = parted(text)
    return "" if parts is None else parts[number]


def _block(text: str, value: tuple[str, str] | None) -> bool:
    parts = parted(text)
    return value is None if parts is None else (parts[0], parts[2]) == value


_STEPS: Mapping[str, _Way] = {
    "in_block": _Way(_in_block),
    "strip": _Way(_strip, _strip_column),
    "piece": _Way(_piece, _piece_column),
    "slice": _Way(_slice),
    "quoted": _Way(lambda text, ensure_ascii: json.dumps(text, ensure_ascii=ensure_ascii)[1:-1]),
    "replace": _Way(str.replace, lambda column, old, new: pc.replace_substring(column, old, new)),
    "json": _Way(rewritten),
    "member": _Way(_member_text),
    "method": _Way(_method),
    "made": _Way(lambda text, made: made.of(text)),
}
_QUESTIONS: Mapping[str, _Way] = {
    "filled": _Way(lambda text, _: bool(text), lambda column, _: pc.greater(pc.binary_length(column), 0)),
    "contains": _Way(lambda text, value: value in text, lambda column, value: pc.match_substring(column, value)),
    "starts": _Way(str.startswith, lambda column, value: pc.starts_with(column, value)),
    "ends": _Way(str.endswith, lambda column, value: pc.ends_with(column, value)),
    "equals": _Way(str.__eq__, lambda column, value: pc.equal(column, pa.scalar(value, TEXT))),
    "matches": _Way(
        lambda text, value: re.search(value, text) is not None,
        lambda column, value: pc.match_substring_regex(column, value),
    ),
    "pieces": _Way(
        lambda text, value: text.count(value[0]) == value[1],
        lambda column, value: pc.equal(pc.count_substring(column, value[0]), value[1]),
    ),
    "longer": _Way(
        lambda text, value: len(text) > value, lambda column, value: pc.greater(pc.utf8_length(column), value)
    ),
    "says": _Way(lambda text, value: bool(_method(text, *value))),
    "block": _Way(_block),
    "kind": _Way(lambda text, value: kind_of(member(text, value[0])) == value[1]),
    "members": _Way(lambda text, value: len(_inside(text, value[0])) > value[1]),
    "speaks": _Way(lambda text, _: _speaks(_loaded(text))),
    "makes": _Way(lambda text, made: made.of(text) is not None),
}


def stepped(text: str, step: Step) -> str:
    """A text behind a step."""
    found: str = _STEPS[step.name].of_text(text, *step.args)
    return found or ""


def stepped_column(column: pa.Array, step: Step) -> pa.Array:
    """A column of texts behind a step."""
    way = _STEPS[step.name]
    if way.of_column is not None:
        return way.of_column(column, *step.args)
    return _each(column, lambda text: way.of_text(text, *step.args) or "", TEXT)


def answer(question: str, text: str, value: Any) -> bool:
    """The answer to a question about a text."""
    return bool(_QUESTIONS[question].of_text(text, value))


def answers(question: str, column: pa.Array, value: Any) -> Bools:
    """The answers to a question about each text of a column."""
    way = _QUESTIONS[question]
    if way.of_column is not None:
        found: Bools = way.of_column(column, value).to_numpy(zero_copy_only=False)
        return found
    return np.asarray(_each(column, lambda text: bool(way.of_text(text, value)), pa.bool_()))


def _each(column: pa.Array, function: Callable[[str], Any], kind: pa.DataType) -> pa.Array:
    """What a function makes of each text; each different one is looked at once."""
    encoded = column.dictionary_encode()
    made = [function(text) for text in encoded.dictionary.to_pylist()]
    return pa.array(made, kind).take(encoded.indices)
