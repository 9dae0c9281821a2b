"""Rows for a record template in, `Record` out: the template's names with the dataset's values.

A system prompt for rows that have none goes where the template names one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.fields import SAME, listed, missing_column
from instruct_fmt.adapt.system import NAMES, ROLE, Unplaced, looked_at
from instruct_fmt.adapt.values import root, text
from instruct_fmt.common.names import ANSWERS, hint
from instruct_fmt.errors import UsageError
from instruct_fmt.types import Record, TemplateSource


def adapter(
    source: TemplateSource, columns: Sequence[str], asked: Asked
) -> tuple[Sequence[str], Callable[[Mapping[str, Any]], Record]]:
    """Make the adapter. A null in an optional column is left out; anything else but text is an error.

    Args:
        source: the template; its `columns` are what must be found.
        columns: the dataset's columns.
        asked: what the user says about the rows.

    Returns:
        The columns that are read, and what reads a row.

    Raises:
        UsageError: a column is missing, a name is unknown, or a system prompt has no place.
    """
    default = None if asked.system is None else next((name for name in NAMES if name in source.columns), None)
    if default is not None:
        source = replace(source, optional=source.optional | {default})
    found = resolve(source, columns, names(source, asked))
    lost = unplaced(source, columns, found, asked)
    if lost is not None and default is None:
        lost.check_default()
    plan = [
        (name, found.get(name), root(found.get(name, name)), name in source.optional)
        for name in source.columns
        if name in found or name == default
    ]

    def adapt(row: Mapping[str, Any]) -> Record:
        if lost is not None:
            lost.check(row)
        values = {}
        for name, column, path, optional in plan:
            value = row.get(column) if column is not None else None
            if name == default and (value is None or (isinstance(value, str) and not value)):
                value = asked.system
            if value is not None or not optional:
                values[name] = text(value, path)
        return Record(values)

    return (*found.values(), *looked_at(lost)), adapt


def unplaced(source: TemplateSource, columns: Sequence[str], found: Mapping[str, str], asked: Asked) -> Unplaced | None:
    """The dataset's system prompts, where the template reads them under no name; `found` are the columns it reads."""
    given = asked.field_map.get(ROLE)
    column = next((name for name in (given, *NAMES) if name in columns and name not in found.values()), None)
    if any(name in found for name in NAMES):
        column = None
    cure = 'name it in the template, as template="orca" does'
    return Unplaced.of(asked, column, f"the record template {source.name!r}", cure)


def names(source: TemplateSource, asked: Asked) -> dict[str, str]:
    """The template's names → the dataset's columns, as far as the user says."""
    return {**_from_field_map(source, asked.field_map), **asked.columns}


def resolve(source: TemplateSource, columns: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """The template's names → the dataset's columns; optional names without a column are left out.

    A name of the answer (`output`, `response`, `completion`, `answer`) also finds the answer under one of
    its other names, where exactly one is there.

    Raises:
        UsageError: lists the columns and says how to name the right one.
    """
    for name, column in mapping.items():
        if name not in source.columns:
            raise UsageError(
                f"columns names {name!r}{hint(name, source.columns)}, which the template {source.name!r} does not use; "
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


def _from_field_map(source: TemplateSource, field_map: Mapping[str, str]) -> dict[str, str]:
    """The part of a `field_map` that speaks of a record template's names, or of LLaMA-Factory's for them."""
    same = {"prompt": "instruction", **SAME}
    found = {same.get(field, field): column for field, column in field_map.items()} | dict(field_map)
    return {name: column for name, column in found.items() if name in source.columns}


def _missing(source: TemplateSource, name: str, columns: Sequence[str], others: Sequence[str]) -> str:
    """The text of the error for a name that has no column."""
    if "chosen" in columns and "rejected" in columns and name in ANSWERS:
        guess, about = "chosen", " (preferences are not supported yet; this trains on the chosen answers only)"
    else:
        guess, about = (others[0] if others else "…"), ""
    several = f"; {listed(others)} could be meant" if len(others) > 1 else ""
    close = hint(name, columns)
    return (
        f"the template {source.name!r} needs the column {name!r}{close}; "
        f"the dataset has {listed(columns)}{several}; fix: columns={{{name!r}: {guess!r}}}{about}"
    )
