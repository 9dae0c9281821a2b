"""What texts of a row are copied from, and what is left of it when a text is made of several.

In: values that a template handles. Out: runs. Text without runs is the template's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Any, NamedTuple

from jinja2 import Undefined
from jinja2.utils import Namespace

from instruct_fmt.template.trace.helpers import OriginLost


class Beside(IntEnum):
    """Where a field stands that is in no message; as a number it is below every message's index."""

    TOOLS = -1
    DOCUMENTS = -2
    VARIABLES = -3
    MIXED = -4  # text made of several places at once


TOOLS, DOCUMENTS, VARIABLES, MIXED = Beside


_VIEWS: tuple[Any, ...] = tuple(map(type, ({}.keys(), {}.values(), {}.items())))
_HOLDERS = (dict, list, tuple, set, frozenset, Namespace, *_VIEWS)
_WITHOUT_TEXT = (int, float, complex, Decimal, type(None), Undefined, date, time, timedelta, range)
_SETS_APART = re.compile(r"[<>\[\]|｜]")  # what sets control tokens off from words


class Field(NamedTuple):
    """A field of the row: its message's index, its column's place, or where it is beside them; and its path there."""

    place: int | Beside
    path: tuple[str | int, ...]


class Run(NamedTuple):
    """`size` characters with one origin.

    Attributes:
        size: how many.
        field: the field that they were copied from; None for the template's own text.
        offset: where in the field, in characters; -1 where that is lost.
        owner: the message whose part of the template printed them; None before that, and outside of any.
        generated: whether a `{% generation %}` block encloses them.
        weak: whether the owner is but the likeliest one: it was near, and another takes its place.
    """

    size: int
    field: Field | None
    offset: int
    owner: int | None
    generated: bool
    weak: bool = False


Runs = tuple[Run, ...]


class Tracked(str):
    """A string with runs."""

    __slots__ = ("_runs",)
    _runs: Runs

    def _melted(self) -> Runs:
        """Its runs, for a text made of it that keeps no positions."""
        return self._runs


class EmptyObject(dict[str, Any]):
    """An object of the row's that holds nothing to remember its field by."""

    __slots__ = ("_field",)
    _field: Field


def empty_object(where: Field) -> EmptyObject:
    made = EmptyObject()
    made._field = where
    return made


def fields_in(value: object) -> list[Field]:
    """The fields that strings and empty objects anywhere inside `value` were copied from."""
    leaves = _leaves(value)
    runs = [run for leaf in leaves if isinstance(leaf, Tracked) for run in leaf._runs]
    empty = [leaf._field for leaf in leaves if isinstance(leaf, EmptyObject)]
    return [*(run.field for run in runs if run.field is not None), *empty]


def _leaves(value: object) -> list[object]:
    """What is at the ends of nested data: strings, and whatever holds nothing."""
    found: list[object] = []
    left: list[Any] = [value]
    seen: set[int] = set()
    while left:
        item = left.pop()
        if isinstance(item, str | EmptyObject) or not isinstance(item, _HOLDERS):
            found.append(item)
        elif id(item) not in seen:
            seen.add(id(item))
            if isinstance(item, dict):
                for pair in dict.items(item):  # a subclass may take a question for the template's
                    left.extend(pair)
            elif isinstance(item, Namespace):
                left.append(object.__getattribute__(item, "_Namespace__attrs"))
            else:
                left.extend(list.__iter__(item) if isinstance(item, list) else item)
    return found


def common_run(size: int, sources: object) -> Run | None:
    """One run for a text made from `sources` by an operation that keeps no positions; None if nothing is the row's.

    Raises:
        OriginLost: something in `sources` cannot be looked into, or a control token of the template's own may be
            among what comes from the row.
    """
    runs: list[Run] = []
    literals: list[str] = []
    for leaf in _leaves(sources):
        if isinstance(leaf, Tracked):
            found = [run for run in leaf._melted() if run.field is not None]
            runs += found
            if len(found) < len(leaf._runs):
                literals += _literals(leaf)
        elif isinstance(leaf, str):
            literals.append(leaf)
        elif isinstance(leaf, EmptyObject):
            runs.append(Run(0, leaf._field, -1, None, False))
        elif not isinstance(leaf, _WITHOUT_TEXT):
            raise OriginLost(f"it makes text of a value of type {type(leaf).__name__}")
    if runs and _SETS_APART.search("\0".join(literals)):
        raise OriginLost("it makes one text of the row's and of markers of its own, and not piece by piece")
    return _common(size, runs) if runs else None


def _literals(text: Tracked) -> Iterator[str]:
    """The stretches of a text that the template wrote."""
    position = 0
    for run in text._runs:
        if run.field is None:
            yield str.__getitem__(text, slice(position, position + run.size))
        position += run.size


def _common(size: int, runs: list[Run]) -> Run:
    """One run with what the origins of several have in common."""
    fields = [run.field for run in runs if run.field is not None]
    places, owners = {field.place for field in fields}, {(run.owner, run.weak) for run in runs}
    path = fields[0].path
    for field in fields:
        while path != field.path[: len(path)]:
            path = path[:-1]
    place = places.pop() if len(places) == 1 else MIXED
    owner, weak = owners.pop() if len(owners) == 1 else (None, False)
    return Run(size, Field(place, path), -1, owner, all(run.generated for run in runs), weak)
