"""Plans: what a template prints for every row of one shape, as columns.

In: a marked symbolic render and its guards. Out: a `Plan`, which tells for whole columns at once which rows it holds
for, their texts, and what of them is trained, without a Python object for each row.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.template.label.coverage import Unprinted
from instruct_fmt.template.plan.symbolic import BLANKS, PLACEHOLDER, Expression, Guard, Recorder
from instruct_fmt.template.trace.origins import Field
from instruct_fmt.types import Bools, Ints, Marked, PlannedRows, Range, Span

Columns = Mapping[Field, pa.Array]
Place = tuple[int, int]

_TRIM = {"both": pc.utf8_trim, "left": pc.utf8_ltrim, "right": pc.utf8_rtrim}
_ASK = {
    "contains": lambda column, value: pc.match_substring(column, value),
    "starts": lambda column, value: pc.starts_with(column, value),
    "ends": lambda column, value: pc.ends_with(column, value),
    "matches": lambda column, value: pc.match_substring_regex(column, value),
    "equals": lambda column, value: pc.equal(column, pa.scalar(value, pa.large_string())),
}


# The same for a single text.
_STRIP: Mapping[str, Callable[[str, str], str]] = {"both": str.strip, "left": str.lstrip, "right": str.rstrip}
_ANSWER: Mapping[str, Callable[[str, str], bool]] = {
    "contains": lambda text, value: value in text,
    "starts": str.startswith,
    "ends": str.endswith,
    "matches": lambda text, value: re.search(value, text) is not None,
    "equals": str.__eq__,
    "filled": lambda text, value: bool(text),
}


@dataclass(frozen=True, slots=True)
class TokensOfText:
    """What a plan must know about the tokenizer.

    Attributes:
        before: what to write in front of a text for BOS; None where that cannot be written.
        behind: what to write behind a text for EOS; None where that cannot be written.
        control: finds the control tokens of a text: where each ends, and its id.
        encode: the ids of a text that begins with an added token, or of the beginning of a row.
        name: the text of an added token.
        boundary: as `compile` takes it.
    """

    before: str | None
    behind: str | None
    control: Callable[[str], Sequence[tuple[int, int]]]
    encode: Callable[[str], Sequence[int]]
    name: Callable[[int], str]
    boundary: str

    def after(self, token: int | None, text: str) -> Sequence[int]:
        """The ids of a text behind an added token, or of the beginning of a row."""
        if token is None:
            return self.encode(text)
        return self.encode(self.name(token) + text)[1:] if text else ()

    def crosses(self, text: str, cut: int, control: Sequence[tuple[int, int]]) -> bool:
        """Whether a completion is encoded apart in every row, because of the literal text around its beginning."""
        before = max(((end, id) for end, id in control if end <= cut), default=(0, None))
        if before[0] == cut:
            return False
        if self.boundary == "split":
            return True
        behind = next(((end, id) for end, id in control if end > cut), None)
        if before[1] is None or behind is None:
            return False
        around = text[before[0] : behind[0] - len(self.name(behind[1]))]
        if PLACEHOLDER.search(around):
            return False
        alone, whole = self.after(before[1], text[before[0] : cut]), self.after(before[1], around)
        return list(whole[: len(alone)]) != list(alone)

    def ends(self, marked: Marked) -> tuple[str, str] | None:
        """What to write in front of this text and behind it; None where that cannot be written."""
        before = self.before if marked.bos and not (self.before and marked.text.startswith(self.before)) else ""
        behind = self.behind if marked.eos else ""
        return None if before is None or behind is None else (before, behind)


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
        control: places where the template's control tokens end, and their ids.
        ends: what is written in front of each text and behind it, for BOS and EOS.
        unread: fields of the shape that are not printed.
        pieces: where in the symbolic render each literal and each expression begins, without the ends.
        marked: the symbolic render, for what does not depend on the row.
    """

    parts: tuple[str | Expression, ...]
    guards: tuple[Guard, ...]
    spoken: tuple[Field, ...]
    trained: tuple[tuple[Place, Place], ...]
    cuts: tuple[Place, ...]
    seams: tuple[Place, ...]
    seam_of: tuple[int, ...]
    tails: tuple[tuple[int, ...] | None, ...]
    control: tuple[tuple[Place, int], ...]
    ends: tuple[str, str]
    unread: tuple[Unprinted, ...]
    pieces: tuple[tuple[int, str | Expression], ...]
    marked: Marked

    def holds(self, values: Values) -> Bools:
        """For each row whether its text is this plan's."""
        found = np.ones(values.rows, np.bool_)
        for guard in self.guards:
            found &= _asked(guard, values)
        for field in self.spoken:
            found &= _says_something(values, field)
        return found

    def render(self, values: Values, places: Ints) -> PlannedRows:
        """The texts of rows for which the plan holds, with everything that encoding must know; `places` are theirs."""
        size = len(places)
        pieces = [
            pa.scalar(part, pa.large_string()) if isinstance(part, str) else values.text(part) for part in self.parts
        ]
        texts = pc.binary_join_element_wise(*pieces, pa.scalar("", pa.large_string()))
        starts = np.zeros((len(self.parts) + 1, size), np.int64)
        for number, part in enumerate(self.parts):
            starts[number + 1] = starts[number] + (len(part.encode()) if isinstance(part, str) else values.sizes(part))
        edges = _at([edge for part in self.trained for edge in part], starts)
        return PlannedRows(
            places,
            texts,
            edges.reshape(size, len(self.trained), 2),
            _at(self.cuts, starts),
            _at(self.seams, starts).reshape(size, len(self.seams) // 2, 2),
            np.array(self.seam_of, np.int64),
            self.tails,
            _at([place for place, _ in self.control], starts),
            np.array([id for _, id in self.control], np.int64),
            self.marked.counts,
            {found.field: said for found in self.unread if (said := _unread(values, found)).any()},
        )

    def fill(self, texts: Mapping[Field, str]) -> Marked | None:
        """`holds` and `render` for a single row, without columns; None where the plan does not hold."""
        if not all(answered(guard, texts) for guard in self.guards):
            return None
        if not all(texts[field].strip(BLANKS) for field in self.spoken):
            return None
        symbols = [start for start, _ in self.pieces]
        printed = [part if isinstance(part, str) else _text(part, texts) for _, part in self.pieces]
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
        )


class Values:
    """The columns of rows, and the expressions on them that were asked for."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._texts: dict[Expression, pa.Array] = {}
        self._sizes: dict[Expression, Ints] = {}
        self.rows = len(next(iter(columns.values())))

    def text(self, expression: Expression) -> pa.Array:
        """The values of an expression, large_string."""
        if not expression.strips:
            return self._columns[expression.field]
        if expression not in self._texts:
            *before, (side, characters) = expression.strips
            inner = self.text(Expression(expression.field, tuple(before)))
            self._texts[expression] = _TRIM[side](inner, characters)
        return self._texts[expression]

    def mentions(self, expression: Expression, value: str) -> bool:
        """Whether any of the rows may hold a text: one search through all of them is faster than one in each."""
        column = self.text(expression)
        offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset :][: self.rows + 1]
        data = column.buffers()[2]
        return data is not None and value.encode() in data.slice(offsets[0], offsets[-1] - offsets[0]).to_pybytes()

    def sizes(self, expression: Expression) -> Ints:
        """Their lengths in bytes."""
        if expression not in self._sizes:
            column = self.text(expression)
            offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset :][: self.rows + 1]
            self._sizes[expression] = np.diff(offsets)
        return self._sizes[expression]


def _says_something(values: Values, field: Field) -> Bools:
    """For each row whether a field holds more than blanks."""
    return values.sizes(Expression(field, (("both", BLANKS),))) > 0


def _unread(values: Values, found: Unprinted) -> Bools:
    """For each row whether a field that is not printed says something that no call says."""
    said = _says_something(values, found.field)
    for call in found.calls:
        said &= ~pc.equal(values.text(Expression(found.field)), values.text(Expression(call))).to_numpy(False)
    return said


def _asked(guard: Guard, values: Values) -> Bools:
    """For each row whether a guard's question has the answer that it had when the plan was made."""
    if guard.question == "filled":
        return np.equal(values.sizes(guard.subject) > 0, guard.answer)
    if guard.question == "contains" and not values.mentions(guard.subject, guard.value):
        return np.full(values.rows, not guard.answer)
    answers: Bools = _ASK[guard.question](values.text(guard.subject), guard.value).to_numpy(zero_copy_only=False)
    return np.equal(answers, guard.answer)


def make_plan(
    marked: Marked, recorder: Recorder, speaking: Collection[int], unread: Sequence[Unprinted], tokens: TokensOfText
) -> Plan | None:
    """The plan of a symbolic render; None where it cannot stand for other rows.

    Args:
        marked: the render, its text full of placeholders.
        recorder: what was recorded on the way.
        speaking: the messages, or columns, that must say something.
        unread: fields of the shape that are not printed.
        tokens: what to know about the tokenizer.
    """
    ends = tokens.ends(marked)
    if recorder.refused or not _whole(marked, recorder) or ends is None:
        return None
    symbolic, marked = marked, with_ends(marked, *ends)
    expressions = recorder.expressions()
    parts: list[str | Expression] = []
    places: dict[int, Place] = {}
    at = 0
    for match in PLACEHOLDER.finditer(marked.text):
        _literal(marked.text[at : match.start()], at, parts, places)
        places[match.start()] = (len(parts), 0)
        parts.append(expressions[match[0]])
        at = match.end()
        places[at] = (len(parts), 0)
    _literal(marked.text[at:], at, parts, places)
    places[len(marked.text)] = (len(parts), 0)
    control = tokens.control(marked.text)
    seams = () if tokens.boundary == "joint" else marked.seams
    cuts = () if tokens.boundary == "joint" else marked.cuts
    tails = list(_tails(marked.text, [edge for seam in seams for edge in seam], control, tokens))
    if seams and tokens.crosses(marked.text, seams[-1][0], control):
        cuts = (*cuts, seams[-1][0])
    edges = {edge for part in (*marked.trained, *seams) for edge in part} | set(cuts) | {end for end, _ in control}
    if not parts or any(edge not in places for edge in edges):
        return None
    return Plan(
        tuple(parts),
        tuple(recorder.guards),
        _spoken(parts, speaking),
        tuple((places[left], places[right]) for left, right in marked.trained),
        tuple(places[cut] for cut in cuts if 0 < cut < len(marked.text)),
        tuple(places[edge] for seam in seams for edge in seam),
        tuple(_inside(part, seams) for part in marked.trained),
        tuple(tails),
        tuple((places[end], id) for end, id in control),
        ends,
        tuple(unread),
        tuple(_pieces(symbolic.text, expressions)),
        symbolic,
    )


def _inside(part: Range, seams: Sequence[Range]) -> int:
    """The turn that a trained range belongs to; -1 for none."""
    number = bisect_right(seams, part[0], key=lambda seam: seam[0]) - 1
    return number if number >= 0 and part[1] <= seams[number][1] else -1


def _tails(
    text: str, edges: Sequence[int], control: Sequence[tuple[int, int]], tokens: TokensOfText
) -> Iterator[tuple[int, ...] | None]:
    """For each end of a turn the ids of the literal text in front of it, since the last control token; none in front of
    such a token, None where the text is not literal."""
    starts = {end - len(tokens.name(id)) for end, id in control}
    for edge in edges:
        if edge in starts or edge == len(text):
            yield ()
            continue
        number = bisect_right(control, edge, key=lambda found: found[0]) - 1
        last, id = control[number] if number >= 0 else (0, None)
        before = text[last:edge]
        yield None if PLACEHOLDER.search(before) else tuple(tokens.after(id, before))


def _pieces(text: str, expressions: Mapping[str, Expression]) -> Iterator[tuple[int, str | Expression]]:
    """Literals and expressions of a symbolic render, and where each begins; at last, its end."""
    at = 0
    for match in PLACEHOLDER.finditer(text):
        if match.start() > at:
            yield at, text[at : match.start()]
        yield match.start(), expressions[match[0]]
        at = match.end()
    if at < len(text):
        yield at, text[at:]
    yield len(text), ""


def with_ends(marked: Marked, before: str, behind: str) -> Marked:
    """The row with text in front of it and, trained, behind it."""
    by, size = len(before), len(before) + len(marked.text)
    trained = [(start + by, end + by) for start, end in marked.trained]
    if behind:
        trained.append((size, size + len(behind)))
    cuts = tuple(cut + by for cut in marked.cuts)
    seams = tuple((start + by, end + by) for start, end in marked.seams)
    return replace(marked, text=before + marked.text + behind, trained=tuple(trained), cuts=cuts, seams=seams)


def _spoken(parts: Sequence[str | Expression], speaking: Collection[int]) -> tuple[Field, ...]:
    """The last field that is printed of each message, or column, that must say something."""
    printed = (part.field for part in parts if isinstance(part, Expression) and part.field.place in speaking)
    return tuple({field.place: field for field in printed}.values())


def _literal(text: str, start: int, parts: list[str | Expression], places: dict[int, Place]) -> None:
    if not text:
        return
    size = 0
    for number, char in enumerate(text):
        places[start + number] = (len(parts), size)
        size += len(char.encode())
    parts.append(text)


def _whole(marked: Marked, recorder: Recorder) -> bool:
    """Whether all text of the row is whole placeholders that are known: nothing lost its expression on the way."""
    known = recorder.expressions()
    found = {(match.start(), match.end()) for match in PLACEHOLDER.finditer(marked.text) if match[0] in known}
    return found == {(start, end) for start, end, _ in marked.from_row}


def _text(expression: Expression, texts: Mapping[Field, str]) -> str:
    text = texts[expression.field]
    for side, characters in expression.strips:
        text = _STRIP[side](text, characters)
    return text


def answered(guard: Guard, texts: Mapping[Field, str]) -> bool:
    """Whether a row has the field that a guard asks for, and gives the answer that it was made with."""
    if guard.subject.field not in texts:
        return False
    return _ANSWER[guard.question](_text(guard.subject, texts), guard.value) == guard.answer


def _at(places: Sequence[Place], starts: Ints) -> Ints:
    """Where places are in each row, in bytes; shape (rows, places)."""
    found = np.empty((starts.shape[1], len(places)), np.int64)
    for number, (part, offset) in enumerate(places):
        found[:, number] = starts[part] + offset
    return found
