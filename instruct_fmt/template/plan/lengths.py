"""What is known of a text of any row without its words: how long it is, and that it has characters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from instruct_fmt.template.plan.recorder import refuse


class Letter(str):
    """Any character of a text of the row, of which nothing is known but that it is one."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> str:
        if isinstance(key, str):
            raise TypeError("string indices must be integers")
        refuse("a character of a text")
        return self


def _refusing_letter(name: str) -> Callable[..., Any]:
    def method(self: Letter, *args: Any, **kwargs: Any) -> Any:
        refuse("a character of a text")
        return getattr(str, name)("", *args, **kwargs)

    return method


for _name in set(dir(str)) - set(dir(object)) - {"__getitem__", "__getnewargs__", "maketrans", "__iter__"} | {
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__str__", "__repr__", "__format__")
}:
    setattr(Letter, _name, _refusing_letter(_name))


class Length(int):
    """How long a text of the row is: it may be compared with a number, which becomes a guard.

    Attributes:
        longer: whether it is more than a number.
        of: the text, as placeholders and literals; empty for the length of an object.
        shift: what was added to the length.
    """

    longer: Callable[[int], bool]
    of: str
    shift: int

    def _longer(self, number: int) -> bool:
        return self.longer(number - self.shift)

    def __add__(self, other: Any) -> Length:
        return length(int.__int__(self) + _number(other), self.longer, self.of, self.shift + _number(other))

    def __radd__(self, other: Any) -> Length:
        return self.__add__(other)

    def __sub__(self, other: Any) -> Length:
        return self.__add__(-_number(other))

    def __bool__(self) -> bool:
        return self._longer(0)

    def __gt__(self, other: Any) -> bool:
        return self._longer(_number(other))

    def __ge__(self, other: Any) -> bool:
        return self._longer(_number(other) - 1)

    def __lt__(self, other: Any) -> bool:
        return not self >= other

    def __le__(self, other: Any) -> bool:
        return not self > other

    def __eq__(self, other: Any) -> bool:
        return self >= other and not self > other

    def __ne__(self, other: Any) -> bool:
        return not self == other

    def __hash__(self) -> int:
        refuse("a length that is no question")
        return int.__hash__(self)


def _number(value: Any) -> int:
    if type(value) is not int:
        refuse("a length compared with what is no number")
    return int(value)


def _refusing_number(name: str) -> Callable[..., Any]:
    plain = getattr(int, name)

    def method(self: Length, *args: Any) -> Any:
        refuse("a length that is no question")
        return plain(self, *args)

    return method


for _name in set(dir(int)) - set(vars(Length)) - set(dir(object)) | {"__str__", "__repr__", "__format__"}:
    if callable(getattr(int, _name)) and _name not in ("__new__", "from_bytes"):
        setattr(Length, _name, _refusing_number(_name))


def length(actual: int, longer: Callable[[int], bool], of: str = "", shift: int = 0) -> Length:
    """A length of which `longer` answers, as a guard, whether it is more than a number."""
    made = Length(actual)
    made.longer, made.of, made.shift = longer, of, shift
    return made
