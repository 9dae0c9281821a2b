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
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from instruct_fmt.errors import RowError
from instruct_fmt.template.label.marked import speaks
from instruct_fmt.template.label.marker import Marker
from instruct_fmt.template.label.shown import doubted
from instruct_fmt.template.label.turns import changes_content
from instruct_fmt.template.plan.piece import Piece, bounds_of, content_of, cut, joined
from instruct_fmt.template.plan.plan import Plan
from instruct_fmt.template.plan.recorder import SAME, Recorder
from instruct_fmt.template.plan.shape import leaf_text, leaves
from instruct_fmt.template.plan.surroundings import Surroundings
from instruct_fmt.template.trace.origins import Field
from instruct_fmt.types import Conversation, Marked

logger = logging.getLogger("instruct_fmt")

MAX_KEYS = 20_000
MAX_PIECES_OF_KEY = 8
MAX_WRONG = 16
"""So many texts may be wrong, and one of eight, before no more are put together."""
ALL_TURNS = 64
"""Of the first so many conversations, and of each so manieth after that,"""
MOST_TURNS = 8
"""so many turns are compared, or nearly twice as many, where the others are content with those that are due."""


class Pieces:
    """Pieces of plans, by what is around their messages. Threads may share them.

    Args:
        marker: marks conversations the ordinary way.
    """

    def __init__(self, marker: Marker) -> None:
        self._marker = marker
        self._whole = marker.policy.train_on == "all"
        self._near: dict[Hashable, list[Piece]] = {}
        self._known: dict[Hashable, list[Piece]] = {}
        self._met: Counter[Hashable] = Counter()
        self._composed = self._wrong = 0
        self._is_off = False

    @property
    def are_used(self) -> bool:
        """Whether conversations are put together: not any more once they were wrong."""
        return not self._is_off

    def learn(self, plan: Plan, conversation: Conversation, recorder: Recorder) -> None:
        """Take the pieces of a plan that was proven on a conversation."""
        self._is_off |= any(guard.question == SAME for guard in recorder.guards)
        bounds = bounds_of(plan.marked, len(conversation.messages))
        if bounds is None or prints_inside(plan) or plan.marked.counts.get("assembled") or len(self._known) > MAX_KEYS:
            return
        around = Surroundings(conversation)
        for place in range(len(conversation.messages)):
            piece = cut(plan, conversation, recorder, place, (bounds[place], bounds[place + 1]), whole=self._whole)
            for known in (
                self._near.setdefault(around.near(place, place), []),
                self._known.setdefault(around.of(place, place), []),
            ):
                is_new = piece is not None and piece not in (one.moved(place) for one in known)
                if piece is not None and is_new and len(known) < MAX_PIECES_OF_KEY:
                    known.append(piece)

    def know(self, conversation: Conversation) -> bool:
        """Whether there is a piece for each message."""
        around, texts = Surroundings(conversation), _texts(conversation)
        return self.are_used and self._found(conversation, around, texts) is not None

    def compose(self, conversation: Conversation) -> Marked | None:
        """The marked text of a conversation; None where it cannot be put together."""
        if self._is_off:
            return None
        around, texts = Surroundings(conversation), _texts(conversation)
        found = self._found(conversation, around, texts)
        if found is None:
            return None
        keys = [around.of(place, place) for place in range(len(found))]
        if not self._whole and not self._trains_last(found, conversation):
            return None
        marked = joined(found, texts)
        marked = replace(marked, trained=((0, len(marked.text)),)) if self._whole else marked
        counts = {**marked.counts, **self._counted(conversation)}
        counts["trained_turns"] = counts["turns"] if self._whole else marked.counts.get("trained_turns", 0)
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

    def _found(
        self, conversation: Conversation, around: Surroundings, texts: Mapping[Field, str]
    ) -> list[Piece] | None:
        """The pieces of a conversation: of messages with the same around them, else with the same near them."""
        found: list[Piece] = []
        for place in range(len(conversation.messages)):
            choice = self._known.get(around.of(place, place)) or self._near.get(around.near(place, place)) or []
            piece = _chosen(choice, place, texts, len(conversation.tools or ()))
            if piece is None:
                return None
            found.append(piece)
        return found

    def _counted(self, conversation: Conversation) -> dict[str, int]:
        messages, printable = conversation.messages, self._marker.template.renderer.printable
        changed = sum(changes_content(message, printable(message)) for message in messages)
        turns = 1 if self._marker.policy.expands else sum(map(speaks, messages))
        return {"turns": turns, "call_content_changed": changed}

    def _trains_last(self, pieces: Sequence[Piece], conversation: Conversation) -> bool:
        """Whether the last turn of the model's that is to be trained is."""
        *_, last = (None, *self._marker.speaking(conversation))
        return last is not None and bool(pieces[last].turns)

    def _is_right(
        self, conversation: Conversation, pieces: Sequence[Piece], marked: Marked, keys: Sequence[Hashable]
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
            due, others = sorted({*due, *speaking[:: -max(1, len(speaking) // MOST_TURNS)]}), []
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


def prints_inside(plan: Plan) -> bool:
    """Whether which members of objects are in the text depends on the row."""
    return bool(plan.inside_tools) or any(map(_is_inside, plan.marked.printed))


def _is_inside(printed: tuple[int, tuple[str | int, ...]]) -> bool:
    """Whether a member of a tool or of a call's arguments is printed by itself: which are there depends on the row."""
    place, path = printed
    return len(path) > 1 if place < 0 else len(path) > 4 and path[0] == "tool_calls"


def _texts(conversation: Conversation) -> dict[Field, str]:
    return {field: leaf_text(value) for field, value in leaves(conversation)}


def _chosen(pieces: Sequence[Piece], place: int, texts: Mapping[Field, str], tools: int) -> Piece | None:
    """The piece that fits a message of a row; None where there is none, or where several contradict each other."""
    fitting = [piece for piece in pieces if piece.fits(place, texts, tools)]
    if len(fitting) > 1 and any(content_of(piece, place) != content_of(fitting[0], place) for piece in fitting[1:]):
        return None
    return fitting[0] if fitting else None
