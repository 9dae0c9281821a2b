"""Plain values: any Python value of a row in, plain JSON data out, with the JSON path of what cannot be used.

Templates see plain data only: `str`, `int`, `float`, `bool`, `None`, `list` and `dict`. A null that the source wrote
stays; those that Arrow fills into structs are gone before (see `arrow`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from instruct_fmt.errors import RowError, shown

# A path is a linked list (parent, key), so that a good row pays next to nothing for it; `at` writes it out.
Path = tuple[Any, str | int]

_SCALARS = (bool, int, float)


def root(column: str) -> Path:
    """The path of a column."""
    return (None, column)


def at(path: Path | None) -> str:
    """The JSON path as text.

    >>> at(((root("messages"), 2), "content"))
    '$.messages[2].content'
    """
    if path is None:
        return "$"
    parent, key = path
    if isinstance(key, int):
        return f"{at(parent)}[{key}]"
    return f"{at(parent)}.{key}" if key.replace("-", "_").isidentifier() else f"{at(parent)}[{key!r}]"


def bad_field(path: Path, found: object, expected: str, fix: str) -> RowError:
    """The error for a value of the wrong type."""
    what = "nothing" if found is None else f"{type(found).__name__} {shown(found)}"
    return RowError("bad-field", at(path), what, expected, fix)


def check_text(value: str, path: Path) -> str:
    """Return `value`, or raise ``bad-text`` where it holds half a surrogate pair, which has no UTF-8 form."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RowError(
                "bad-text",
                at(path),
                f"a lone surrogate {value[error.start]!r} at character {error.start}",
                "text that can be written as UTF-8",
                "repair the text where it was made (a surrogate pair was cut in two), or drop the row",
            ) from None
    return value


def text(value: object, path: Path) -> str:
    """A value that must be text.

    Raises:
        RowError: ``null-field`` for null, ``bad-field`` for another type, ``bad-text`` for a lone surrogate.
    """
    if type(value) is str:
        return value if value.isascii() else check_text(value, path)
    if value is None:
        raise RowError(
            "null-field", at(path), "null", "text", "fill the field in, or leave such rows out of the dataset"
        )
    if isinstance(value, str):
        return check_text(str.__str__(value), path)
    raise bad_field(path, value, "text", "convert the column to text, or name another column")


def plain(value: Any, path: Path) -> Any:
    """Any value as plain JSON data.

    Args:
        value: a Python value; numpy scalars and arrays, tuples and mappings are converted.
        path: where it stands in the row.

    Raises:
        RowError: ``bad-text`` for a lone surrogate, ``bad-field`` for what is not data, such as a date.
    """
    kind = type(value)
    if kind is str:
        return value if value.isascii() else check_text(value, path)
    if value is None or kind in _SCALARS:
        return value
    if kind is dict:
        return _plain_dict(value, path)
    if kind is list:
        return [plain(item, (path, i)) for i, item in enumerate(value)]
    return plain(_builtin(value, path), path)


def _plain_dict(value: dict[Any, Any], path: Path) -> dict[str, Any]:
    done: dict[str, Any] = {}
    for key, item in value.items():
        if type(key) is not str:
            raise bad_field(path, key, "an object whose keys are text", "convert the key to text")
        done[check_text(key, path)] = plain(item, (path, key))
    return done


def _builtin(value: object, path: Path) -> object:
    """One level of a value of another library, or of a subclass, as a built-in type."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | list):
        return list(value)
    if isinstance(value, np.ndarray | np.generic):
        plain_value: object = value.tolist()
        if type(plain_value) is not type(value):
            return plain_value
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise bad_field(path, value, "plain data (text, number, boolean, list, object)", "convert it to text")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key twice")
    return found


def decoded(value: str) -> Any:
    """What a JSON string holds; None for null, and where it is not JSON, has a key twice or is nested too deep."""
    try:
        return json.loads(value, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None


def as_list(value: object) -> list[Any] | None:
    """A list, tuple or array as a list; None for any other type."""
    if type(value) is list:
        return value
    if isinstance(value, tuple | list):
        return list(value)
    return list(value) if isinstance(value, np.ndarray) and value.ndim else None


def object_of(value: object, path: Path, reason: str, expected: str) -> dict[str, Any]:
    """A struct, or a JSON string that holds an object, as a plain dict.

    Raises:
        RowError: `reason` where it is neither.
    """
    if isinstance(value, str):
        found = decoded(value)
        if isinstance(found, dict):
            return _plain_dict(found, path)
    elif isinstance(value, Mapping):
        return _plain_dict(dict(value), path)
    what = f"{type(value).__name__} {shown(value)}"
    raise RowError(reason, at(path), what, expected, "write it as an object or as the JSON text of one")


def objects(value: object, path: Path, reason: str, expected: str) -> list[dict[str, Any]] | None:
    """A list of structs or of JSON strings, a single one, or the JSON text of either, as plain dicts.

    Returns:
        None for null, empty text and an empty list.

    Raises:
        RowError: `reason` where it is none of them.
    """
    found = decoded(value) if isinstance(value, str) else value
    if found is None and (value is None or (isinstance(value, str) and value.strip() in ("", "null"))):
        return None
    items = [found] if isinstance(found, Mapping) else as_list(found)
    if items is None:
        what = f"{type(value).__name__} {shown(value)}"
        raise RowError(reason, at(path), what, expected, "write it as a list or as the JSON text of one")
    return [object_of(item, (path, i), reason, expected) for i, item in enumerate(items)] or None
