"""Parts of a template that run as a whole for each row, met: loops over an object's items, macros and filters of one.

In: such a part and its values in a symbolic render (`outline_tree.py` has made it a macro). Out: what it prints, one
expression over the object: `Made`, which runs the part on the object of each row.

A loop may change namespaces. It runs on copies of them: what it leaves there is the same for all rows of the plan, a
guard, or a list of texts, `Gathered`, which may be joined. A macro that reads namespaces is not taken out. What turns
out to look at other fields of the row gives nothing, and the row goes without a plan.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jinja2
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, Macro, Undefined
from jinja2.utils import Namespace

from instruct_fmt.template.plan.made import Made, alone, concrete, frozen, inside_of, path_inside
from instruct_fmt.template.plan.recorder import (
    Expression,
    Guard,
    recorder_now,
    refuse,
)
from instruct_fmt.template.plan.symbolic import Symbolic, of_expression, plain_text
from instruct_fmt.template.plan.symbolic_object import (
    Inside,
    SymbolicList,
    SymbolicObject,
    UnknownList,
    is_symbolic,
)
from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.budget import clock
from instruct_fmt.template.trace.origins import TOOLS, Field
from instruct_fmt.template.trace.traced_values import trace_value


def looks_inside(value: Any) -> bool:
    """Whether a loop over this goes over an object of any row."""
    return isinstance(value, SymbolicObject | SymbolicList)


def outline(function: Callable[..., Any], names: Sequence[str], base: Inside, *values: Any) -> str:
    """What a loop prints that goes over `base` and reads `values`."""
    key = (str(getattr(function, "name", "")), *names)
    printed = _made(function, base._field, values, {}, key)
    for place, value in enumerate(values):
        if isinstance(value, Namespace):
            _leave(function, base._field, values, (*key, place), place)
    return printed


def _leave(function: Callable[..., Any], field: Field, values: Sequence[Any], key: Hashable, place: int) -> None:
    """Give a namespace the values that a loop leaves there."""
    changed: dict[str, Any] = {}
    before = [frozen(value) for value in values]
    root = trace_value(json.loads(_root_text(field)), field.place, field.path)
    with alone(clock()):
        given = [concrete(value, field, root) for value in values]
        start = dict(inside_of(given[place]))
        function(*given)
        after = inside_of(given[place])
        changed = {name: after[name] for name in after if after[name] is not start.get(name)}
    for name, value in changed.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            values[place][name] = Gathered(function, field, before, (key, name), place, name)
            continue
        made = Made(
            field,
            _Left(function, place, name),
            before,
            {},
            (key, name, _prints_of(before, field)),
            whole=False,
            now=clock(),
        )
        left = made.of(_root_text(field))
        if left is None:
            refuse("a loop over an object that leaves more than a constant")
            continue
        recorder_now.get().guards[Guard("equals", Expression(field).then("made", made), left, True)] = None
        values[place][name] = value


class _Left:
    """What a loop that prints nothing of its own leaves in a namespace, as a text: a constant, or texts, joined."""

    def __init__(self, function: Callable[..., Any], place: int, name: str, separator: str | None = None) -> None:
        self._function, self._place, self._name, self._separator = function, place, name, separator

    def __call__(self, *values: Any) -> str | None:
        self._function(*values)
        left = inside_of(values[self._place])[self._name]
        if self._separator is not None:
            return tr.join(self._separator, left) if isinstance(left, list) else None
        return repr(left) if left is None or isinstance(left, bool | int) or type(left) is str else None


class Gathered(UnknownList):
    """The texts that a loop over an object of any row leaves in a namespace: they may be joined."""

    def __init__(
        self, function: Callable[..., Any], field: Field, values: Sequence[Any], key: Hashable, place: int, name: str
    ) -> None:
        super().__init__()
        self._of = function, field, values, key, place, name

    def joined(self, separator: str) -> str:
        """The texts, with a separator between them."""
        function, field, values, key, place, name = self._of
        left = _Left(function, place, name, str(separator))
        return _made(left, field, values, {}, (key, "joined", str(separator)))


def outline_call(macro: Macro, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """What a macro prints of an object; None where it takes none, or several."""
    given = [*args, *kwargs.values()]
    fields = {value._field for value in given if isinstance(value, SymbolicObject | SymbolicList)}
    if len(fields) != 1 or any(isinstance(value, Namespace) for value in given):
        return None
    name = str(macro.name)
    return _made(macro, fields.pop(), args, kwargs, (name, *map(str, kwargs)))


def outline_text(value: Any) -> Any:
    """What printing a value prints, where that is an object of any row."""
    if not isinstance(value, SymbolicObject | SymbolicList):
        return value
    printed = outline_filter("_print", tr.text_of, (value,), {})
    return value if printed is None else printed


def outline_filter(
    name: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str | None:
    """What a filter prints of an object; None where it prints nothing, or takes more of the row."""
    objects = [value for value in (*args, *kwargs.values()) if is_symbolic(value)]
    if len(objects) != 1 or not isinstance(objects[0], SymbolicObject | SymbolicList):
        return None
    shown = [arg for arg in args if not isinstance(arg, EvalContext | jinja2.Environment | Context)]
    names = (name, *map(repr, (value for value in shown if not is_symbolic(value))), *map(str, kwargs))
    field = objects[0]._field
    key = (names, objects[0]._path)
    made = Made(field, function, args, kwargs, key, whole=field.place != TOOLS, now=clock())
    return _expression(made, field) if made.of(_root_text(field)) is not None else None


def _made(
    function: Callable[..., Any], field: Field, args: Sequence[Any], kwargs: Mapping[str, Any], names: Hashable
) -> str:
    key = names, _prints_of((*args, *kwargs.values()), field)
    gathers = any(isinstance(value, Namespace) for value in args)
    ways = (False, True) if gathers and field.place != TOOLS else (field.place != TOOLS,)
    for whole in ways:  # what prints nothing may leave what it says in a namespace
        made = Made(field, function, args, kwargs, (key, whole), whole=whole, now=clock())
        printed = made.of(_root_text(field))
        if printed is not None and (whole or not gathers or not printed):
            return _expression(made, field)
    refuse("a part that looks at more than one field")
    return ""


def _expression(made: Made, field: Field) -> str:
    """What a part prints, as an expression; that it prints something of any row is a guard."""
    root, text = Expression(field), _root_text(field)
    recorder_now.get().guards[Guard("makes", root, made, True)] = None
    printed = of_expression(root.then("made", made), made.of(text) or "", field, -1)
    return printed if printed else ""


def _root_text(field: Field) -> str:
    recorder = recorder_now.get()
    return recorder.actual(recorder.placeholders[Expression(field)])


def _prints_of(values: Sequence[Any], field: Field) -> Hashable:
    return tuple(_print_of(value, field) for value in values)


def _print_of(value: Any, field: Field) -> Hashable:
    """What tells values of two renders apart, whatever their message."""
    if isinstance(value, SymbolicObject | SymbolicList):
        return ("inside", value._path) if value._field == field else "other"
    if isinstance(value, Symbolic):
        path = path_inside(value, field)
        return "other" if path is None else ("text", path)
    if isinstance(value, Macro):
        return "macro", str(value.name)
    if isinstance(value, Undefined):
        return "undefined"
    if isinstance(value, Namespace):
        return "namespace", tuple((name, _print_of(item, field)) for name, item in inside_of(value).items())
    if isinstance(value, dict) and is_symbolic(value):
        return tuple((str(name), _print_of(dict.__getitem__(value, name), field)) for name in dict.keys(value))
    if isinstance(value, list | tuple) and is_symbolic(value):
        return tuple(_print_of(item, field) for item in value)
    return plain_text(repr(value))
