"""Parts of a template that run as a whole for each row: loops over an object's items, macros that take one.

In: a template's syntax tree. Out: the same tree, in which each loop may also be run as a macro of all that it reads.
Where such a loop goes over an object of any row, what it prints becomes one expression over that object: `Made`, which
runs the macro on the object of each row, once for each different one. So does a call of the template's own macros.

A loop may change namespaces. It runs on copies of them: what it leaves there is the same for all rows of the plan, a
guard, or a list of texts, `Gathered`, which may be joined. A macro that reads namespaces is not taken out. What turns
out to look at other fields of the row gives nothing, and the row goes without a plan.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple

import jinja2
from jinja2 import nodes
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, Macro, Undefined
from jinja2.utils import Namespace

from instruct_fmt.template.plan.recorder import (
    PLACEHOLDER,
    Expression,
    Guard,
    Recorder,
    Refused,
    recorder_now,
    recording,
    refuse,
)
from instruct_fmt.template.plan.symbolic import Symbolic, of_expression, plain_text
from instruct_fmt.template.plan.symbolic_object import (
    Inside,
    Path,
    SymbolicList,
    SymbolicObject,
    UnknownList,
    is_symbolic,
)
from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.budget import clock, limits
from instruct_fmt.template.trace.helpers import OriginLost
from instruct_fmt.template.trace.origins import TOOLS, Field
from instruct_fmt.template.trace.owners import Owners, owners_now
from instruct_fmt.template.trace.traced_values import trace_value

LETTERS = "_letters"
LOOKS_INSIDE, OUTLINED = "_looks_inside", "_outlined"
REMEMBERED = 4096
"""So many objects of each part are remembered with what it makes of them."""
# What a macro may not be asked in another place.
_BOUND = frozenset({"caller", "varargs", "kwargs", "self", "super"})


# the tree


def outlined(tree: nodes.Template) -> nodes.Template:
    """The tree with its loops also as macros."""
    stored = {name.name for name in tree.find_all(nodes.Name) if name.ctx in ("store", "param")}
    stored |= {macro.name for macro in tree.find_all(nodes.Macro)}
    _outline(tree, stored, impure(tree), iter(range(10**6)))
    return tree


def impure(tree: nodes.Template) -> frozenset[str]:
    """The macros that read or change a namespace, or call one that does."""
    bound, macros = _namespaces(tree), list(tree.find_all(nodes.Macro))
    found = {macro.name for macro in macros if not _is_pure(macro.body, bound)}
    while more := {macro.name for macro in macros if _names(macro.body) & found} - found:
        found |= more
    return frozenset(found)


def _outline(node: nodes.Node, stored: set[str], bound: frozenset[str], numbers: Iterator[int]) -> None:
    for field, value in list(node.iter_fields()):
        if isinstance(value, nodes.Node):
            _outline(value, stored, bound, numbers)
        elif isinstance(value, list):
            setattr(node, field, [_either(item, stored, bound, numbers) for item in value])


def _either(item: Any, stored: set[str], bound: frozenset[str], numbers: Iterator[int]) -> Any:
    """A loop, or a choice between it and it as a macro."""
    if not isinstance(item, nodes.Node):
        return item
    whole = copied(item) if isinstance(item, nodes.For) else None
    _outline(item, stored, bound, numbers)
    if not isinstance(whole, nodes.For) or not _is_pure([whole], bound):
        return item
    base = _base(whole.iter)
    names = sorted((_names([whole]) | {node.name for node in whole.find_all(nodes.NSRef)}) & stored)
    if base is None or "loop" in _names([whole.iter]) or _BOUND & set(names):
        return item
    line, macro = item.lineno, f"_part_{next(numbers)}"
    loads = [nodes.Name(name, "load", lineno=line) for name in names]
    call = nodes.Call(
        nodes.Name(OUTLINED, "load", lineno=line),
        [
            nodes.Name(macro, "load", lineno=line),
            nodes.List([nodes.Const(name, lineno=line) for name in names], lineno=line),
            copied(base),
            *loads,
        ],
        [],
        None,
        None,
        lineno=line,
    )
    asks = nodes.Call(nodes.Name(LOOKS_INSIDE, "load", lineno=line), [copied(base)], [], None, None, lineno=line)
    params = [nodes.Name(name, "param", lineno=line) for name in names]
    made = [nodes.Macro(macro, params, [], [whole], lineno=line), nodes.Output([call], lineno=line)]
    return nodes.If(asks, made, [], [item], lineno=line)


def copied(node: Any) -> Any:
    """A copy of a part of a tree."""
    return copy.deepcopy(node, {id(node.environment): node.environment})


def _base(node: nodes.Node) -> nodes.Expr | None:
    """What a loop goes over, less the filters and methods that hand out its items."""
    while True:
        if isinstance(node, nodes.Filter) and node.node is not None:
            node = node.node
        elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
            node = node.node.node
        else:
            return node if isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem) else None


def _names(body: Sequence[nodes.Node]) -> set[str]:
    return {name.name for node in body for name in node.find_all(nodes.Name)} | {
        node.name for node in body if isinstance(node, nodes.Name)
    }


def _namespaces(tree: nodes.Node) -> set[str]:
    """Names that are given namespaces."""
    return {
        node.target.name
        for node in (*([tree] if isinstance(tree, nodes.Assign) else []), *tree.find_all(nodes.Assign))
        if isinstance(node.target, nodes.Name)
        and any(getattr(call.node, "name", None) == "namespace" for call in _calls(node.node))
    }


def _calls(node: nodes.Node) -> list[nodes.Call]:
    return [*([node] if isinstance(node, nodes.Call) else []), *node.find_all(nodes.Call)]


def _is_pure(body: Sequence[nodes.Node], bound: Set[str]) -> bool:
    """Whether a body touches no namespace, and has no block that only its place makes sense of."""
    others = (nodes.CallBlock, nodes.Block, nodes.ExtensionAttribute)
    own = set[str]().union(*map(_namespaces, body))
    used = _names(body) | {node.name for one in body for node in one.find_all(nodes.NSRef)}
    return not (used - own) & bound and not any(next(iter(node.find_all(others)), None) for node in body)


def for_all_letters(tree: nodes.Template) -> None:
    """Marks loops that print nothing and only set constants: over a text, they do the same for each character."""
    for loop in tree.find_all(nodes.For):
        if _is_idempotent(loop):
            loop.iter = nodes.Filter(loop.iter, LETTERS, [], [], None, None, lineno=loop.lineno)


def _is_idempotent(loop: nodes.For) -> bool:
    """Whether a loop does the same for one item as for many alike: no output, and constants set for other reasons."""
    held = (nodes.Call, nodes.Macro, nodes.CallBlock, nodes.For, nodes.AssignBlock, nodes.Block, nodes.FilterBlock)
    body = [node for node in loop.body if not isinstance(node, nodes.ExprStmt)]
    inside = [*body, *(inner for node in body for inner in node.find_all(nodes.Node))]
    printed = [one for node in inside if isinstance(node, nodes.Output) for one in node.nodes]
    given = [_bare(node.node) for node in inside if isinstance(node, nodes.Assign)]
    names = [node for node in inside if isinstance(node, nodes.Name)]
    changed = {node.name for node in inside if isinstance(node, nodes.NSRef)}
    changed |= {node.name for node in names if node.ctx == "store"}
    return (
        isinstance(loop.target, nodes.Name)
        and not loop.else_
        and loop.test is None
        and not any(isinstance(node, held) for node in inside)
        and not any(not isinstance(one, nodes.TemplateData) or one.data for one in printed)
        and all(isinstance(value, nodes.Const) for value in given)
        and not {node.name for node in names if node.ctx == "load"} & (changed | {"loop"})
    )


def _bare(node: nodes.Node) -> nodes.Node:
    """An assigned value, less the filter that remembers whose it is."""
    return node.node if isinstance(node, nodes.Filter) and node.name == "_assigned" and node.node is not None else node


# a part, run


class _Printed(NamedTuple):
    """What a part prints of an object, and the paths of what is printed."""

    text: str
    paths: frozenset[Path]


class Made:
    """What a part prints for an object, whatever else it is given being the same.

    Args:
        field: the object's field.
        function: the part, as a macro.
        args, kwargs: its values in the render that it was met in, symbols for what is inside the object.
        key: equal for the same part with the same values, of whatever message.
        whole: whether all that the object says must be printed.
        now: the time of the render.
    """

    def __init__(
        self,
        field: Field,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        key: Hashable,
        *,
        whole: bool,
        now: datetime | None,
    ) -> None:
        self._field, self._function, self._kwargs = field, function, kwargs
        self._args = [_frozen(arg) for arg in args]
        self._key, self._whole, self._now = key, whole, now
        self._known: dict[str, _Printed | None] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Made) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def of(self, text: str) -> str | None:
        """What is printed for the object with this JSON; None where that depends on more."""
        found = self._of(text)
        return None if found is None else found.text

    def printed(self, text: str) -> frozenset[Path]:
        """The paths of what is printed of the object with this JSON."""
        found = self._of(text)
        return frozenset() if found is None else found.paths

    def _of(self, text: str) -> _Printed | None:
        if text not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[text] = self._run(text)
        return self._known[text]

    def _run(self, text: str) -> _Printed | None:
        given = json.loads(text)
        value = trace_value(given, self._field.place, self._field.path)
        with _alone(self._now) as recorder:
            args = [_concrete(arg, self._field, value) for arg in self._args]
            kwargs = {name: _concrete(arg, self._field, value) for name, arg in self._kwargs.items()}
            printed = self._function(*args, **kwargs)
            if not isinstance(printed, str):
                return None
            if recorder.guards or recorder.refused or recorder.placeholders or PLACEHOLDER.search(printed):
                return None
            if self._whole and not _says_all(printed, given, self._field):
                return None
            paths = {run.field.path for run in tr.runs_of(printed) if run.field is not None and run.size}
            return _Printed(tr.plain(printed), frozenset(paths))
        return None


@contextmanager
def _alone(now: datetime | None) -> Iterator[Recorder]:
    """Run a part for itself. What a template or a row may do wrong ends it without a word."""
    token = owners_now.set(Owners())
    try:
        with suppress(*_FAILURES), recording() as recorder, limits(now):
            yield recorder
    finally:
        owners_now.reset(token)


_FAILURES = (
    *(jinja2.TemplateError, Refused, OriginLost, RecursionError),
    *(TypeError, ValueError, LookupError, ArithmeticError, AttributeError),
)


def _says_all(printed: str, value: Any, field: Field) -> bool:
    """Whether every text inside an object is printed, to its last character."""
    there: dict[Path, bytearray] = {}
    for path, text in _texts(value, field.path):
        there[path] = bytearray(0 if char.isspace() else 1 for char in text)
    for run in tr.runs_of(printed):
        if run.field is not None and run.offset >= 0 and run.field.path in there:
            there[run.field.path][run.offset : run.offset + run.size] = bytes(run.size)
        elif run.field is not None:
            for path in [path for path in there if path[: len(run.field.path)] == run.field.path]:
                del there[path]
    return not any(map(any, there.values()))


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(item, (*path, number))


def _concrete(value: Any, field: Field, root: Any) -> Any:
    """A value with the row's own in place of what stands for the object of a field, and for what is inside it."""
    if isinstance(value, SymbolicObject | SymbolicList):
        return _at(root, value._path) if value._field == field else value
    if isinstance(value, dict) and is_symbolic(value):
        return {name: _concrete(dict.__getitem__(value, name), field, root) for name in dict.keys(value)}
    if isinstance(value, list | tuple) and is_symbolic(value):
        return type(value)([_concrete(item, field, root) for item in value])
    if isinstance(value, Symbolic):
        path = _inside(value, field)
        return value if path is None else _at(root, path)
    if isinstance(value, Namespace):
        return Namespace({name: _concrete(item, field, root) for name, item in _inside_of(value).items()})
    return value


def _at(root: Any, path: Sequence[str | int]) -> Any:
    for step in path:
        root = root[step]
    return root


def _inside(text: Symbolic, field: Field) -> Path | None:
    """Where inside the object of a field a text is; None where it is elsewhere, or no longer as it was."""
    run = text._runs[0]
    if len(text._runs) != 1 or run.field is None or run.field.place != field.place:
        return None
    size = len(field.path)
    if run.field.path[:size] != field.path or len(run.field.path) == size or run.offset:
        return None
    return run.field.path[size:]


# a part, met


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
    before = [_frozen(value) for value in values]
    root = trace_value(json.loads(_root_text(field)), field.place, field.path)
    with _alone(clock()):
        concrete = [_concrete(value, field, root) for value in values]
        start = dict(_inside_of(concrete[place]))
        function(*concrete)
        after = _inside_of(concrete[place])
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


def _inside_of(namespace: Namespace) -> dict[str, Any]:
    found: dict[str, Any] = object.__getattribute__(namespace, "_Namespace__attrs")
    return found


class _Left:
    """What a loop that prints nothing of its own leaves in a namespace, as a text: a constant, or texts, joined."""

    def __init__(self, function: Callable[..., Any], place: int, name: str, separator: str | None = None) -> None:
        self._function, self._place, self._name, self._separator = function, place, name, separator

    def __call__(self, *values: Any) -> str | None:
        self._function(*values)
        left = _inside_of(values[self._place])[self._name]
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


def _frozen(value: Any) -> Any:
    """A value as it is now."""
    return Namespace(dict(_inside_of(value))) if isinstance(value, Namespace) else value


def _print_of(value: Any, field: Field) -> Hashable:
    """What tells values of two renders apart, whatever their message."""
    if isinstance(value, SymbolicObject | SymbolicList):
        return ("inside", value._path) if value._field == field else "other"
    if isinstance(value, Symbolic):
        path = _inside(value, field)
        return "other" if path is None else ("text", path)
    if isinstance(value, Macro):
        return "macro", str(value.name)
    if isinstance(value, Undefined):
        return "undefined"
    if isinstance(value, Namespace):
        return "namespace", tuple((name, _print_of(item, field)) for name, item in _inside_of(value).items())
    if isinstance(value, dict) and is_symbolic(value):
        return tuple((str(name), _print_of(dict.__getitem__(value, name), field)) for name in dict.keys(value))
    if isinstance(value, list | tuple) and is_symbolic(value):
        return tuple(_print_of(item, field) for item in value)
    return plain_text(repr(value))
