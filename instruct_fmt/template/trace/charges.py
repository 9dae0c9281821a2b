"""What filters, methods and operators cost, paid before they run.

In: the functions that a template may call. Out: the same, each paying from the budget of the moment. Whatever a
function makes is paid once it is made; where it can make much of little, it is paid beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from typing import Any

from instruct_fmt.template.trace.budget import CHARACTERS_OF_STEP, PLACE, Budget, BudgetExceeded, budget

_CONTAINERS = (list, tuple, dict, bytes)
_LOOKED_AT = (str, list, tuple, dict)
MAX_BITS = 16_000
"""No number may be larger."""


def paid(value: Any) -> Any:
    """What a function made, paid for."""
    if isinstance(value, str):
        budget().build(str.__len__(value))
    elif isinstance(value, _CONTAINERS):
        size = items_in(value)
        budget().step(size)
        budget().build(PLACE * size)
        made(value)
    return value


def made(value: Any) -> Any:
    """A list, tuple or mapping that is new."""
    budget().hold(value)
    return value


def items_in(value: Sized) -> int:
    """How much is in a container, whatever a subclass takes that question for."""
    if isinstance(value, dict):
        return dict.__len__(value)
    return list.__len__(value) if isinstance(value, list) else len(value)


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
            now.build(size_of(left) + size_of(right))
    elif operator == "*":
        _charge_times(now, left, right)
        _charge_times(now, right, left)
        if _bits(left) + _bits(right) > MAX_BITS:
            raise BudgetExceeded("a number this large is refused")
    elif operator == "**":
        if _bits(left) * abs(right if isinstance(right, int) else 0) > MAX_BITS:
            raise BudgetExceeded("a power this large is refused")
    elif operator == "%" and isinstance(left, str | bytes):
        now.build(length_of(left) + widths(left, right if isinstance(right, tuple) else (right,)))
        now.write(right)


def _charge_times(now: Budget, value: Any, times: Any) -> None:
    if isinstance(times, int) and (size := size_of(value)):
        now.build(size * max(times, 0))


def size_of(value: Any) -> int:
    """The size of a text, or of a list in characters."""
    if isinstance(value, str | bytes):
        return length_of(value)
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
        now.step(items_in(owner) if name not in ("get", "items", "keys", "values") else 1)
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
    now.step(1 + length_of(owner) // CHARACTERS_OF_STEP)
    if name in ("center", "ljust", "rjust", "zfill"):
        now.build(number_at(args, 0))
    elif name == "expandtabs":
        now.build(_count(owner, "\t") * number_at((kwargs.get("tabsize", args[0] if args else 8),), 0))
    elif name == "replace" and len(args) >= 2:
        charge_replacing(now, owner, args, kwargs)
    elif name in ("format", "format_map"):
        values = [*args, *kwargs.values()]
        now.build(length_of(owner) + widths(owner, _flat(values)))
        now.write(values)
    elif name == "join" and args:
        charge_joining(now, args[0], (owner,), kwargs)
    elif name == "translate" and args:
        longest = max((size_of(one) for one in dict.values(args[0])), default=0) if isinstance(args[0], dict) else 0
        now.step(4 * length_of(owner))
        now.build(length_of(owner) * max(longest, 1))


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


def number_at(args: tuple[Any, ...], place: int) -> int:
    return max(args[place], 0) if len(args) > place and isinstance(args[place], int) else 0


def length_of(text: str | bytes) -> int:
    return str.__len__(text) if isinstance(text, str) else len(text)  # a text may ask why its length is wanted


# Filters that make much of little: what each may add, beside what it looks at


def charge_replacing(now: Budget, value: str | bytes, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    old, new = args[0], args[1]
    if isinstance(value, str):
        times = length_of(value) + 1 if not isinstance(old, str) or not length_of(old) else str.count(value, old)
    else:
        times = len(value) + 1
    now.step(2 * times)
    now.build(length_of(value) + times * (size_of(new) or 20))


def charge_joining(now: Budget, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if isinstance(value, Sized):
        now.build(size_of(args[0]) * len(value))
        now.write(value)
    elif size_of(args[0]) > CHARACTERS_OF_STEP:  # a method's; a filter's are counted
        raise BudgetExceeded("a long text between values that are not counted is refused")
