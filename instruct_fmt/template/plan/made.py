"""What a part of a template makes of an object, run once for each different one: `Made`."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple

import jinja2
from jinja2.utils import Namespace

from instruct_fmt.template.plan.recorder import PLACEHOLDER, Recorder, Refused, recording
from instruct_fmt.template.plan.symbolic import Symbolic
from instruct_fmt.template.plan.symbolic_object import Path, SymbolicList, SymbolicObject, is_symbolic
from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.budget import limits
from instruct_fmt.template.trace.helpers import OriginLost
from instruct_fmt.template.trace.origins import Field
from instruct_fmt.template.trace.owners import Owners, owners_now
from instruct_fmt.template.trace.traced_values import trace_value

REMEMBERED = 4096
"""So many objects of each part are remembered with what it makes of them."""


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
        self._args = [frozen(arg) for arg in args]
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
        known = self._known  # threads share it, and one may put another in its place
        if text in known:
            return known[text]
        if len(known) >= REMEMBERED:
            self._known = known = {}
        return known.setdefault(text, self._run(text))

    def _run(self, text: str) -> _Printed | None:
        given = json.loads(text)
        value = trace_value(given, self._field.place, self._field.path)
        with alone(self._now) as recorder:
            args = [concrete(arg, self._field, value) for arg in self._args]
            kwargs = {name: concrete(arg, self._field, value) for name, arg in self._kwargs.items()}
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
def alone(now: datetime | None) -> Iterator[Recorder]:
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


def concrete(value: Any, field: Field, root: Any) -> Any:
    """A value with the row's own in place of what stands for the object of a field, and for what is inside it."""
    if isinstance(value, SymbolicObject | SymbolicList):
        return _at(root, value._path) if value._field == field else value
    if isinstance(value, dict) and is_symbolic(value):
        return {name: concrete(dict.__getitem__(value, name), field, root) for name in dict.keys(value)}
    if isinstance(value, list | tuple) and is_symbolic(value):
        return type(value)([concrete(item, field, root) for item in value])
    if isinstance(value, Symbolic):
        path = path_inside(value, field)
        return value if path is None else _at(root, path)
    if isinstance(value, Namespace):
        return Namespace({name: concrete(item, field, root) for name, item in inside_of(value).items()})
    return value


def _at(root: Any, path: Sequence[str | int]) -> Any:
    for step in path:
        root = root[step]
    return root


def path_inside(text: Symbolic, field: Field) -> Path | None:
    """Where inside the object of a field a text is; None where it is elsewhere, or no longer as it was."""
    run = text._runs[0]
    if len(text._runs) != 1 or run.field is None or run.field.place != field.place:
        return None
    size = len(field.path)
    if run.field.path[:size] != field.path or len(run.field.path) == size or run.offset:
        return None
    return run.field.path[size:]


def inside_of(namespace: Namespace) -> dict[str, Any]:
    found: dict[str, Any] = object.__getattribute__(namespace, "_Namespace__attrs")
    return found


def frozen(value: Any) -> Any:
    """A value as it is now."""
    return Namespace(dict(inside_of(value))) if isinstance(value, Namespace) else value
