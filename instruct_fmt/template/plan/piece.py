"""What a plan prints for one message, and conversations put together from such pieces.

In: a plan with its conversation. Out: `Piece`s, and the `Marked` text of several of them, filled with another row's
texts. Whether they belong together is asked in `pieces.py`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, TypeVar, cast

from instruct_fmt.template.label.coverage import bare_turns
from instruct_fmt.template.plan.plan import Plan, answered, said
from instruct_fmt.template.plan.recorder import Expression, Guard, Recorder
from instruct_fmt.template.plan.steps import BLANKS
from instruct_fmt.template.trace.origins import Field
from instruct_fmt.types import Conversation, Marked, Printed, Range, Span, Weighted


@dataclass(frozen=True, slots=True)
class Piece:
    """What a plan prints while it is a message's turn; positions are characters of its symbolic text.

    Attributes:
        place: the message.
        segments: literals and expressions, and where each begins; at last, the end.
        guards: what was asked of the message.
        spoken: fields that must hold more than blanks.
        tools: how many tools the conversation has, where they are printed here.
        ranges, seams, from_row, removable, spans: as in `Marked`.
        turns: how many turns are trained.
        unstopped: how many of them without a stop.
        silent: of how many of them the stop alone is trained.
        counts: what else the turn counted.
        printed: the fields of the message that are in the text.
        ends: whether BOS goes in front and EOS behind.
        weights, eos_weight: as in `Marked`.
    """

    place: int
    segments: tuple[tuple[int, str | Expression], ...]
    guards: tuple[Guard, ...]
    spoken: tuple[Field, ...]
    tools: int | None
    ranges: tuple[Range, ...]
    seams: tuple[Range, ...]
    from_row: tuple[tuple[int, int, bool], ...]
    removable: tuple[Range, ...]
    spans: tuple[Span, ...]
    turns: int
    unstopped: int
    silent: int
    counts: frozenset[tuple[str, int]]
    printed: Printed
    ends: tuple[bool, bool]
    weights: tuple[Weighted, ...]
    eos_weight: float

    def moved(self, place: int) -> Piece:
        """The same of another message."""
        by = place - self.place
        return replace(
            self,
            place=place,
            segments=tuple((at, part if isinstance(part, str) else part.moved(by)) for at, part in self.segments),
            guards=tuple(guard.moved(by) for guard in self.guards),
            spoken=tuple(field._replace(place=field.place + by) for field in self.spoken),
            spans=tuple(replace(span, owner=_moved(span.owner, by)) for span in self.spans),
            printed=frozenset((at + by if at >= 0 else at, path) for at, path in self.printed),
        )

    def fits(self, place: int, texts: Mapping[Field, str], tools: int) -> bool:
        """Whether a message of a row gives the answers that were relied on."""
        by = place - self.place
        return (
            self.tools in (None, tools)
            and all(answered(guard, texts, by) for guard in self.guards)
            and all(texts[Field(field.place + by, field.path)].strip(BLANKS) for field in self.spoken)
        )


def _moved(owner: int | str | None, by: int) -> int | str | None:
    return owner + by if isinstance(owner, int) else owner


def content_of(piece: Piece, place: int) -> Piece:
    """A piece without what was asked of its row."""
    return replace(piece.moved(place), guards=(), spoken=())


def bounds_of(marked: Marked, size: int) -> list[int] | None:
    """Where the text of each message begins, and the last one ends; None where they are not in order."""
    bounds, last = [0], 0
    for span in marked.spans:
        if not isinstance(span.owner, int) or span.owner == last:
            continue
        if span.owner < last:
            return None
        bounds += [span.start] * (span.owner - last)
        last = span.owner
    bounds += [len(marked.text)] * (size - last)
    return bounds if len(bounds) == size + 1 else None


def cut(
    plan: Plan, conversation: Conversation, recorder: Recorder, place: int, bounds: Range, *, whole: bool
) -> Piece | None:
    """The piece of a message; None where something reaches beyond it. A text that is trained whole has no ranges."""
    marked, (begin, end) = plan.marked, bounds
    segments, seams = _segments(plan, bounds), _inside(marked.seams, bounds)
    ranges = () if whole else _inside(marked.trained, bounds)
    from_row, weights = _inside(marked.from_row, bounds), _inside(marked.weights, bounds)
    removable, turn = _inside(marked.removable, bounds), recorder.turns.get(place)
    if segments is None or ranges is None or seams is None or from_row is None or removable is None or weights is None:
        return None
    beside = any(isinstance(part, Expression) and part.field.place < 0 for _, part in segments)
    last = len(conversation.messages) - 1
    return Piece(
        place,
        tuple(segments),
        tuple(guard for guard in plan.guards if max(guard.subject.field.place, 0) == place),
        tuple(field for field in plan.spoken if field.place == place),
        len(conversation.tools or ()) if beside else None,
        ranges,
        seams,
        from_row,
        removable,
        tuple(
            replace(span, start=span.start - begin, end=span.end - begin)
            for span in marked.spans[
                bisect_left(marked.spans, begin, key=lambda span: span.start) : bisect_right(
                    marked.spans, end, key=lambda span: span.end
                )
            ]
        ),
        int(turn is not None),
        int(turn is not None and (not turn.stopped or turn.ranges[-1][1] < turn.end)),
        len(bare_turns([turn.members] if turn else [], marked.printed)),
        frozenset((+recorder.counted.get(place, Counter())).items()),
        frozenset((at, path) for at, path in marked.printed if at == place or (at < 0 and beside)),
        (place == 0 and marked.bos, place == last and marked.eos),
        weights,
        marked.eos_weight,
    )


def _segments(plan: Plan, bounds: Range) -> list[tuple[int, str | Expression]] | None:
    """Literals and expressions between bounds, and at last the end; None where an expression reaches beyond them."""
    begin, end = bounds
    found: list[tuple[int, str | Expression]] = []
    first = max(bisect_right(plan.segments, begin, key=lambda segment: segment[0]) - 1, 0)
    behind = bisect_left(plan.segments, end, key=lambda segment: segment[0]) + 1
    for (at, part), (stop, _) in pairwise(plan.segments[first:behind]):
        left, right = max(at, begin), min(stop, end)
        if left >= right:
            continue
        if isinstance(part, str):
            part = part[left - at : right - at]
        elif (left, right) != (at, stop):
            return None
        found.append((left - begin, part))
    return [*found, (end - begin, "")]


Part = TypeVar("Part", bound=tuple[Any, ...])


def _inside(parts: Sequence[Part], bounds: Range) -> tuple[Part, ...] | None:
    """The ranges between bounds, in order, with what they have beside; None where one of them reaches beyond."""
    begin, end = bounds
    first = bisect_right(parts, begin, key=lambda part: part[1])
    here = parts[first : bisect_left(parts, end, key=lambda part: part[0])]
    if any(part[0] < begin or part[1] > end for part in here):
        return None
    return tuple(cast("Part", (part[0] - begin, part[1] - begin, *part[2:])) for part in here)


def joined(pieces: Sequence[Piece], texts: Mapping[Field, str]) -> Marked:
    """The pieces filled with a conversation's texts, one behind the other."""
    text: list[str] = []
    trained: list[Range] = []
    seams: list[Range] = []
    removable: list[Range] = []
    from_row: list[tuple[int, int, bool]] = []
    spans: list[Span] = []
    weights: list[Weighted] = []
    counts: Counter[str] = Counter()
    printed: set[tuple[int, tuple[str | int, ...]]] = set()
    size = 0
    for place, piece in enumerate(pieces):
        by = place - piece.place
        filled = [part if isinstance(part, str) else said(part, texts, by) or "" for _, part in piece.segments]
        starts, edges = [at for at, _ in piece.segments], list(accumulate(map(len, filled), initial=size))

        def at(symbolic: int, starts: list[int] = starts, edges: list[int] = edges) -> int:
            number = bisect_right(starts, symbolic) - 1
            return edges[number] + symbolic - starts[number]

        text += filled
        trained += [(at(start), at(end)) for start, end in piece.ranges]
        seams += [(at(start), at(end)) for start, end in piece.seams]
        removable += [(at(start), at(end)) for start, end in piece.removable]
        from_row += [(at(start), at(end), says) for start, end, says in piece.from_row]
        spans += [
            Span(at(span.start), at(span.end), _moved(span.owner, by), span.kind, span.trained) for span in piece.spans
        ]
        weights += [(at(start), at(end), weight) for start, end, weight in piece.weights]
        counts.update(dict(piece.counts))
        counts.update(trained_turns=piece.turns, turns_without_stop=piece.unstopped, turns_silent=piece.silent)
        printed |= {(field + by if field >= 0 else field, path) for field, path in piece.printed}
        size = at(piece.segments[-1][0])
    eos = pieces[-1].ends[1]
    counts.update(turns_without_stop=-int(eos), eos_appended=int(eos))
    return Marked(
        "".join(text),
        tuple(trained),
        tuple(spans),
        tuple(part for part in from_row if part[0] < part[1]),
        tuple(part for part in removable if part[0] < part[1]),
        seams=tuple(seams),
        bos=pieces[0].ends[0],
        eos=eos,
        counts=+counts,
        printed=frozenset(printed),
        weights=tuple(weights),
        eos_weight=pieces[-1].eos_weight,
    )
