"""Text that stands for a field of any row, so that one render of a template holds for many rows.

A `Symbolic` string prints as a *placeholder*, one for each expression over the row's fields, and so it goes through a
template like any traced text. What the template asks of it is answered from one row's actual value and kept as a
*guard*: for another row that gives the same answers, the same text with its own values in place of the placeholders is
what the template prints. Whatever is not modelled is *refused*: the render is then good for nothing.

Concolic execution; see P. Godefroid, N. Klarlund, K. Sen, "DART: directed automated random testing" (2005).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, SupportsIndex

from instruct_fmt.template.plan.recorder import BLANKS, PLACEHOLDER, Expression, Guard, recorder_now, refuse
from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.helpers import tojson
from instruct_fmt.template.trace.origins import Field, Run, Runs
from instruct_fmt.template.trace.traced import Traced


class Symbolic(Traced):
    """A traced string of placeholders and literals. `_actual` is one row's text; `_node` is set for one expression."""

    __slots__ = ("_actual", "_node")
    _actual: str
    _node: Expression | None

    def _with(self, runs: Runs) -> Traced:
        return _make(str.__str__(self), runs, self._actual, self._node)

    def _melted(self) -> Runs:
        refuse("a text made of it that keeps no positions")
        return self._runs

    def __hash__(self) -> int:
        refuse("hash")
        return str.__hash__(self)

    def __add__(self, other: str) -> str:
        return tr.join("", [self, other]) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> str:
        return tr.join("", [other, self]) if isinstance(other, str) else NotImplemented

    def __bool__(self) -> bool:
        if self._node is None and PLACEHOLDER.sub("", plain_text(self)):
            return True  # a literal makes it so for every row
        return self._asked("filled", "", bool(self._actual))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self._asked("equals", other, self._actual == actual_of(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __contains__(self, other: object) -> bool:
        return self._asked("contains", other, actual_of(other) in self._actual)

    def startswith(self, prefix: Any, *span: Any) -> bool:
        return self._asked("starts", None if span else prefix, self._actual.startswith(prefix, *span))

    def endswith(self, suffix: Any, *span: Any) -> bool:
        return self._asked("ends", None if span else suffix, self._actual.endswith(suffix, *span))

    def _asked(self, question: str, value: object, answer: bool) -> bool:
        if self._node is None or not isinstance(value, str) or isinstance(value, Symbolic):
            refuse(f"{question} of what is no single field, or with what is no constant")
        else:
            recorder_now.get().guards[Guard(question, self._node, str(value), answer)] = None
        return answer

    def strip(self, chars: str | None = None, /) -> str:
        return self._stripped("both", chars, str.strip)

    def lstrip(self, chars: str | None = None, /) -> str:
        return self._stripped("left", chars, str.lstrip)

    def rstrip(self, chars: str | None = None, /) -> str:
        return self._stripped("right", chars, str.rstrip)

    def _stripped(self, side: str, chars: str | None, strip: Callable[[str, str | None], str]) -> str:
        if self._node is None or isinstance(chars, Symbolic):
            refuse("strip of composed text")
            return self
        node = Expression(self._node.field, (*self._node.strips, (side, BLANKS if chars is None else str(chars))))
        return _of(node, strip(self._actual, chars))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        if sep and sep not in self:
            return [self]
        refuse("split")
        return [self]

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        if not old or old in self:
            refuse("replace")
        return self

    def join(self, values: Iterable[str], /) -> str:
        return tr.join(self, list(values))

    def __iter__(self) -> Iterator[str]:
        refuse("iteration over text")
        yield from ()

    def __getitem__(self, key: Any) -> str:
        refuse("a part of a text")
        return self


def _refusing(name: str) -> Callable[..., Any]:
    plain = getattr(str, name)

    def method(self: Symbolic, *args: Any, **kwargs: Any) -> Any:
        refuse(name)
        return plain(self._actual, *args, **kwargs)

    return method


# Every other method of a string gives its result for one row only.
_KEPT = set(vars(Symbolic)) | {name for name in dir(object) if name not in ("__format__", "__le__", "__lt__")}
_KEPT |= {"__len__", "__getnewargs__", "maketrans", "__str__", "__reduce__"}
for _name in sorted(set(dir(str)) - _KEPT | {"__lt__", "__le__", "__gt__", "__ge__", "__format__"}):
    setattr(Symbolic, _name, _refusing(_name))


class SymbolicObject(dict[str, Any]):
    """An object of a row, such as a call's arguments or a tool's schema, that a template may only print as JSON."""

    __slots__ = ("_text",)
    _text: Symbolic

    def __bool__(self) -> bool:
        refuse("whether an object is empty")
        return True


def _refusing_object(name: str) -> Callable[..., Any]:
    plain = getattr(dict, name)

    def method(self: SymbolicObject, *args: Any, **kwargs: Any) -> Any:
        refuse(f"{name} of an object")
        return plain(self, *args, **kwargs)

    return method


for _name in (
    "__repr__",
    "__contains__",
    "__eq__",
    "__ne__",
    "__getitem__",
    "__iter__",
    "__len__",
    "__or__",
    "__ror__",
    "__reversed__",
):
    setattr(SymbolicObject, _name, _refusing_object(_name))
for _name in ("copy", "get", "items", "keys", "values"):
    setattr(SymbolicObject, _name, _refusing_object(_name))


def symbolic_object(value: Mapping[str, Any], where: Field) -> SymbolicObject:
    """An object of any row; `value` is the row's own."""
    made = SymbolicObject(value)
    made._text = symbolic(tojson(value), where)
    return made


def symbolic(text: str, where: Field) -> Symbolic:
    """The field `where` of any row; `text` is its value in the row that answers the questions."""
    return _of(Expression(where), text)


def _of(node: Expression, actual: str) -> Symbolic:
    text = recorder_now.get().placeholder(node)
    return _make(text, (Run(len(text), node.field, 0, None, False),), actual, node)


def _make(text: str, runs: Runs, actual: str, node: Expression | None) -> Symbolic:
    made = str.__new__(Symbolic, text)
    made._runs, made._actual, made._node = runs, actual, node
    return made


def plain_text(text: str) -> str:
    """The placeholders and literals as an exact `str`."""
    return "".join((str.__str__(text),))


def actual_of(value: Any) -> Any:
    return value._actual if isinstance(value, Symbolic) else value


def _joined(text: str, runs: Runs, separator: str, values: list[str]) -> Traced:
    """`traced.join` of values of which one is symbolic."""
    filled = [value for value in values if str.__len__(value)]
    if len(filled) == 1 and isinstance(filled[0], Symbolic) and not separator:
        return filled[0]._with(runs)
    return _make(text, runs, str.join(actual_of(separator), [actual_of(value) for value in values]), None)


tr.on_join(Symbolic, _joined)


def is_symbolic(value: object, depth: int = 0) -> bool:
    """Whether symbolic text is anywhere inside a value."""
    if isinstance(value, Symbolic | SymbolicObject):
        return True
    if depth > 12:
        return True
    if isinstance(value, dict):
        return any(is_symbolic(item, depth + 1) for pair in dict.items(value) for item in pair)
    return isinstance(value, list | tuple) and any(is_symbolic(item, depth + 1) for item in value)
