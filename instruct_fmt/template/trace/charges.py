"""What filters, methods and operators cost, paid before they run.

In: the functions that a template may call. Out: the same, each paying from the budget of the moment. Whatever a
function makes is paid once it is made; where it can make much of little, it is paid beforehand.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

from instruct_fmt.template.trace.budget import CHARACTERS_OF_STEP, PLACE, Budget, BudgetExceeded, budget

Function = Callable[..., Any]
Charge = Callable[[Budget, Any, tuple[Any, ...], Mapping[str, Any]], None]

_CONTAINERS = (list, tuple, dict, bytes)
_LOOKED_AT = (str, list, tuple, dict)
MAX_BITS = 16_000
"""No number may be larger."""

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
_SLOW = {"pprint": 20, "urlize": 60, "wordwrap": 60, "striptags": 4, "title": 60, "sort": 8, "groupby": 16, "unique": 4}


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


def paid(value: Any) -> Any:
    """What a function made, paid for."""
    if isinstance(value, str):
        budget().build(str.__len__(value))
    elif isinstance(value, _CONTAINERS):
        budget().step(len(value))
        budget().build(PLACE * len(value))
        made(value)
    return value


def made(value: Any) -> Any:
    """A list, tuple or mapping that is new."""
    budget().hold(value)
    return value


def looked_at(value: Any) -> Any:
    """What is compared or searched, paid for."""
    if isinstance(value, _LOOKED_AT):
        budget().look(value)
    return value


def printed(value: Any) -> Any:
    """What is printed, paid for."""
    now = budget()
    now.step()
    if isinstance(value, str):
        now.build(str.__len__(value))
    else:
        now.write(value)
    return value


def step(nodes: int, characters: int) -> None:
    """The body of a loop, macro or block is run once more."""
    now = budget()
    now.step(nodes)
    now.build(characters)


# Operators


def charge_operator(operator: str, left: Any, right: Any) -> None:
    """Pay for `left operator right`."""
    now = budget()
    if operator == "+":
        if isinstance(left, str) and isinstance(right, str):
            now.build(str.__len__(left) + str.__len__(right))
        else:
            now.build(_size(left) + _size(right))
    elif operator == "*":
        _charge_times(now, left, right)
        _charge_times(now, right, left)
        if _bits(left) + _bits(right) > MAX_BITS:
            raise BudgetExceeded("a number this large is refused")
    elif operator == "**":
        if _bits(left) * abs(right if isinstance(right, int) else 0) > MAX_BITS:
            raise BudgetExceeded("a power this large is refused")
    elif operator == "%" and isinstance(left, str | bytes):
        now.build(_length(left) + widths(left, right if isinstance(right, tuple) else (right,)))
        now.write(right)


def _charge_times(now: Budget, value: Any, times: Any) -> None:
    if isinstance(times, int) and (size := _size(value)):
        now.build(size * max(times, 0))


def _size(value: Any) -> int:
    """The size of a text, or of a list in characters."""
    if isinstance(value, str | bytes):
        return _length(value)
    return PLACE * len(value) if isinstance(value, list | tuple) else 0


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def widths(text: str | bytes, values: Iterable[Any] = ()) -> int:
    """An upper bound of what the field widths in a format text add: the numbers in it, and those that it may take from
    its values (`%*d`, `{:{}}`)."""
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    found = _numbers(text)
    if "*" in text or ":" in text:
        found += sum(abs(value) if isinstance(value, int) else _numbers(value) for value in values
                     if isinstance(value, int | str))  # fmt: skip
    return found


def _numbers(text: str) -> int:
    digits = "".join([char if char.isdecimal() else " " for char in text])
    return sum([int(word[:12]) for word in digits.split()])


# Methods


def charge_call(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Pay for a method of a row's or a template's value; for another function, for going through its arguments."""
    owner = getattr(function, "__self__", None)
    if owner is None or isinstance(owner, type):
        for arg in args:
            if isinstance(arg, _CONTAINERS):
                budget().look(arg)
        return
    name = getattr(function, "__name__", "")
    if isinstance(owner, str | bytes):
        charge_method(owner, name, args, kwargs)
    elif isinstance(owner, list | tuple | dict):
        now = budget()
        now.step(len(owner) if name not in ("get", "items", "keys", "values") else 1)
        for arg in args:
            now.look(arg)
        if name in ("count", "index"):
            now.look(owner)
    elif isinstance(owner, int) and name == "to_bytes":
        length = kwargs.get("length", args[0] if args else 1)
        budget().build(length if isinstance(length, int) else 0)


def charge_method(owner: str | bytes, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Pay for a method of text."""
    now = budget()
    now.step(1 + _length(owner) // CHARACTERS_OF_STEP)
    if name in ("center", "ljust", "rjust", "zfill"):
        now.build(_number(args, 0))
    elif name == "expandtabs":
        now.build(_count(owner, "\t") * _number((kwargs.get("tabsize", args[0] if args else 8),), 0))
    elif name == "replace" and len(args) >= 2:
        _replacing(now, owner, args, kwargs)
    elif name in ("format", "format_map"):
        values = [*args, *kwargs.values()]
        now.build(_length(owner) + widths(owner, _flat(values)))
        now.write(values)
    elif name == "join" and args:
        _joining(now, args[0], (owner,), kwargs)
    elif name == "translate" and args:
        longest = max((_size(one) for one in dict.values(args[0])), default=0) if isinstance(args[0], dict) else 0
        now.step(4 * _length(owner))
        now.build(_length(owner) * max(longest, 1))


def _flat(values: Iterable[Any]) -> list[Any]:
    """Values, and those directly in them: a field of a format text may ask for either."""
    found = []
    for value in values:
        found.append(value)
        if isinstance(value, dict):
            found.extend(dict.values(value))
        elif isinstance(value, list | tuple):
            found.extend(value)
    return found


def _count(text: str | bytes, char: str) -> int:
    return text.count(char.encode()) if isinstance(text, bytes) else str.count(text, char)


def _number(args: tuple[Any, ...], place: int) -> int:
    return max(args[place], 0) if len(args) > place and isinstance(args[place], int) else 0


def _length(text: str | bytes) -> int:
    return str.__len__(text) if isinstance(text, str) else len(text)  # a text may ask why its length is wanted


# Filters that make much of little: what each may add, beside what it looks at


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str, default: Any = None) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _center(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    now.build(_number((_argument(args, kwargs, 0, "width", 80),), 0))


def _batch(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if _argument(args, kwargs, 1, "fill_with") is not None:
        now.build(PLACE * _number((_argument(args, kwargs, 0, "linecount"),), 0))


def _slice(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    slices = _number((_argument(args, kwargs, 0, "slices"),), 0)
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
        _replacing(now, value, (*pair, *args[2:]), kwargs)


def _replacing(now: Budget, value: str | bytes, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    old, new = args[0], args[1]
    if isinstance(value, str):
        times = _length(value) + 1 if not isinstance(old, str) or not _length(old) else str.count(value, old)
    else:
        times = len(value) + 1
    now.step(2 * times)
    now.build(_length(value) + times * (_size(new) or 20))


def _join(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    _joining(now, value, (_argument(args, kwargs, 0, "d", ""),), kwargs)


def _joining(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if isinstance(value, Sized):
        now.build(_size(args[0]) * len(value))
        now.write(value)
    elif _size(args[0]) > CHARACTERS_OF_STEP:  # a method's; a filter's are counted
        raise BudgetExceeded("a long text between values that are not counted is refused")


def _json(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    indent = _argument(args, kwargs, 1, "indent")
    separators = _argument(args, kwargs, 2, "separators") or ()
    size = len(indent) if isinstance(indent, str) else indent if isinstance(indent, int) else 0
    size = max(size, 0) * 4 + sum(_size(one) for one in separators if isinstance(separators, list | tuple))
    if size > 64 and isinstance(value, list | tuple | dict):
        now.build(size * now.weigh(value))


def _wrap(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    width = max(_number((_argument(args, kwargs, 0, "width", 79),), 0), 1)
    if isinstance(value, str):
        lines = _length(value) // width + str.count(value, "\n") + 1
        now.build(lines * (1 + _size(_argument(args, kwargs, 2, "wrapstring", ""))))
        now.step(4 * lines)


def _links(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    added = sum(_size(one) for one in (*args, *kwargs.values()))
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
