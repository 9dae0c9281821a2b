"""What of a trained turn counts more or less in the loss.

In: a trace, the trained turns, and the weights of their parts. Out: ranges that do not count once, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from instruct_fmt.common.loss_weights import LossWeights
from instruct_fmt.common.reasoning import REASONING
from instruct_fmt.template.label.turn import Turn
from instruct_fmt.template.trace.trace import TraceIndex
from instruct_fmt.types import Weighted

Says = Callable[[int, int], bool]
"""Whether a stretch of a field's text, from here to there, is a text at all: a symbol may stand for none."""


def weights_of(
    trace: TraceIndex, turns: Sequence[Turn], weights: LossWeights, factors: Sequence[float], says: Says
) -> tuple[Weighted, ...]:
    """The weights of turns.

    Args:
        trace: the text.
        turns: the trained turns, in order.
        weights: what each part counts.
        factors: what each message counts.
        says: tells fields from fields that are empty.
    """
    found: list[Weighted] = []
    for turn in turns:
        factor = factors[turn.index] if turn.index < len(factors) else 1.0
        stop = "last_terminator" if turn is turns[-1] else "terminator"
        for start, end, part in (*_parts(trace, turn, says), (turn.stop, turn.end, stop)):
            weight = weights.of_part(part) * factor
            if start >= end or weight == 1:
                continue
            if found and found[-1][1:] == (start, weight):
                start = found.pop()[0]
            found.append((start, end, weight))
    return tuple(found)


def _parts(trace: TraceIndex, turn: Turn, says: Says) -> Iterator[tuple[int, int, str]]:
    """The parts of a turn, its stop apart: ranges and what they are, in order."""
    fields = [
        (max(start, turn.start), min(end, turn.stop), _part(run.field.path))
        for start, end, run in trace.within(turn.start, turn.stop)
        if run.field is not None and run.field.place >= 0 and says(start, end)
    ]
    inserted = all(part != "reasoning" for _, _, part in fields)
    at = turn.start
    for number, (_, end, part) in enumerate(fields):
        if number == 0 and inserted and part == "content" and fields[0][0] > at:
            yield at, fields[0][0], "inserted"
            at = fields[0][0]
        yield at, end, part
        at = end
    yield at, turn.stop, fields[-1][2] if fields else "inserted"


def _part(path: Sequence[str | int]) -> str:
    """What a field of a message is."""
    name = path[0] if path else ""
    return "reasoning" if name in REASONING else "tool_calls" if name == "tool_calls" else "content"
