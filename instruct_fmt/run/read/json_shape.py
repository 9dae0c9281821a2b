"""How Arrow holds a value of JSON without a loss, and how it holds two of them in one column.

A shape is a name in `_LEAVES`, ("list", shape) or ("struct", ((key, shape), …)); "json" is what Arrow cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

Shape = Any

_MAX_KEYS = 64
# Arrow writes no more than 64 levels; what lies deeper is kept as JSON.
_MAX_DEPTH = 32
_LEAVES: Mapping[str, pa.DataType] = {
    "null": pa.null(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "json": pa.json_(),
}
_NAMES: Mapping[type, str] = {bool: "bool", int: "int", float: "float", str: "string"}


def shape_of(value: Any, depth: int = 0) -> Shape:
    """How Arrow could hold a value; "json" where it could not without a loss.

    >>> shape_of({"role": "user", "content": ["a"]})
    ('struct', (('role', 'string'), ('content', ('list', 'string'))))
    >>> shape_of([1, "a"]), shape_of([None])
    ('json', 'json')
    """
    if value is None:
        return "json" if depth else "null"
    if isinstance(value, dict):
        if depth >= _MAX_DEPTH:
            return "json"
        fields = tuple([(key, shape_of(item, depth + 1)) for key, item in value.items()])
        # An empty struct cannot be written to Parquet.
        fits = 0 < len(fields) <= _MAX_KEYS and _fit(value)
        return ("struct", fields) if fits and not _any_json(fields) else "json"
    if isinstance(value, list):
        item = "json" if depth >= _MAX_DEPTH else _item_shape(value, depth + 1)
        return "json" if item == "json" else ("list", item)
    if isinstance(value, str):
        return "string" if value.isascii() or _encodes(value) else "json"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "json"
    return _NAMES[type(value)]


def merge(left: Shape, right: Shape) -> Shape:
    """The shape that holds both without a loss.

    >>> merge("string", "null"), merge("string", "int")
    ('string', 'json')
    """
    if left == right or right == "null":
        return left
    if left == "null":
        return right
    if isinstance(left, str) or isinstance(right, str) or left[0] != right[0]:
        return "json"
    if left[0] == "list":
        item = merge(left[1], right[1])
        return "json" if item == "json" else ("list", item)
    return _merge_structs(dict(left[1]), dict(right[1]))


def arrow_type(shape: Shape) -> pa.DataType:
    """The Arrow type of a shape."""
    if isinstance(shape, str):
        return _LEAVES[shape]
    if shape[0] == "list":
        return pa.list_(arrow_type(shape[1]))
    return pa.struct([pa.field(key, arrow_type(found)) for key, found in shape[1]])


def _merge_structs(left: dict[str, Shape], right: dict[str, Shape]) -> Shape:
    """Keys may be missing on either side (Arrow fills in null), but their order must be one and the same."""
    common = [key for key in left if key in right]
    if common != [key for key in right if key in left]:
        return "json"
    keys: list[str] = []
    rest = iter(left)
    for key in right:
        if key in left:
            keys.extend(_until(rest, key))
        keys.append(key)
    keys.extend(rest)
    if len(keys) > _MAX_KEYS:
        return "json"
    fields = tuple((key, merge(left.get(key, "null"), right.get(key, "null"))) for key in keys)
    return "json" if _any_json(fields) else ("struct", fields)


def _item_shape(items: list[Any], depth: int) -> Shape:
    """The shape of all items of a list; those of one plain type are told at once, since they may be millions."""
    if items and type(items[0]) is int and set(map(type, items)) == {int}:
        return "int" if min(items) >= -(2**63) and max(items) < 2**63 else "json"
    found: Shape = "null"
    for shape in dict.fromkeys([shape_of(item, depth) for item in items]):
        found = merge(found, shape)
    return found


def _until(keys: Iterator[str], stop: str) -> Iterator[str]:
    for key in keys:
        if key == stop:
            return
        yield key


def _any_json(fields: tuple[tuple[str, Shape], ...]) -> bool:
    return any(shape == "json" for _, shape in fields)


def _fit(keys: Iterable[str]) -> bool:
    """Whether all of them can be names of members."""
    text = " ".join(keys)
    return "\0" not in text and (text.isascii() or _encodes(text))


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
