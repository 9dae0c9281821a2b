"""What a template printed and who wrote it: a text with its runs, and what is asked of it again and again.

In: the runs that a render leaves behind. Out: positions, owners, ranges. Nothing here renders."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, takewhile

from instruct_fmt.template.trace.origins import Run, Runs


@dataclass(frozen=True, slots=True)
class Trace:
    """A rendered text and its runs, in the order and with the boundaries in which the template printed them."""

    text: str
    runs: Runs

    def positions(self) -> Iterable[tuple[int, int, Run]]:
        """(start, end, run) for each run, in characters."""
        start = 0
        for run in self.runs:
            yield start, start + run.size, run
            start += run.size


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

    def last_copied(self, index: int, path: tuple[str | int, ...]) -> tuple[int, int, int]:
        """The last piece that was copied from a field: its offset there, and its range here; zeros if nothing was."""
        pieces = [
            (run.offset, begin, end)
            for begin, end, run in self.pieces
            if run.field == (index, path) and run.offset >= 0
        ]
        return max(pieces, key=lambda piece: (piece[0] + piece[2] - piece[1], piece[2]), default=(0, 0, 0))


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
