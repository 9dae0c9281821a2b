"""Where a turn lies in a rendered conversation: its start, its end, and whether it holds what it should.

In: a `Trace`, a message's index, the text of the generation prompt. Out: `Turn`s. Nothing here renders.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, takewhile
from typing import Any

from instruct_fmt.errors import RowError, shown
from instruct_fmt.template.label.stops import StopFinder
from instruct_fmt.template.trace.origins import Run
from instruct_fmt.template.trace.traced_template import Trace

REASONING = ("reasoning_content", "thinking", "reasoning")


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
    def stopped(self) -> bool:
        return self.stop < self.end


class TraceIndex:
    """A trace with what is asked of it again and again: positions, and which owner prints a message's content."""

    def __init__(self, trace: Trace) -> None:
        self.trace, self.text = trace, trace.text
        self.pieces: list[tuple[int, int, Run]] = [piece for piece in trace.positions() if piece[0] < piece[1]]
        owners: dict[int, Counter[int | None]] = {}
        self._of_place: dict[int, list[tuple[int, int, int | None]]] = {}
        for start, end, run in self.pieces:
            if run.field is not None:
                self._of_place.setdefault(run.field.place, []).append((start, end, run.owner))
                if run.field.place >= 0:
                    owners.setdefault(run.field.place, Counter())[run.owner] += end - start
        self._owners = owners

    def owner(self, index: int) -> int | None:
        """The owner under which message `index` is printed: itself, or the iteration that prints it for it."""
        seen = self._owners.get(index)
        if not seen or index in seen:
            return index
        return seen.most_common(1)[0][0]

    def content(self, index: int, start: int = 0) -> tuple[int, int] | None:
        """From the first to the last character that message `index` itself put at or behind `start`."""
        owner, first, last = self.owner(index), -1, -1
        for begin, end, found in self._of_place.get(index, ()):
            if found == owner and end > start:
                first = max(begin, start) if first < 0 else first
                last = end
        return None if first < 0 else (first, last)

    def owned_start(self, members: range) -> int:
        """Where the iterations of some messages begin to print; 0 where they print nothing."""
        return next((start for start, _, run in self.pieces if run.owner in members), 0)

    def owned_end(self, index: int) -> int:
        """The end of what the iteration of message `index` printed; of the text where it printed nothing."""
        ends = [end for _, end, run in self.pieces if run.owner == index]
        return ends[-1] if ends else len(self.text)

    def own_literals(self, index: int, start: int) -> int:
        """The end of the literal text of message `index` that follows `start` without a gap."""
        owner = self.owner(index)
        for begin, end, run in self._from(start):
            if begin > start or run.field is not None or run.owner != owner:
                return start
            start = end
        return start

    def literal_until(self, start: int) -> int:
        """The end of the literal text, whoever owns it, that follows `start` without a gap."""
        for begin, end, run in self._from(start):
            if run.field is not None:
                return max(begin, start)
            start = end
        return start

    def within(self, start: int, end: int) -> Iterator[tuple[int, int, Run]]:
        """The pieces that share a character with `[start, end)`."""
        return takewhile(lambda piece: piece[0] < end, self._from(start))

    def _from(self, start: int) -> Iterator[tuple[int, int, Run]]:
        """The pieces that end behind a place."""
        return islice(self.pieces, bisect_right(self.pieces, start, key=lambda piece: piece[1]), None)

    def generated(self, start: int, end: int) -> tuple[tuple[int, int], ...]:
        """The parts of `[start, end)` that `{% generation %}` blocks enclose."""
        ranges: list[tuple[int, int]] = []
        for begin, stop, run in self.within(start, end):
            left, right = max(begin, start), min(stop, end)
            if run.generated and left < right:
                if ranges and ranges[-1][1] == left:
                    ranges[-1] = (ranges[-1][0], right)
                else:
                    ranges.append((left, right))
        return tuple(ranges)

    @cached_property
    def has_generation(self) -> bool:
        return any(run.generated for _, _, run in self.pieces)

    def behind_fields(self, limit: int, members: range) -> int:
        """The end of the last text before `limit` that came from the row, but not from these messages."""
        number = bisect_right(self.pieces, limit, key=lambda piece: piece[1])
        before = (self.pieces[place] for place in range(number - 1, -1, -1))
        fields = (end for _, end, run in before if run.field is not None and run.field.place not in members)
        return next(fields, 0)

    def first_of(self, index: int, names: Collection[str], start: int) -> int | None:
        """The first character at or behind `start` of some fields of a message."""
        for begin, end, run in self.pieces:
            own = run.field is not None and run.field.place == index and run.field.path[:1]
            if end > start and own and own[0] in names:
                return max(begin, start)
        return None

    def first_offset(self, index: int, path: tuple[str | int, ...], low: int, high: int) -> int | None:
        """Where the first character stands that was copied from `[low, high)` of a field."""
        for begin, end, run in self.pieces:
            if run.field == (index, path) and run.offset >= 0:
                left, right = max(run.offset, low), min(run.offset + end - begin, high)
                if left < right:
                    return begin + left - run.offset
        return None

    def last_offset(self, index: int, path: tuple[str | int, ...]) -> tuple[int, int]:
        """The end of what was copied from a field: as an offset in it, and in the text; zeros if nothing was."""
        found = (0, 0)
        for begin, end, run in self.pieces:
            if run.field == (index, path) and run.offset >= 0:
                found = max(found, (run.offset + end - begin, end))
        return found


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


def part_of(trace: TraceIndex, start: int, end: int) -> Trace:
    """A stretch of a traced text, with its origins."""
    runs = []
    for begin, stop, run in trace.pieces:
        left, right = max(begin, start), min(stop, end)
        if left < right:
            offset = run.offset + left - begin if run.offset >= 0 else -1
            runs.append(run._replace(size=right - left, offset=offset))
    return Trace(trace.text[start:end], tuple(runs))


def joined_traces(*traces: Trace) -> Trace:
    """Traced texts, one behind the other."""
    return Trace("".join(trace.text for trace in traces), tuple(run for trace in traces for run in trace.runs))


def prompt_tail(prompt: Trace, plain: Trace) -> str:
    """The literal text with which the generation prompt ends: what it adds, and un-owned text before that."""
    runs, others = prompt.runs, plain.runs
    common = 0
    texts, other_texts = _texts(prompt), _texts(plain)
    while common < min(len(runs), len(others)) and texts[common] == other_texts[common]:
        common += 1
    owned = [place for place, run in enumerate(runs) if run.owner is not None or run.field is not None]
    if owned and common > owned[-1]:
        common = owned[-1] + 1
    fields = [place for place, run in enumerate(runs) if run.field is not None]
    return "".join(texts[max(common, fields[-1] + 1 if fields else 0) :])


def _texts(trace: Trace) -> list[str]:
    return [trace.text[start:end] for start, end, _ in trace.positions()]


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


def dropped_fields(trace: TraceIndex, turn: Turn, index: int, message: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Fields of message `index` that its turn does not hold: their path inside the message and the missing text."""
    # A field that begins inside the prompt, as a think prefill may, counts whole: the prompt holds what the turn lacks.
    inside = [
        (run, 0, min(end, turn.end) - begin)
        for begin, end, run in trace.within(turn.start, turn.end)
        if run.field is not None and run.field.place == index
    ]
    # The prompt's own text counts too: it may begin a think block whose tags the template takes out of the content.
    before = trace.behind_fields(turn.start, range(0))
    literals = "".join(
        trace.text[max(begin, before) : min(end, turn.end)] if run.field is None else "\0"
        for begin, end, run in trace.within(before, turn.end)
    )
    missing = []
    for path, text in _spoken_fields(message):
        paths = [(name,) for name in REASONING] if path[0] in REASONING else [path]
        gaps = min((_gaps(text, inside, each) for each in paths), key=len)
        if any(gap not in literals for gap in gaps) and not _named_by_id(message, path, text, inside):
            missing.append((_shown_path(path), " … ".join(gaps)))
    content = message.get("content")
    if isinstance(content, str) and content and not content.strip() and not inside:
        missing.append((".content", content))
    return missing


def _named_by_id(
    message: Mapping[str, Any], path: tuple[str | int, ...], name: str, inside: list[tuple[Run, int, int]]
) -> bool:
    """Whether a call's name stands in its id, which is printed: ``functions.look:0``."""
    if path[0] != "tool_calls" or path[-1] != "name" or not isinstance(path[1], int):
        return False
    id = message["tool_calls"][path[1]].get("id")
    return isinstance(id, str) and name in id and not _gaps(id, inside, (*path[:2], "id"))


def _spoken_fields(message: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """The texts of an assistant message that must appear: content, reasoning once, names and arguments of calls."""
    fields: list[tuple[tuple[str | int, ...], str]] = []
    content = message.get("content")
    if isinstance(content, str):
        fields.append((("content",), content))
    elif isinstance(content, list):
        fields += [(("content", *path), text) for path, text in _leaves(content) if path[-1] != "type"]
    reasoning = next((name for name in REASONING if isinstance(message.get(name), str)), None)
    if reasoning is not None:
        fields.append(((reasoning,), message[reasoning]))
    calls = message.get("tool_calls")
    for number, call in enumerate(calls if isinstance(calls, list) else []):
        function = call.get("function", call) if isinstance(call, dict) else {}
        under: tuple[str | int, ...] = ("tool_calls", number, *(("function",) if function is not call else ()))
        for name in ("name", "arguments"):
            fields += [((*under, name, *path), text) for path, text in _leaves(function.get(name))]
    return [(path, text) for path, text in fields if text.strip()]


def _leaves(value: Any) -> list[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        return [((), value)]
    items: Sequence[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    return [((key, *path), text) for key, item in items for path, text in _leaves(item)]


def _gaps(text: str, inside: list[tuple[Run, int, int]], path: tuple[str | int, ...]) -> list[str]:
    """The stretches of `text` that no run of its field covers, blanks aside."""
    covered = bytearray(len(text))
    for run, left, right in inside:
        assert run.field is not None
        if run.offset < 0:
            shared = min(len(run.field.path), len(path))
            if run.field.path[:shared] == path[:shared]:
                return []
        elif run.field.path == path:
            covered[run.offset + left : run.offset + right] = b"\1" * (right - left)
    pieces = [text[gap.start() : gap.end()].strip() for gap in re.finditer(rb"\x00+", covered)]
    return [piece for piece in pieces if piece]


def _shown_path(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def same_words(left: TraceIndex, one: Turn, right: TraceIndex, other: Turn) -> bool:
    """Whether two renderings of a turn have the same text, from the same fields."""
    a, b = left.text[one.start : one.stop], right.text[other.start : other.stop]
    return a == b and _origins(left, one.start, one.stop) == _origins(right, other.start, other.stop)


def _origins(trace: TraceIndex, start: int, end: int) -> list[tuple[int, object, int]]:
    found: list[tuple[int, object, int]] = []
    for begin, stop, run in trace.pieces:
        left, right = max(begin, start), min(stop, end)
        if left < right and run.field is not None:
            offset = run.offset + left - begin if run.offset >= 0 else -1
            found.append((left - start, run.field, offset))
    return found
