"""Rows for a record template in, `Record` out: the template's names with the dataset's values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from instruct_fmt.adapt.fields import ANSWERS, SAME, listed, missing_column, nearest
from instruct_fmt.adapt.values import root, text
from instruct_fmt.errors import UsageError
from instruct_fmt.types import Record, TemplateSource


def adapter(
    source: TemplateSource, columns: Sequence[str], mapping: Mapping[str, str]
) -> Callable[[Mapping[str, Any]], Record]:
    """Make the adapter. A null in an optional column is left out; anything else but text is an error.

    Args:
        source: the template; its `columns` are what must be found.
        columns: the dataset's columns.
        mapping: the template's name → the dataset's column.

    Raises:
        UsageError: a column is missing, or a name in `mapping` is unknown.
    """
    found = resolve(source, columns, mapping)
    plan = [(name, column, root(column), name in source.optional) for name, column in found.items()]

    def adapt(row: Mapping[str, Any]) -> Record:
        values = {}
        for name, column, path, optional in plan:
            value = row.get(column)
            if value is not None or not optional:
                values[name] = text(value, path)
        return Record(values)

    return adapt


def resolve(source: TemplateSource, columns: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """The template's names → the dataset's columns; optional names without a column are left out.

    A name of the answer (`output`, `response`, `completion`, `answer`) also finds the answer under one of
    its other names, where exactly one is there.

    Raises:
        UsageError: lists the columns and says how to name the right one.
    """
    for name, column in mapping.items():
        if name not in source.columns:
            hint = nearest(name, source.columns)
            raise UsageError(
                f"columns names {name!r}{hint}, which the template {source.name!r} does not use; "
                f"it uses {listed(source.columns)}"
            )
        if column not in columns:
            raise UsageError(missing_column(f"columns[{name!r}]", column, columns))
    found = {name: mapping.get(name, name) for name in source.columns}
    taken = {column for column in found.values() if column in columns}
    for name in source.columns:
        if found[name] in columns:
            continue
        others = [column for column in ANSWERS if column in columns and column not in taken]
        if name in ANSWERS and len(others) == 1:
            found[name] = others[0]
        elif name in source.optional:
            del found[name]
        else:
            raise UsageError(_missing(source, name, columns, others if name in ANSWERS else []))
    return found


def from_field_map(source: TemplateSource, field_map: Mapping[str, str]) -> dict[str, str]:
    """The part of a `field_map` that speaks of a record template's names, or of LLaMA-Factory's for them."""
    same = {"prompt": "instruction", **SAME}
    found = {same.get(field, field): column for field, column in field_map.items()} | dict(field_map)
    return {name: column for name, column in found.items() if name in source.columns}


def _missing(source: TemplateSource, name: str, columns: Sequence[str], others: Sequence[str]) -> str:
    """The text of the error for a name that has no column."""
    if "chosen" in columns and "rejected" in columns and name in ANSWERS:
        guess, hint = "chosen", " (preferences are not supported yet; this trains on the chosen answers only)"
    else:
        guess, hint = (others[0] if others else "…"), ""
    several = f"; {listed(others)} could be meant" if len(others) > 1 else ""
    close = nearest(name, columns)
    return (
        f"the template {source.name!r} needs the column {name!r}{close}; "
        f"the dataset has {listed(columns)}{several}; fix: columns={{{name!r}: {guess!r}}}{hint}"
    )
