"""Filters and tests that pay for what they look at and build."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sized
from typing import Any

from instruct_fmt.template.trace.budget import PLACE, Budget, budget
from instruct_fmt.template.trace.charges import (
    charge_joining,
    charge_operator,
    charge_replacing,
    length_of,
    number_at,
    paid,
    size_of,
)

Function = Callable[..., Any]


Charge = Callable[[Budget, Any, tuple[Any, ...], Mapping[str, Any]], None]


# They look at one place of their value, or at none.
CONSTANT = frozenset(["abs", "count", "d", "default", "first", "last", "length", "round", "safe", "_assigned"])


CONSTANT_TESTS = frozenset(
    [
        *("boolean", "callable", "defined", "divisibleby", "escaped", "even", "false", "float", "integer", "iterable"),
        *("mapping", "none", "number", "odd", "sameas", "sequence", "string", "true", "undefined"),
    ]
)


WRITING = frozenset({"pprint", "string", "tojson", "urlencode", "xmlattr", "escape", "e", "forceescape"})
"""They write out whatever is in their value."""


COUNTED = frozenset({"join", "sum"})
"""They go through values that may not be there yet."""


_BY_PLACE = frozenset(
    [
        *("batch", "groupby", "join", "list", "map", "max", "min", "reject", "rejectattr", "reverse", "select"),
        *("selectattr", "slice", "sort", "sum", "unique"),
    ]
)


_STEPS_OF_FILTER = 4


# Steps for each 128 characters or each place, of those that are slow.
_SLOW = {
    "pprint": 20,
    "urlize": 60,
    "wordwrap": 60,
    "striptags": 10,
    "wordcount": 8,
    "title": 60,
    "sort": 8,
    "groupby": 16,
    "unique": 4,
}


def charged_filters(filters: Mapping[str, Function]) -> dict[str, Function]:
    """Filters that pay."""
    return {
        name: function if name in CONSTANT else _charged_filter(name, function) for name, function in filters.items()
    }


def charged_tests(tests: Mapping[str, Any]) -> dict[str, Any]:
    """Tests that pay for what they compare or look through."""
    return {name: test if name in CONSTANT_TESTS else _charged_test(test) for name, test in tests.items()}


def _charged_filter(name: str, function: Function) -> Function:
    # Jinja puts its context or environment in front where a filter asks for it.
    place = 1 if hasattr(function, "jinja_pass_arg") else 0
    before = _FILTERS.get(name)
    writes, counted, slow = name in WRITING, name in COUNTED, _SLOW.get(name, 1)

    @functools.wraps(function)
    def charged(*args: Any, **kwargs: Any) -> Any:
        now = budget()
        now.step(_STEPS_OF_FILTER)
        if len(args) > place:
            value = args[place]
            if counted and not isinstance(value, Sized):
                value = list(value)
                args = (*args[:place], value, *args[place + 1 :])
            for _ in range(slow):
                now.look(value)
            for other in (*args[place + 1 :], *kwargs.values()):
                now.look(other)
            if isinstance(value, str) and name in _BY_PLACE:
                now.step(str.__len__(value))  # a text is gone through letter by letter, each with its origin
            if writes:
                now.write(value)
            if before is not None:
                before(now, value, args[place + 1 :], kwargs)
        return paid(function(*args, **kwargs))

    return charged


def _charged_test(function: Function) -> Function:
    @functools.wraps(function)
    def charged(*args: Any) -> Any:
        now = budget()
        for arg in args:
            now.look(arg)
            now.write(arg)  # `upper` and `lower` do
        return function(*args)

    return charged


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str, default: Any = None) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _center(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    now.build(number_at((_argument(args, kwargs, 0, "width", 80),), 0))


def _batch(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if _argument(args, kwargs, 1, "fill_with") is not None:
        now.build(PLACE * number_at((_argument(args, kwargs, 0, "linecount"),), 0))


def _slice(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    slices = number_at((_argument(args, kwargs, 0, "slices"),), 0)
    now.step(slices)
    now.build(16 * PLACE * slices)


def _indent(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    width = _argument(args, kwargs, 0, "width", 4)
    size = len(width) if isinstance(width, str) else width if isinstance(width, int) else 0
    lines = str.count(value, "\n") + 1 if isinstance(value, str) else 1
    now.build(max(size, 0) * lines)


def _replace(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if isinstance(value, str):
        pair = (_argument(args, kwargs, 0, "old"), _argument(args, kwargs, 1, "new"))
        charge_replacing(now, value, (*pair, *args[2:]), kwargs)


def _join(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    charge_joining(now, value, (_argument(args, kwargs, 0, "d", ""),), kwargs)


def _json(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    indent = _argument(args, kwargs, 1, "indent")
    separators = _argument(args, kwargs, 2, "separators") or ()
    size = len(indent) if isinstance(indent, str) else indent if isinstance(indent, int) else 0
    size = max(size, 0) * 4 + sum(size_of(one) for one in separators if isinstance(separators, list | tuple))
    if size > 64 and isinstance(value, list | tuple | dict):
        now.build(size * now.weigh(value))


def _wrap(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    width = max(number_at((_argument(args, kwargs, 0, "width", 79),), 0), 1)
    if isinstance(value, str):
        lines = length_of(value) // width + str.count(value, "\n") + 1
        now.build(lines * (1 + size_of(_argument(args, kwargs, 2, "wrapstring", ""))))
        now.step(4 * lines)


def _links(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    added = sum(size_of(one) for one in (*args, *kwargs.values()))
    now.build((added + 32) * (len(str.split(value)) if isinstance(value, str) else 1))


def _sum(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if isinstance(_argument(args, kwargs, 1, "start", 0), list | tuple):
        # Each sum of lists is a new list, so what is in the first is copied as often as there are others.
        now.build(PLACE * sum(len(item) for item in value if isinstance(item, Sized)) * len(value))


def _format(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    charge_operator("%", value, (*args, *kwargs.values()))


def _list(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    now.step(len(value) if isinstance(value, Sized) else 1)


_FILTERS: dict[str, Charge] = {
    "batch": _batch,
    "center": _center,
    "format": _format,
    "indent": _indent,
    "join": _join,
    "list": _list,
    "replace": _replace,
    "slice": _slice,
    "sum": _sum,
    "tojson": _json,
    "urlize": _links,
    "wordwrap": _wrap,
}
