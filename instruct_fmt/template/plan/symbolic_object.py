"""Objects that stand for those of any row: the arguments of a call, the schema of a tool.

A template may print one as JSON, and ask for members of a tool, each of which becomes a guard on its type. What looks
further inside, such as a loop over its items, runs as a whole for each row: `outlined.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from instruct_fmt.template.plan.json_form import JsonForm
from instruct_fmt.template.plan.lengths import Length, Letter, length
from instruct_fmt.template.plan.recorder import Expression, Guard, Refused, recorder_now, refuse
from instruct_fmt.template.plan.steps import ABSENT, answer, kind_of
from instruct_fmt.template.plan.symbolic import Symbolic, is_symbolic_text, of_expression
from instruct_fmt.template.trace.helpers import tojson
from instruct_fmt.template.trace.origins import TOOLS, Field

Path: TypeAlias = tuple[str | int, ...]


class SymbolicObject(dict[str, Any]):
    """An object of any row."""

    __slots__ = ("_field", "_path")
    _field: Field
    _path: Path

    def __bool__(self) -> bool:
        return _is_longer(self, 0)

    def __getitem__(self, key: Any) -> Any:
        found = _member(self, key)
        if found is ABSENT:
            raise KeyError(key)
        return found

    def get(self, key: Any, default: Any = None, /) -> Any:
        found = _member(self, key)
        return default if found is ABSENT else found

    def __contains__(self, key: Any) -> bool:
        return _member(self, key) is not ABSENT


class SymbolicList(list[Any]):
    """A list inside an object of any row."""

    __slots__ = ("_field", "_path")
    _field: Field
    _path: Path

    def __bool__(self) -> bool:
        return _is_longer(self, 0)

    def __getitem__(self, key: Any) -> Any:
        found = _member(self, key)
        if found is ABSENT:
            raise IndexError(key)
        return found


class UnknownList(list[Any]):
    """A list of which nothing may be asked."""


class UnknownScalar:
    """A number or a flag of which nothing may be asked."""

    __slots__ = ()


Inside: TypeAlias = SymbolicObject | SymbolicList
Unknown: TypeAlias = UnknownList | UnknownScalar


def unknown(value: Any) -> Unknown:
    """What stands for a value that no template is expected to look at."""
    return UnknownList(value) if isinstance(value, list) else UnknownScalar()


def _refusing(kind: type, name: str) -> Callable[..., Any]:
    plain = getattr(kind, name)

    def method(self: Inside | UnknownList, *args: Any, **kwargs: Any) -> Any:
        refuse(f"{name.strip('_')} of an object")
        return plain(self, *args, **kwargs)

    method.__name__ = name
    return method


def _raising(name: str) -> Callable[..., Any]:
    def method(self: UnknownScalar, *args: Any, **kwargs: Any) -> Any:
        raise Refused(f"{name.strip('_')} of a number")

    method.__name__ = name
    return method


_COMPARED = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__repr__", "__str__")
_KINDS: tuple[tuple[Any, type], ...] = ((SymbolicObject, dict), (SymbolicList, list), (UnknownList, list))
for _kind, _base in _KINDS:
    for _name in set(dir(_base)) - set(vars(_kind)) - (set(dir(object)) - {"__eq__", "__ne__", "__repr__", "__str__"}):
        if callable(getattr(_base, _name)) and _name not in ("fromkeys", "__class_getitem__"):
            setattr(_kind, _name, _refusing(_base, _name))
for _name in {*dir(float), *dir(int)} - (set(dir(object)) - {*_COMPARED, "__hash__", "__format__"}):
    if _name.startswith("__") and callable(getattr(int, _name, getattr(float, _name, None))):
        setattr(UnknownScalar, _name, _raising(_name))


def symbolic_object(value: Mapping[str, Any], where: Field) -> SymbolicObject:
    """An object of any row; `value` is the row's own."""
    made = SymbolicObject(value)
    made._field, made._path = where, ()
    of_expression(Expression(where), tojson(value))
    return made


def text_of(value: Inside) -> Symbolic:
    """Its JSON."""
    root = Expression(value._field)
    node = root.then("member", value._path) if value._path else root
    return of_expression(node, node.of(_root_text(value._field)), _place(value._field, value._path))


def json_of(value: Inside, form: JsonForm) -> Symbolic:
    """Its JSON in some form."""
    text = text_of(value)
    if form.is_plain:
        return text
    root = Expression(value._field)
    node = (root.then("member", value._path) if value._path else root).then("json", form.key)
    return of_expression(node, node.of(_root_text(value._field)), _place(value._field, value._path))


def length_inside(value: Inside) -> Length:
    """How many items it has; a comparison becomes a guard."""
    return length(dict.__len__(value) if isinstance(value, SymbolicObject) else list.__len__(value), _longer(value))


def _longer(value: Inside) -> Callable[[int], bool]:
    return lambda number: _is_longer(value, number)


def _is_longer(value: Inside, number: int) -> bool:
    return _asks(value._field, "members", (value._path, number))


def _member(inside: Inside, key: Any) -> Any:
    if is_symbolic_text(key) or not isinstance(key, str | int):
        refuse("a member that the row names")
        return ABSENT
    if inside._field.place != TOOLS:
        refuse("a member of a call's arguments")
    key = str(key) if isinstance(key, str) else int(key)
    field, path = inside._field, (*inside._path, key)
    value: Any = ABSENT
    if isinstance(inside, SymbolicObject):
        value = dict.get(inside, key, ABSENT)
    elif isinstance(key, int) and -list.__len__(inside) <= key < list.__len__(inside):
        value = list.__getitem__(inside, key)
    _asks(field, "kind", (path, kind_of(value)))
    if isinstance(value, str):
        return of_expression(Expression(field).then("member", path), value, _place(field, path))
    if isinstance(value, dict | list):
        made: Inside = SymbolicObject(value) if isinstance(value, dict) else SymbolicList(value)
        made._field, made._path = field, path
        return made
    return value


def _asks(field: Field, question: str, value: Any) -> bool:
    root = Expression(field)
    found = answer(question, _root_text(field), value)
    recorder_now.get().guards[Guard(question, root, value, found)] = None
    return found


def _root_text(field: Field) -> str:
    recorder = recorder_now.get()
    return recorder.actual(recorder.placeholders[Expression(field)])


def _place(field: Field, path: Path) -> Field:
    return Field(field.place, (*field.path, *path))


def is_symbolic(value: object, depth: int = 0) -> bool:
    """Whether something of the row is anywhere inside a value."""
    if isinstance(value, Symbolic | SymbolicObject | SymbolicList | Length | Letter | UnknownList | UnknownScalar):
        return True
    if depth > 12:
        return True
    if isinstance(value, dict):
        return any(is_symbolic(item, depth + 1) for pair in dict.items(value) for item in pair)
    return isinstance(value, list | tuple) and any(is_symbolic(item, depth + 1) for item in value)
