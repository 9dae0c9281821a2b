"""Whether ids break where a server's do, for all ends of all turns of many rows at once; the twin of `seam_rows.py`.

In: `Tokens`. Out: for each end of each turn whether the ids in front of it are those of the text in front of it, and
where rows are to be cut, because those of their last turn are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from instruct_fmt.common.ragged import Ragged, offsets_of
from instruct_fmt.encode.engines.backend import Backend
from instruct_fmt.encode.flat import Tokens, bytes_of
from instruct_fmt.types import Bools, Ints


def clean_ends(
    tokens: Tokens, sizes: Callable[[npt.NDArray[np.int32]], Ints], backend: Backend, continued: Backend
) -> Bools:
    """For each end of each turn whether it is clean; see `seam.is_clean`.

    Args:
        tokens: the rows.
        sizes: the bytes that ids stand for.
        backend: the engine.
        continued: the engine of a part that continues a row.
    """
    rows, ends = tokens.rows, tokens.ends
    at, tail = rows.seams.values[:, 0] + rows.starts[rows.seams.rows], rows.seams.values[:, 1]
    before = np.searchsorted(ends, at.astype(ends.dtype), side="right")
    begin = tokens.offsets[rows.seams.rows]
    clean: Bools = before == begin
    inside = np.flatnonzero(~clean)
    clean[inside] = ends[before[inside] - 1] == at[inside]
    first, known = _stretches(tokens, at, sizes)
    for number, ids in enumerate(rows.tails):
        chosen = np.flatnonzero(clean & known & (tail == number))
        clean[chosen] = _ends_in(tokens, before[chosen], begin[chosen], ids)
    for engine, here in ((backend, (tail < 0) & known), (continued, ~known)):
        chosen = np.flatnonzero(clean & here)
        if len(chosen):
            clean[chosen] = _alone(tokens, first[chosen], at[chosen], before[chosen], engine)
    return clean


def missing_cuts(seams: Ragged, cuts: Ragged, clean: Bools) -> tuple[Ragged, Bools]:
    """Rows at an end of whose last turn a token crosses: all rows' cuts with the first such end, and which rows.

    Args:
        seams: the ends of turns, in pairs, of all rows.
        cuts: where rows are cut so far.
        clean: whether each end is clean.
    """
    rows = len(seams.offsets) - 1
    crossed = np.zeros(rows, np.bool_)
    if clean.all():
        return cuts, crossed
    last = seams.offsets[1:] - 2
    there = np.flatnonzero(np.diff(seams.offsets) > 0)
    start, end = ~clean[last[there]], ~clean[last[there] + 1]
    crossed[there] = start | end
    place = last[there] + np.where(start, 0, 1)
    chosen = there[start | end]
    added = seams.values[place[start | end], 0]
    owners = np.concatenate([cuts.rows, chosen])
    values = np.concatenate([cuts.values, added])
    order = np.lexsort((values, owners))
    return Ragged(values[order], offsets_of(np.bincount(owners, minlength=rows))), crossed


def _stretches(tokens: Tokens, at: Ints, sizes: Callable[[npt.NDArray[np.int32]], Ints]) -> tuple[Ints, Bools]:
    """For each end of a turn where the stretch in front of it begins that its ids depend on, in bytes of the buffer:
    with the last control token, at a cut behind that, or with the row; and whether no cut is behind that token."""
    rows = tokens.rows
    row, starts = rows.seams.rows, rows.starts
    found, ends = _last(rows.control, rows.control.values[:, 0], row, starts, at + 1)
    known = np.flatnonzero(found >= 0)
    begins = ends.copy()
    begins[known] -= sizes(rows.control.values[found[known], 1].astype(np.int32))
    _, cuts = _last(rows.cuts, rows.cuts.values, row, starts, at)
    return np.maximum(begins, cuts), cuts <= ends


def _last(places: Ragged, values: Ints, row: Ints, starts: Ints, limit: Ints) -> tuple[Ints, Ints]:
    """For each limit the last place of its row before it: its number or -1, and where it is or the row begins."""
    if not len(values):
        return np.full(len(limit), -1), starts[row]
    absolute = values + starts[places.rows]
    found = np.searchsorted(absolute, limit, side="left") - 1
    found[found < places.offsets[row]] = -1
    return found, np.where(found >= 0, absolute[found], starts[row])


def _ends_in(tokens: Tokens, before: Ints, begin: Ints, ids: Sequence[int]) -> Bools:
    """For each place whether the ids in front of it, `before` of them all, end in these."""
    right: Bools = before - len(ids) >= begin
    for number, id in enumerate(reversed(ids), start=1):
        right &= tokens.ids[np.maximum(before - number, 0)] == id
    return right


def _alone(tokens: Tokens, first: Ints, at: Ints, before: Ints, backend: Backend) -> Bools:
    """For each stretch of text whether the ids in front of its end are those of the stretch by itself."""
    data = bytes_of(tokens.rows.texts)[0]
    texts = [data[start:end].tobytes().decode() for start, end in zip(first.tolist(), at.tolist(), strict=True)]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    ids, offsets = backend.encode(list(places))
    right = np.zeros(len(texts), np.bool_)
    for number, (text, stop) in enumerate(zip(texts, before.tolist(), strict=True)):
        alone = ids[slice(*offsets[places[text] : places[text] + 2])]
        right[number] = len(alone) <= stop and np.array_equal(tokens.ids[stop - len(alone) : stop], alone)
    return right
