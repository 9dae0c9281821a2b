"""System prompts of a column, or of the formatter, in front of the messages of rows: twin of `Extras._system`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.adapt.columns.distinct import TEXT, is_text
from instruct_fmt.adapt.columns.shaped import ShapedRows
from instruct_fmt.adapt.extras import SYSTEM_ROLES, Extras
from instruct_fmt.types import Bools


def with_system(groups: Iterable[ShapedRows], table: pa.Table, extras: Extras) -> list[ShapedRows]:
    """The rows with the system prompts that are not among their messages; rows with two of them go by row."""
    if extras.system is None and extras.default_system is None:
        return list(groups)
    prompts = None if extras.system is None else table.column(extras.system).combine_chunks()
    return [part for group in groups for part in _with_prompts(group, prompts, extras.default_system)]


def _with_prompts(rows: ShapedRows, prompts: pa.Array | None, default: str | None) -> Iterator[ShapedRows]:
    own = any(role in SYSTEM_ROLES for role in rows.roles)
    said = np.zeros(len(rows.places), np.bool_)
    if prompts is not None:
        here = prompts.take(pa.array(rows.places))
        said = _mask(here.is_valid())
        if is_text(here.type):
            said &= _mask(pc.fill_null(pc.not_equal(here, ""), False))
            if said.any() and not own:
                yield rows.only(said).behind(here.filter(said).cast(TEXT))
        elif not pa.types.is_null(here.type) and own:
            return
    others = rows.only(~said)
    if not len(others.places):
        return
    if default is None or own:
        yield others
    else:
        yield others.behind(pa.repeat(pa.scalar(default, TEXT), len(others.places)))


def _mask(array: pa.Array) -> Bools:
    mask: Bools = array.to_numpy(zero_copy_only=False)
    return mask
