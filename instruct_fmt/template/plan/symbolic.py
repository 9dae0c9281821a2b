"""Text that stands for a field of any row, so that one render of a template holds for many rows.

A `Symbolic` string prints as a *placeholder*, one for each expression over the row's fields, and so it goes through a
template like any traced text. What the template asks of it is answered from one row's actual value and kept as a
*guard*: for another row that gives the same answers, the same text with its own values in place of the placeholders is
what the template prints. Whatever is not modelled is *refused*: the render is then good for nothing.

Concolic execution; see P. Godefroid, N. Klarlund, K. Sen, "DART: directed automated random testing" (2005).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, SupportsIndex

import jinja2
from jinja2 import nodes
from jinja2.compiler import Frame
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.tests import test_iterable, test_sequence

from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.environment import tojson
from instruct_fmt.template.trace.origins import Field, Run, Runs
from instruct_fmt.template.trace.traced import Traced
from instruct_fmt.template.trace.traced_template import TracedEnvironment, TracedGenerator, passed

# What str.strip() strips, spelled out: engines differ in what they call a blank.
BLANKS = "".join(map(chr, [*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)])) + (
    "\u2028\u2029\u202f\u205f\u3000"
)
PLACEHOLDER = re.compile("\ue0f0[\ue100-\ue1ff]{2}\ue0f1")


class Expression(NamedTuple):
    """A field, less what was stripped from it: (side, characters) in order."""

    field: Field
    strips: tuple[tuple[str, str], ...] = ()


class Guard(NamedTuple):
    """A question about an expression and its answer: ``filled``, ``contains``, ``starts``, ``ends``,
    ``matches`` or ``equals``."""

    question: str
    subject: Expression
    value: str
    answer: bool


@dataclass(slots=True)
class Recorder:
    """What symbolic renders recorded: expressions and their placeholders, guards, and refusals."""

    guards: dict[Guard, None] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    placeholders: dict[Expression, str] = field(default_factory=dict)
    _expressions: dict[str, Expression] = field(default_factory=dict)

    def placeholder(self, expression: Expression) -> str:
        if expression not in self.placeholders:
            high, low = divmod(len(self.placeholders), 256)
            placeholder = f"\ue0f0{chr(0xE100 + high)}{chr(0xE100 + low)}\ue0f1"
            self.placeholders[expression] = placeholder
            self._expressions[placeholder] = expression
        return self.placeholders[expression]

    def expressions(self) -> Mapping[str, Expression]:
        """Placeholder → what it stands for."""
        return self._expressions


_recorder: ContextVar[Recorder] = ContextVar("instruct_fmt_recorder")


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record what templates do to symbolic text."""
    recorder = Recorder()
    token = _recorder.set(recorder)
    try:
        yield recorder
    finally:
        _recorder.reset(token)


class Refused(Exception):
    """A symbolic render that is good for nothing, and cannot go on."""


def refuse(why: str) -> None:
    """Note that what happens now cannot be foreseen for other rows."""
    _recorder.get().refused.append(why)


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
        return isinstance(other, str) and self._asked("equals", other, self._actual == _actual(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __contains__(self, other: object) -> bool:
        return self._asked("contains", other, _actual(other) in self._actual)

    def startswith(self, prefix: Any, *span: Any) -> bool:
        return self._asked("starts", None if span else prefix, self._actual.startswith(prefix, *span))

    def endswith(self, suffix: Any, *span: Any) -> bool:
        return self._asked("ends", None if span else suffix, self._actual.endswith(suffix, *span))

    def _asked(self, question: str, value: object, answer: bool) -> bool:
        if self._node is None or not isinstance(value, str) or isinstance(value, Symbolic):
            refuse(f"{question} of what is no single field, or with what is no constant")
        else:
            _recorder.get().guards[Guard(question, self._node, str(value), answer)] = None
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


def _json(value: Any, *args: Any, **kwargs: Any) -> str:
    if type(value) is SymbolicObject and not args and not kwargs:
        return value._text
    if is_symbolic([value, args, kwargs]):
        refuse("JSON of what is no single object, or in a form of its own")
    return tr.coarse(tojson(value, *args, **kwargs), [value, args, kwargs])


def symbolic(text: str, where: Field) -> Symbolic:
    """The field `where` of any row; `text` is its value in the row that answers the questions."""
    return _of(Expression(where), text)


def _of(node: Expression, actual: str) -> Symbolic:
    text = _recorder.get().placeholder(node)
    return _make(text, (Run(len(text), node.field, 0, None, False),), actual, node)


def _make(text: str, runs: Runs, actual: str, node: Expression | None) -> Symbolic:
    made = str.__new__(Symbolic, text)
    made._runs, made._actual, made._node = runs, actual, node
    return made


def plain_text(text: str) -> str:
    """The placeholders and literals as an exact `str`."""
    return "".join((str.__str__(text),))


def _actual(value: Any) -> Any:
    return value._actual if isinstance(value, Symbolic) else value


def _joined(text: str, runs: Runs, separator: str, values: list[str]) -> Traced:
    """`traced.join` of values of which one is symbolic."""
    filled = [value for value in values if str.__len__(value)]
    if len(filled) == 1 and isinstance(filled[0], Symbolic) and not separator:
        return filled[0]._with(runs)
    return _make(text, runs, str.join(_actual(separator), [_actual(value) for value in values]), None)


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


class _Generator(TracedGenerator):
    """`in` asks the text, whichever side of the operator it stands on."""

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        operators = [operand.op for operand in node.ops]
        if operators not in (["in"], ["notin"]):
            if "in" in operators or "notin" in operators:
                self.write("_refused(")
                super().visit_Compare(node, frame)
                self.write(")")
                return
            super().visit_Compare(node, frame)
            return
        self.write("(not _in(" if operators == ["notin"] else "(_in(")
        self.visit(node.expr, frame)
        self.write(", ")
        self.visit(node.ops[0].expr, frame)
        self.write("))")


def _in(value: Any, container: Any) -> bool:
    if isinstance(value, Symbolic) and isinstance(container, str):
        refuse("whether a text is in another")
        return value._actual in _actual(container)
    return value in container


def _refused(value: Any) -> Any:
    refuse("a chain of comparisons")
    return value


# Filters that look at their value only through methods that are modelled, and at no other text of the row; the text
# that `replace` puts in is not looked at.
_SAFE = frozenset(
    [
        *("trim", "string", "replace", "list", "items", "dictsort", "map", "selectattr", "rejectattr", "select"),
        *("reject", "first", "last", "attr", "batch", "slice", "length", "count", "_assigned"),
    ]
)
# Filters that hand on their arguments as they are.
_HANDING_ON = frozenset({"default", "d", "join"})


def _checked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        value, *others = (arg for arg in args if not isinstance(arg, EvalContext | jinja2.Environment | Context))
        others = [*others[:1], *kwargs.values()] if name == "replace" else [*others, *kwargs.values()]
        counted = name in ("length", "count") and isinstance(value, Symbolic)
        if counted or (name not in _SAFE | _HANDING_ON and is_symbolic(value)):
            refuse(f"filter {name}")
        if name not in _HANDING_ON and is_symbolic(others):
            refuse(f"filter {name} with a value of the row")
        return function(*args, **kwargs)

    return filtered


class SymbolicEnvironment(TracedEnvironment):
    """The traced environment, where what is not modelled is refused."""

    code_generator_class = _Generator

    def __init__(self) -> None:
        super().__init__()
        for name, function in list(self.filters.items()):
            self.filters[name] = _checked(name, function)
        self.filters["tojson"] = _json
        self.tests["in"] = _in
        self.tests["sequence"] = lambda value: isinstance(value, str | dict) or test_sequence(value)
        self.tests["iterable"] = lambda value: isinstance(value, str | dict) or test_iterable(value)

    def runtime_names(self) -> Mapping[str, Any]:
        return {**super().runtime_names(), "_in": _in, "_refused": _refused}

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator != "+" and (is_symbolic(left) or is_symbolic(right)):
            refuse(f"operator {operator}")
        return super().call_binop(context, operator, left, right)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, Symbolic):
            refuse("a member that the row names")
        return super().getitem(obj, argument)

    def call(self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(__obj, "__self__", None)
        literal = isinstance(owner, str) and not isinstance(owner, Symbolic)
        if literal and __obj.__name__ != "join" and is_symbolic(passed(args, kwargs)):
            refuse(f"{__obj.__name__} with a value of the row")
        return super().call(__context, __obj, *args, **kwargs)
