"""Where a turn lies in a rendered conversation: its start, its end, and whether it holds what it should.

In: a `Trace`, a message's index, the text of the generation prompt. Out: `Turn`s. Nothing here renders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from instruct_fmt.errors import RowError, shown
from instruct_fmt.template.label.stops import StopFinder
from instruct_fmt.template.trace.trace import TraceIndex


@dataclass(frozen=True, slots=True)
class Turn:
    """What the model writes of message `index`, and of those before it that the template joins to it.

    Attributes:
        first: the first message of the turn; most often `index` itself.
        index: its last message.
        start, end: half-open range of the text, in characters.
        stop: where the stop begins; equal to `end` where the turn has none.
        ranges: what of the turn is trained; one range, or several where `{% generation %}` blocks say so.
        behind: how much of the text behind its end is the same when it is the last turn.
    """

    first: int
    index: int
    start: int
    stop: int
    end: int
    ranges: tuple[tuple[int, int], ...] = ()
    behind: int = 0

    @property
    def members(self) -> range:
        """The places of its messages."""
        return range(self.first, self.index + 1)

    @property
    def stopped(self) -> bool:
        return self.stop < self.end


def find_turn(trace: TraceIndex, members: range, start: int, stops: StopFinder, *, last: bool) -> Turn:
    """The turn of some messages that begins at `start`: up to the first stop behind its last own character."""
    first, index = members[0], members[-1]
    body = max((own[1] for member in members if (own := trace.content(member, start))), default=start)
    end = trace.own_literals(index, body)
    found = stops.first(trace.text, body, end)
    if found is not None:
        return Turn(first, index, start, found[0], found[1])
    behind = stops.follows(trace.text, end)
    if behind is not None and behind <= trace.literal_until(end):
        return Turn(first, index, start, end, behind)
    if last and not trace.text[end:].strip():
        end = len(trace.text)  # EOS comes behind these blanks, so the model must write them
    return Turn(first, index, start, end, end)


def joined(trace: TraceIndex, index: int, tail: str, stops: StopFinder) -> bool:
    """Whether message `index` continues the message before it: neither a stop nor a header stands between them."""
    before, here = trace.content(index - 1), trace.content(index)
    if before is None or here is None or before[1] > here[0]:
        return False
    gap = trace.text[before[1] : here[0]]
    return stops.first(gap, 0, len(gap)) is None and not (tail.strip() and tail.strip() in gap)


def find_header(trace: TraceIndex, index: int, tail: str) -> int | None:
    """Where message `index` begins behind as much of the generation prompt's `tail` as the text has.

    For turns whose prompt is no prefix of the text: history, or a think prefill that the text lacks.
    """
    own = trace.content(index)
    limit = own[0] if own else trace.owned_end(index)
    marks = [m.start() for m in re.finditer(r"[<\[]", tail)] + [m.end() for m in re.finditer(r"\n", tail)]
    for size in sorted({*marks, len(tail)}, reverse=True):
        head = tail[:size]
        if not head.strip():
            return None
        at = trace.text.rfind(head, 0, limit)
        if at >= 0 and _unspoken(trace, at, at + size, limit, index):
            return at + size
    return None


def _unspoken(trace: TraceIndex, start: int, end: int, limit: int, index: int) -> bool:
    """The header is literal text, and no other message's content stands between it and the turn's own."""
    pieces = trace.within(start, max(end, limit))
    return all(run.field is None or run.field.place == index for _, _, run in pieces)


def check_foreign(trace: TraceIndex, turn: Turn) -> None:
    """Raise where text of another speaker lies inside the turn."""
    for begin, end, run in trace.within(turn.start, turn.end):
        if run.field is not None and not turn.first <= run.field.place <= turn.index:
            text = trace.text[max(begin, turn.start) : min(end, turn.end)]
            raise RowError(
                "foreign-text",
                f"$.messages[{turn.index}]",
                f"{shown(text)} of another field inside the trained turn",
                "only the turn's own text",
                "the template mixes speakers here; use another template for this row",
            )


def check_stops(trace: TraceIndex, turn: Turn, stops: Iterable[str]) -> None:
    """Raise where the template itself writes a stop in the midst of a turn: no server goes on behind it.

    Args:
        trace: the text.
        turn: one that ends in a stop.
        stops: those at which every server ends.
    """
    for stop in stops:
        at = trace.text.find(stop, turn.start, turn.stop)
        while at >= 0:
            if all(run.field is None for _, _, run in trace.within(at, at + len(stop))):
                raise RowError(
                    "guard",
                    f"$.messages[{turn.index}]",
                    f"the stop {stop!r} in the midst of the turn, {shown(trace.text[at : turn.end], 60)}",
                    "a stop only where the turn ends",
                    "the template ends the turn before its answer does; use another template for this row",
                )
            at = trace.text.find(stop, at + 1, turn.stop)
