"""The traced sandbox for symbolic text: what is not modelled is refused."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import Frame
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, Macro
from jinja2.tests import test_iterable, test_sequence

from instruct_fmt.template.plan.lengths import Length
from instruct_fmt.template.plan.outline_tree import LETTERS, LOOKS_INSIDE, OUTLINED, for_all_letters, impure, outlined
from instruct_fmt.template.plan.outlined import (
    Gathered,
    looks_inside,
    outline,
    outline_call,
    outline_filter,
    outline_text,
)
from instruct_fmt.template.plan.recorder import refuse
from instruct_fmt.template.plan.symbolic import Symbolic, actual_of, length_of, letters
from instruct_fmt.template.plan.symbolic_json import symbolic_json
from instruct_fmt.template.plan.symbolic_object import (
    SymbolicList,
    SymbolicObject,
    UnknownList,
    UnknownScalar,
    is_symbolic,
    length_inside,
)
from instruct_fmt.template.trace.traced_environment import BOUND_ALONG, TracedEnvironment, TracedGenerator, passed


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
        return actual_of(value) in actual_of(container)
    return value in container


def _shown_by(function: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: function(outline_text(value))


def _refused(value: Any) -> Any:
    refuse("a chain of comparisons")
    return value


# Filters that look at their value only through methods that are modelled, and at no other text of the row; the text
# that `replace` puts in is not looked at.
_SAFE = frozenset(
    [
        *("trim", "string", "replace", "list", "items", "dictsort", "map", "selectattr", "rejectattr", "select"),
        *("reject", "first", "last", "attr", "batch", "slice", "length", "count", "safe", "_assigned", "_charged"),
        *("upper", "lower", "capitalize"),
    ]
)


# Filters that hand on their arguments as they are.
_HANDING_ON = frozenset({"default", "d", "join"})


def _checked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        value, *others = (arg for arg in args if not isinstance(arg, EvalContext | jinja2.Environment | Context))
        others = [*others[:1], *kwargs.values()] if name == "replace" else [*others, *kwargs.values()]
        if name in ("length", "count") and is_symbolic(value):
            return _length(value)
        if name == "join" and isinstance(value, Gathered) and len(others) <= 1:
            return value.joined(str(others[0]) if others else "")
        if isinstance(value, SymbolicObject | SymbolicList):
            printed = outline_filter(name, function, args, kwargs)
            if printed is not None:
                return printed
        if name not in _SAFE | _HANDING_ON and is_symbolic(value):
            refuse(f"filter {name}")
        if name not in _HANDING_ON and is_symbolic(others):
            refuse(f"filter {name} with a value of the row")
        return function(*args, **kwargs)

    return filtered


# Tests whose answer is the same for what stands for a number or a flag.
_TELLING = frozenset({"defined", "undefined", "none", "string", "mapping"})


def _test(name: str, function: Any) -> Any:
    if name in _TELLING:
        return function

    @functools.wraps(function)
    def tested(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(arg, UnknownScalar | UnknownList) for arg in args):
            refuse(f"test {name} of a number, a flag or a list")
        return function(*args, **kwargs)

    return tested


def _length(value: Any) -> int:
    if isinstance(value, Symbolic):
        return length_of(value)
    return length_inside(value) if isinstance(value, SymbolicObject | SymbolicList) else len(value)


class SymbolicEnvironment(TracedEnvironment):
    """The traced environment, where what is not modelled is refused."""

    code_generator_class = _Generator

    def __init__(self) -> None:
        super().__init__()
        for name, function in list(self.filters.items()):
            self.filters[name] = _checked(name, function)
        self.filters.update({"tojson": symbolic_json, LETTERS: letters})
        self.globals.update({LOOKS_INSIDE: looks_inside, OUTLINED: outline})
        self._impure: frozenset[str] = frozenset()
        self.tests = {name: _test(name, test) for name, test in self.tests.items()}
        self.tests["in"] = _in
        self.tests["sequence"] = lambda value: isinstance(value, str | dict) or test_sequence(value)
        self.tests["iterable"] = lambda value: isinstance(value, str | dict) or test_iterable(value)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        self._impure = impure(tree)
        for_all_letters(tree)
        return outlined(tree).set_environment(self)  # type: ignore[return-value]  # the tree itself

    def runtime_names(self) -> Mapping[str, Any]:
        names = super().runtime_names()
        return {**names, "_in": _in, "_refused": _refused, "_print": _shown_by(names["_print"])}

    def join_texts(self, values: Any) -> str:
        return super().join_texts([outline_text(value) for value in values])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        measured = operator == "-" and isinstance(left, Length)
        if operator != "+" and not measured and (is_symbolic(left) or is_symbolic(right)):
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
        if isinstance(__obj, Macro) and str(__obj.name) not in self._impure:
            printed = outline_call(__obj, args, {name: kwargs[name] for name in kwargs if name not in BOUND_ALONG})
            if printed is not None:
                return printed
        return super().call(__context, __obj, *args, **kwargs)
