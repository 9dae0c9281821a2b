"""Conversations of shapes that no plan knows, put together from pieces of plans that were proven on others.

In: plans, each with its conversation. Out: the `Marked` text of a conversation each of whose messages has the same
around it as one of theirs. In data where every row has a shape of its own, such as the traces of agents, this costs a
few plain renders where a proof of every turn would take quadratic time.

What comes out is not believed: the whole text is compared with plain Jinja for every row; so are the turns of the first
rows, then one turn of every row, and of all turns with the same around them the first, second, fourth, eighth … Pieces
that contradict each other are not used, and none of a template that compares messages with one another.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from instruct_fmt.errors import RowError
from instruct_fmt.template.label.marked import speaks
from instruct_fmt.template.label.marker import Marker
from instruct_fmt.template.label.shown import doubted
from instruct_fmt.template.label.turns import changes_content
from instruct_fmt.template.plan.plan import Plan, answered, said
from instruct_fmt.template.plan.recorder import SAME, Expression, Guard, Recorder
from instruct_fmt.template.plan.shape import leaf_text, leaves
from instruct_fmt.template.plan.steps import BLANKS
from instruct_fmt.template.plan.surroundings import Surroundings
from instruct_fmt.template.trace.origins import Field
from instruct_fmt.types import Conversation, Marked, Printed, Range, Span

logger = logging.getLogger("instruct_fmt")

MAX_KEYS = 20_000
MAX_PIECES_OF_KEY = 8
MAX_WRONG = 16
"""So many texts may be wrong, and one of eight, before no more are put together."""
ALL_TURNS = 64
"""Of the first so many conversations all turns are compared, and of each so manieth after that."""


@dataclass(frozen=True, slots=True)
class _Piece:
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
        counts: what else the turn counted.
        printed: the fields of the message that are in the text.
        ends: whether BOS goes in front and EOS behind.
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
    counts: frozenset[tuple[str, int]]
    printed: Printed
    ends: tuple[bool, bool]

    def moved(self, place: int) -> _Piece:
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


class Pieces:
    """Pieces of plans, by what is around their messages. Threads may share them.

    Args:
        marker: marks conversations the ordinary way.
    """

    def __init__(self, marker: Marker) -> None:
        self._marker = marker
        self._whole = marker.policy.train_on == "all"
        self._near: dict[Hashable, list[_Piece]] = {}
        self._known: dict[Hashable, list[_Piece]] = {}
        self._met: Counter[Hashable] = Counter()
        self._composed = self._wrong = 0
        self._is_off = False

    def learn(self, plan: Plan, conversation: Conversation, recorder: Recorder) -> None:
        """Take the pieces of a plan that was proven on a conversation."""
        self._is_off |= any(guard.question == SAME for guard in recorder.guards)
        bounds = _bounds(plan.marked, len(conversation.messages))
        if bounds is None or plan.marked.counts.get("assembled") or len(self._known) > MAX_KEYS:
            return
        around = Surroundings(conversation)
        for place in range(len(conversation.messages)):
            piece = _cut(plan, conversation, recorder, place, (bounds[place], bounds[place + 1]), whole=self._whole)
            for known in (
                self._near.setdefault(around.near(place, place), []),
                self._known.setdefault(around.of(place, place), []),
            ):
                is_new = piece is not None and piece not in (one.moved(place) for one in known)
                if piece is not None and is_new and len(known) < MAX_PIECES_OF_KEY:
                    known.append(piece)

    def know(self, conversation: Conversation) -> bool:
        """Whether each message has the same near it as one that was met."""
        around = Surroundings(conversation)
        places = range(len(conversation.messages))
        return not self._is_off and all(self._near.get(around.near(place, place)) for place in places)

    def compose(self, conversation: Conversation) -> Marked | None:
        """The marked text of a conversation; None where it cannot be put together."""
        if self._is_off:
            return None
        around, texts = Surroundings(conversation), {field: leaf_text(value) for field, value in leaves(conversation)}
        places = range(len(conversation.messages))
        keys = [around.of(place, place) for place in places]
        found: list[_Piece] = []
        for place, key in enumerate(keys):
            choice = self._known.get(key) or self._near.get(around.near(place, place)) or []
            piece = _chosen(choice, place, texts, len(conversation.tools or ()))
            if piece is None:
                return None
            found.append(piece)
        if not self._whole and not self._trains_last(found, conversation):
            return None
        marked = _joined(found, texts)
        marked = replace(marked, trained=((0, len(marked.text)),)) if self._whole else marked
        counts = {**marked.counts, **self._counted(conversation)}
        try:
            right = self._is_right(conversation, found, marked, keys)
        except RowError:  # the ordinary way says more about it
            return None
        if not right:
            self._wrong += 1
            self._is_off |= self._wrong > MAX_WRONG + self._composed // 8
            return None
        self._composed += 1
        return replace(marked, counts={name: count for name, count in counts.items() if count})

    def _counted(self, conversation: Conversation) -> dict[str, int]:
        messages, printable = conversation.messages, self._marker.template.renderer.printable
        changed = sum(changes_content(message, printable(message)) for message in messages)
        turns = 1 if self._marker.policy.expands else sum(map(speaks, messages))
        return {"turns": turns, "call_content_changed": changed}

    def _trains_last(self, pieces: Sequence[_Piece], conversation: Conversation) -> bool:
        """Whether the last turn of the model's that is to be trained is."""
        *_, last = (None, *self._marker.speaking(conversation))
        return last is not None and bool(pieces[last].turns)

    def _is_right(
        self, conversation: Conversation, pieces: Sequence[_Piece], marked: Marked, keys: Sequence[Hashable]
    ) -> bool:
        """Whether the text is plain Jinja's, and what is due of its turns, one of each row at least, is as it says."""
        template, speaking = self._marker.template, [] if self._whole else self._marker.speaking(conversation)
        if template.plain(conversation) != marked.text:
            return False
        self._met.update(keys[place] for place in speaking)
        due = [place for place in speaking if (times := self._met[keys[place]]) & (times - 1) == 0]
        seams = dict(zip((place for place, piece in enumerate(pieces) if piece.seams), marked.seams, strict=True))
        others = [place for place in seams if place not in due]
        if self._composed < ALL_TURNS or not self._composed % ALL_TURNS:
            due, others = speaking, []
        for place in others[self._composed % len(others) :][:1] if others else ():
            if template.plain(conversation, place, prompt=True) != marked.text[: seams[place][0]]:
                return self._is_wrong(conversation)
        unsure = doubted(template, conversation, marked, due, seams)
        if unsure and not self._marker.trains(conversation, marked.trained, unsure):
            return self._is_wrong(conversation)
        return True

    def _is_wrong(self, conversation: Conversation) -> bool:
        """False, and no more is put together: what is around a message does not tell how it is trained."""
        logger.warning("a turn is not trained as others with the same around it: %r", conversation)
        self._is_off = True
        return False


def _chosen(pieces: Sequence[_Piece], place: int, texts: Mapping[Field, str], tools: int) -> _Piece | None:
    """The piece that fits a message of a row; None where there is none, or where several contradict each other."""
    fitting = [piece for piece in pieces if piece.fits(place, texts, tools)]
    if len(fitting) > 1 and any(_content(piece, place) != _content(fitting[0], place) for piece in fitting[1:]):
        return None
    return fitting[0] if fitting else None


def _moved(owner: int | str | None, by: int) -> int | str | None:
    return owner + by if isinstance(owner, int) else owner


def _content(piece: _Piece, place: int) -> _Piece:
    """A piece without what was asked of its row."""
    return replace(piece.moved(place), guards=(), spoken=())


def _bounds(marked: Marked, size: int) -> list[int] | None:
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


def _cut(
    plan: Plan, conversation: Conversation, recorder: Recorder, place: int, bounds: Range, *, whole: bool
) -> _Piece | None:
    """The piece of a message; None where something reaches beyond it. A text that is trained whole has no ranges."""
    marked, (begin, end) = plan.marked, bounds
    segments, seams = _segments(plan, bounds), _inside(marked.seams, bounds)
    ranges = () if whole else _inside(marked.trained, bounds)
    from_row = _inside([(start, stop) for start, stop, _ in marked.from_row], bounds)
    removable, turn = _inside(marked.removable, bounds), recorder.turns.get(place)
    if segments is None or ranges is None or seams is None or from_row is None or removable is None:
        return None
    says = [says for start, _, says in marked.from_row if begin <= start < end]
    beside = any(isinstance(part, Expression) and part.field.place < 0 for _, part in segments)
    last = len(conversation.messages) - 1
    return _Piece(
        place,
        tuple(segments),
        tuple(guard for guard in plan.guards if max(guard.subject.field.place, 0) == place),
        tuple(field for field in plan.spoken if field.place == place),
        len(conversation.tools or ()) if beside else None,
        ranges,
        seams,
        tuple((start, stop, one) for (start, stop), one in zip(from_row, says, strict=True)),
        removable,
        tuple(
            replace(span, start=span.start - begin, end=span.end - begin)
            for span in marked.spans
            if begin <= span.start and span.end <= end
        ),
        int(turn is not None),
        int(turn is not None and (not turn.stopped or turn.ranges[-1][1] < turn.end)),
        frozenset((+recorder.counted.get(place, Counter())).items()),
        frozenset((at, path) for at, path in marked.printed if at == place or (at < 0 and beside)),
        (place == 0 and marked.bos, place == last and marked.eos),
    )


def _segments(plan: Plan, bounds: Range) -> list[tuple[int, str | Expression]] | None:
    """Literals and expressions between bounds, and at last the end; None where an expression reaches beyond them."""
    begin, end = bounds
    found: list[tuple[int, str | Expression]] = []
    for (at, part), (stop, _) in pairwise(plan.segments):
        left, right = max(at, begin), min(stop, end)
        if left >= right:
            continue
        if isinstance(part, str):
            part = part[left - at : right - at]
        elif (left, right) != (at, stop):
            return None
        found.append((left - begin, part))
    return [*found, (end - begin, "")]


def _inside(parts: Sequence[Range], bounds: Range) -> tuple[Range, ...] | None:
    """The ranges between bounds; None where one of them reaches beyond."""
    begin, end = bounds
    here = [(start, stop) for start, stop in parts if start < end and begin < stop]
    if any(start < begin or stop > end for start, stop in here):
        return None
    return tuple((start - begin, stop - begin) for start, stop in here)


def _joined(pieces: Sequence[_Piece], texts: Mapping[Field, str]) -> Marked:
    """The pieces filled with a conversation's texts, one behind the other."""
    text: list[str] = []
    trained: list[Range] = []
    seams: list[Range] = []
    removable: list[Range] = []
    from_row: list[tuple[int, int, bool]] = []
    spans: list[Span] = []
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
        counts.update(dict(piece.counts))
        counts.update(trained_turns=piece.turns, turns_without_stop=piece.unstopped)
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
    )
