"""Plans: what a template prints for every row of one shape, as columns.

In: a marked symbolic render and its guards. Out: a `Plan`, which tells for whole columns at once which rows it holds
for, their texts, and what of them is trained, without a Python object for each row.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.common.nfc import composed_column
from instruct_fmt.template.plan.recorder import SAME, Expression, Guard
from instruct_fmt.template.plan.steps import BLANKS, answer
from instruct_fmt.template.plan.unprinted import THOUGHT, InsideTool, Unprinted
from instruct_fmt.template.plan.values import (
    Values,
    asked,
    says_something,
    unread_in,
    unread_inside,
    unread_thought,
)
from instruct_fmt.template.trace.origins import Field
from instruct_fmt.types import Bools, Ints, Marked, PlannedRows, Span

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a template prints for one shape of rows.

    Attributes:
        parts: literals and expressions, in order.
        guards: what must hold of a row.
        spoken: fields that must hold more than blanks: the last that is printed of each message of the model's,
            because its turn ends behind it.
        trained: ranges between places; a place is a part's number and an offset inside it, in bytes.
        cuts: places where the text is encoded apart.
        seams: both ends of each turn that must stand behind the ids of its prompt, the row's last one at the end.
        seam_of: for each trained range the turn that it belongs to, or -1.
        tails: for each end of those turns the ids in front of it, since the last control token; None where they are
            the row's.
        removable: ranges that a row may lose.
        said: what the model's messages wrote.
        control: places where the template's control tokens end, and their ids.
        ends: what is written in front of each text and behind it, for BOS and EOS.
        end_ids: the ids of BOS and EOS where they cannot be written.
        unread: fields of the shape that are not printed.
        inside_tools: tools that are not printed as a whole.
        segments: where in the symbolic render each literal and each expression begins, without the ends.
        marked: the symbolic render, for what does not depend on the row.
        weighted: ranges that do not count once in the loss.
        weights: what they count.
    """

    parts: tuple[str | Expression, ...]
    guards: tuple[Guard, ...]
    spoken: tuple[Field, ...]
    trained: tuple[tuple[Place, Place], ...]
    cuts: tuple[Place, ...]
    seams: tuple[Place, ...]
    seam_of: tuple[int, ...]
    tails: tuple[tuple[int, ...] | None, ...]
    removable: tuple[tuple[Place, Place], ...]
    said: tuple[tuple[Place, Place], ...]
    control: tuple[tuple[Place, int], ...]
    ends: tuple[str, str]
    end_ids: tuple[tuple[int, ...], tuple[int, ...]]
    unread: tuple[Unprinted, ...]
    inside_tools: tuple[InsideTool, ...]
    segments: tuple[tuple[int, str | Expression], ...]
    marked: Marked
    weighted: tuple[tuple[Place, Place], ...] = ()
    weights: tuple[float, ...] = ()

    def holds(self, values: Values) -> Bools:
        """For each row whether its text is this plan's."""
        found = np.ones(values.rows, np.bool_)
        for guard in self.guards:
            found &= asked(guard, values)
        for field in self.spoken:
            found &= says_something(values, field)
        return found

    def render(self, values: Values, places: Ints, *, composed: bool = False) -> PlannedRows:
        """The texts of rows for which the plan holds, with everything that encoding must know.

        Args:
            values: the rows.
            places: their places.
            composed: whether what they say is brought into NFC, as the tokenizer does it with the whole text. Whether
                that is the same is for whoever encodes it to see: neighbours may compose, too.
        """
        size, starts = len(places), np.zeros((len(self.parts) + 1, len(places)), np.int64)
        pieces: list[Any] = []
        written: list[Any] = []
        for number, part in enumerate(self.parts):
            if isinstance(part, str):
                written.append(pa.scalar(part, pa.large_string()))
                pieces.append(written[-1])
                sizes: Any = len(part.encode())
            else:
                text = values.text(part)
                piece = composed_column(text) if composed else text
                written.append(text)
                pieces.append(piece)
                sizes = values.sizes(part) if piece is text else pc.binary_length(piece).to_numpy()
            starts[number + 1] = starts[number] + sizes
        texts = _joined(pieces, size)
        changed = any(piece is not text for piece, text in zip(pieces, written, strict=True))
        whole = _joined(written, size) if changed else texts
        return PlannedRows(
            places,
            texts,
            _ranges(self.trained, starts),
            _at(self.cuts, starts),
            _at(self.seams, starts).reshape(size, len(self.seams) // 2, 2),
            np.array(self.seam_of, np.int64),
            self.tails,
            _ranges(self.removable, starts),
            _ranges(self.said, starts),
            _at([place for place, _ in self.control], starts),
            np.array([id for _, id in self.control], np.int64),
            self.end_ids,
            self.marked.counts,
            {(field.place, field.path): said for field, said in self._unread(values, whole).items()},
            _ranges(self.weighted, starts),
            self.weights,
            self.marked.eos_weight,
        )

    def _unread(self, values: Values, texts: pa.Array) -> dict[Field, Bools]:
        """For each field that is not printed, which rows say something there."""
        found: dict[Field, Bools] = {}
        for one in self.unread:
            place, path = one.field
            if one.aside is not None:
                found |= unread_inside(values, one.aside)
                continue
            thought = path[-1] == THOUGHT
            said = unread_thought(values, Field(place, path[:-1]), texts) if thought else unread_in(values, one)
            if said.any():
                found[one.field] = said
        for tool in self.inside_tools:
            found |= unread_inside(values, tool)
        return found

    def fill(self, texts: Mapping[Field, str]) -> Marked | None:
        """`holds` and `render` for a single row, without columns; None where the plan does not hold."""
        if not all(answered(guard, texts) for guard in self.guards):
            return None
        if not all(texts[field].strip(BLANKS) for field in self.spoken):
            return None
        symbols = [start for start, _ in self.segments]
        printed = [part if isinstance(part, str) else part.of(texts[part.field]) for _, part in self.segments]
        edges = [0, *accumulate(map(len, printed))]

        def at(place: int) -> int:
            number = bisect_right(symbols, place) - 1
            return edges[number] + place - symbols[number]

        symbolic = self.marked
        from_row = ((at(start), at(end), allowed) for start, end, allowed in symbolic.from_row)
        removable = ((at(start), at(end)) for start, end in symbolic.removable)
        return replace(
            symbolic,
            text="".join(printed),
            trained=tuple((at(start), at(end)) for start, end in symbolic.trained),
            spans=tuple(
                Span(at(span.start), at(span.end), span.owner, span.kind, span.trained) for span in symbolic.spans
            ),
            from_row=tuple(part for part in from_row if part[0] < part[1]),
            removable=tuple(part for part in removable if part[0] < part[1]),
            cuts=tuple(map(at, symbolic.cuts)),
            seams=tuple((at(start), at(end)) for start, end in symbolic.seams),
            weights=tuple((at(start), at(end), weight) for start, end, weight in symbolic.weights),
        )


def _joined(pieces: Sequence[Any], size: int) -> pa.Array:
    """The texts of so many rows from their pieces, of which each is a column or the same in all."""
    texts = pc.binary_join_element_wise(*pieces, pa.scalar("", pa.large_string()))
    return pa.repeat(texts, size) if isinstance(texts, pa.Scalar) else texts  # nothing of a row is printed


def answered(guard: Guard, texts: Mapping[Field, str], by: int = 0) -> bool:
    """Whether a row has the fields that a guard asks for, and gives the answer that it was made with.

    Args:
        guard: the question.
        texts: the row.
        by: how much further behind its messages are.
    """
    text, value = said(guard.subject, texts, by), guard.value
    other = said(value, texts, by) if guard.question == SAME else None
    if text is None or (guard.question == SAME and other is None):
        return False
    same = text == other if guard.question == SAME else answer(guard.question, text, value)
    return same == guard.answer


def said(expression: Expression, texts: Mapping[Field, str], by: int = 0) -> str | None:
    """The value of an expression, of a message that is so much further behind; None where a row lacks the field."""
    (place, path), steps = expression
    text = texts.get(Field(place + by if place >= 0 else place, path))
    return text if text is None or not steps else expression.of(text)


def _ranges(ranges: Sequence[tuple[Place, Place]], starts: Ints) -> Ints:
    """Where ranges are in each row, in bytes; shape (rows, ranges, 2)."""
    return _at([edge for part in ranges for edge in part], starts).reshape(starts.shape[1], len(ranges), 2)


def _at(places: Sequence[Place], starts: Ints) -> Ints:
    """Where places are in each row, in bytes; shape (rows, places)."""
    found = np.empty((starts.shape[1], len(places)), np.int64)
    for number, (part, offset) in enumerate(places):
        found[:, number] = starts[part] + offset
    return found
