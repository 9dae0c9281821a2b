"""Where things are in the two renderings of a turn: its generation prompt, and the conversation up to it.

In: both, traced. Out: a `Ground`. Nothing here judges.
"""

from __future__ import annotations

from dataclasses import dataclass

from instruct_fmt.template.label.stops import StopFinder
from instruct_fmt.template.label.turn import Turn, find_turn
from instruct_fmt.template.trace.trace import TraceIndex


@dataclass(frozen=True, slots=True)
class Ground:
    """Where things are in the two renderings of one turn.

    Attributes:
        prompt, whole: the renderings.
        members: the messages of the turn.
        tail, lead: where, in each, the text behind the last character of the earlier messages begins.
        own: the first character of the turn's own in `whole`, or where its stop begins if it has none.
        own_end: the end of its last own character.
        turn: the turn in `whole`; it begins at `lead`.
    """

    prompt: TraceIndex
    whole: TraceIndex
    members: range
    tail: int
    lead: int
    own: int
    own_end: int
    turn: Turn

    @classmethod
    def of(cls, prompt: TraceIndex, whole: TraceIndex, members: range, stops: StopFinder) -> Ground:
        places = [own for member in members if (own := whole.content(member)) is not None]
        first = min((start for start, _ in places), default=len(whole.text))
        lead = whole.behind_fields(first, members)
        # A turn that says nothing begins with what the template prints for it; the stop before that is another's.
        turn = find_turn(whole, members, lead if places else max(lead, whole.owned_start(members)), stops, last=True)
        start = min(first, turn.stop)
        end = max((end for _, end in places), default=start)
        return cls(prompt, whole, members, prompt.behind_fields(len(prompt.text), members), lead, start, end, turn)

    @property
    def prompt_tail(self) -> str:
        return self.prompt.text[self.tail :]

    @property
    def ends_in_call(self) -> bool:
        """Whether a call is the last that the turn says: the template may write the rest of it."""
        own = [run for start, _, run in self.whole.pieces if self.own <= start < self.own_end and run.field is not None]
        return bool(own) and own[-1].field is not None and own[-1].field.path[:1] == ("tool_calls",)

    @property
    def begins_with_call(self) -> bool:
        """Whether a call is the first that the turn says: the template may write the beginning of it."""
        own = [run for start, _, run in self.whole.pieces if self.own <= start < self.own_end and run.field is not None]
        return bool(own) and own[0].field is not None and own[0].field.path[:1] == ("tool_calls",)

    @property
    def generated(self) -> bool:
        """Whether a `{% generation %}` block encloses the turn: it then also encloses what is put in its place."""
        return any(run.generated for start, _, run in self.whole.pieces if self.own <= start < self.turn.end)

    @property
    def starts(self) -> bool:
        """Whether the rendering begins with the prompt."""
        return self.whole.text.startswith(self.prompt.text)
