"""The marked text of a conversation, once its trained turns are known.

In: a trace, its messages, the trained turns. Out: `Marked`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from instruct_fmt.template.label.coverage import printed_fields
from instruct_fmt.template.label.turn import Turn
from instruct_fmt.template.trace.owners import SPEAKING
from instruct_fmt.template.trace.trace import TraceIndex
from instruct_fmt.types import Conversation, Marked, Range, Span, Weighted

Messages = Sequence[Mapping[str, Any]]


def mark_turns(
    trace: TraceIndex,
    messages: Messages,
    turns: Sequence[Turn],
    counts: Counter[str],
    *,
    append_eos: bool,
    seams: Sequence[Turn],
    weights: tuple[Weighted, ...] = (),
) -> Marked:
    """The text with its trained turns, the last one in its place.

    Args:
        trace: the rendered conversation.
        messages: its messages.
        turns: the trained turns, in order.
        counts: what was counted on the way; the turns are added.
        append_eos: whether EOS comes behind a last turn that does not end in a stop.
        seams: the turns that must stand behind the ids of their prompts.
        weights: what of the turns does not count once.
    """
    text, last = trace.text, turns[-1]
    prefix = bool(messages[-1].get("prefix"))
    eos = (
        append_eos
        and not prefix
        and speaks(messages[-1])
        and last.index == len(messages) - 1
        and not last.stopped
        and not text[last.end :].strip()
    )
    unstopped = sum(not turn.stopped or turn.ranges[-1][1] < turn.end for turn in turns)
    counts.update(trained_turns=len(turns), turns_without_stop=unstopped - eos, eos_appended=int(eos))
    ranges = tuple(part for turn in turns for part in turn.ranges)
    return Marked(
        text=text[: _prefix_end(trace, len(messages) - 1)] if prefix else text,
        trained=ranges,
        spans=spans_of(trace, counted_ranges(ranges, weights), message_name),
        from_row=from_row(trace, messages),
        removable=_removable(trace, messages),
        seams=tuple((turn.start, turn.end + turn.behind) for turn in seams),
        eos=eos,
        counts=+counts,
        printed=printed_fields(text, trace.pieces),
        weights=weights,
    )


def counted_ranges(ranges: Sequence[Range], weights: Sequence[Weighted]) -> tuple[Range, ...]:
    """Trained ranges without what counts nothing; of weights of the same text the last one holds.

    >>> counted_ranges([(0, 9)], [(2, 4, 0.0), (4, 5, 2.0)])
    ((0, 2), (4, 9))
    """
    if not weights:
        return tuple(ranges)
    edges = sorted({edge for part in (*ranges, *(one[:2] for one in weights)) for edge in part})
    found: list[Range] = []
    for left, right in pairwise(edges):
        counts = next((weight for start, end, weight in reversed(weights) if start <= left and right <= end), 1.0)
        if not counts or not any(start <= left and right <= end for start, end in ranges):
            continue
        joins = found and found[-1][1] == left and all(start != left for start, _ in ranges)
        found.append((found.pop()[0] if joins else left, right))
    return tuple(found)


def _prefix_end(trace: TraceIndex, index: int) -> int:
    """Where the text of a message that inference continues ends: without its terminator."""
    content = trace.content(index)
    return content[1] if content else len(trace.text)


def _removable(trace: TraceIndex, messages: Messages) -> tuple[Range, ...]:
    """What users and tools wrote, which an over-long row may lose."""
    kept = [speaks(message) or message.get("role") in ("system", "developer") for message in messages]
    return tuple(
        (start, end)
        for start, end, run in trace.pieces
        if run.field is not None and run.field.place >= 0 and not kept[run.field.place]
    )


def message_name(index: int) -> int | None:
    """The owner of a message's text, as `Span` names it; None for tools, documents and variables."""
    return index if index >= 0 else None


def from_row(trace: TraceIndex, messages: Sequence[Mapping[str, Any]]) -> tuple[tuple[int, int, bool], ...]:
    """The characters that the row wrote, and whether an assistant's message did."""
    return tuple(
        (start, end, 0 <= run.field.place < len(messages) and speaks(messages[run.field.place]))
        for start, end, run in trace.pieces
        if run.field is not None
    )


def spans_of(trace: TraceIndex, ranges: Sequence[Range], owner_name: Any) -> tuple[Span, ...]:
    """Neighbouring pieces with the same owner, origin and fate as one span each."""
    edges = sorted({edge for part in ranges for edge in part})
    parts = sorted(ranges)
    spans: list[Span] = []
    for begin, stop, run in trace.pieces:
        inner = [begin, *edges[bisect_right(edges, begin) : bisect_left(edges, stop)], stop]
        kind = "literal" if run.field is None else ".".join(map(str, run.field.path)) or "tools"
        source = run.owner if run.field is None else run.field.place
        owner = None if source is None else owner_name(source)
        for left, right in pairwise(inner):
            number = bisect_right(parts, left, key=lambda part: part[0]) - 1
            trained = number >= 0 and right <= parts[number][1]
            before = spans[-1] if spans else None
            if before and (before.owner, before.kind, before.trained) == (owner, kind, trained):
                spans[-1] = replace(before, end=right)
            else:
                spans.append(Span(left, right, owner, kind, trained))
    return tuple(spans)


def cut_spans(spans: Sequence[Span], counted: Sequence[Range]) -> tuple[Span, ...]:
    """The same spans, cut where what counts in the loss begins and ends."""
    edges = sorted({edge for part in counted for edge in part})
    found = []
    for span in spans:
        inner = [span.start, *edges[bisect_right(edges, span.start) : bisect_left(edges, span.end)], span.end]
        for left, right in pairwise(inner):
            trained = any(start <= left and right <= end for start, end in counted)
            found.append(replace(span, start=left, end=right, trained=trained))
    return tuple(found)


def chosen_turns(conversation: Conversation, train_on: str | tuple[str, ...]) -> list[int]:
    """The messages that are to be trained, by role and by the row's own flags."""
    messages, flags = conversation.messages, conversation.train
    chosen = []
    for index, message in enumerate(messages):
        if isinstance(train_on, tuple):
            wanted = message.get("role") in train_on
        else:
            wanted = train_on == "all" or speaks(message)
        flag = flags[index] if index < len(flags) else None
        if (wanted if flag is None else flag and (wanted or train_on == "assistant")) and not message.get("prefix"):
            chosen.append(index)
    return chosen[-1:] if train_on == "last" else chosen


def speaks(message: Mapping[str, Any]) -> bool:
    """Whether a message is the model's."""
    return message.get("role") in SPEAKING
