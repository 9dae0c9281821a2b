"""Templates that are rendered with symbols in place of a row's values, and the plans that come out.

In: one row of a shape. Out: the `Plan` of all rows of that shape for which its guards hold; None where there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from instruct_fmt.template.chat import ChatTemplate, Scene
from instruct_fmt.template.owners import SPEAKING, message_of
from instruct_fmt.template.plan import Plan, TokensOfText, answered, make_plan
from instruct_fmt.template.provenance import TracedTemplate
from instruct_fmt.template.records import RecordTemplate
from instruct_fmt.template.shapes import leaf_text, leaves, message_shape, with_leaves
from instruct_fmt.template.spans import TraceIndex, Turn, find_turn
from instruct_fmt.template.symbolic import (
    PLACEHOLDER,
    Expression,
    Guard,
    Recorder,
    Symbolic,
    SymbolicEnvironment,
    SymbolicObject,
    plain_text,
    symbolic,
    symbolic_object,
)
from instruct_fmt.template.traced import TOOLS, Field
from instruct_fmt.template.turns import Job, Marker, Policy
from instruct_fmt.types import Conversation, Record


def _symbol(value: Any, field: Field) -> Any:
    return symbolic(value, field) if isinstance(value, str) else symbolic_object(value, field)


def _shown(value: Any) -> Any:
    """A symbol as the text that it prints; an empty one as none, which makes emptiness a guard."""
    if isinstance(value, SymbolicObject):
        return plain_text(value._text)
    if isinstance(value, Symbolic):
        return plain_text(value) if value else ""
    if isinstance(value, dict):
        return {name: _shown(item) for name, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


class _SymbolicTemplate(TracedTemplate):
    """A template that is only rendered symbolically."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._traced = SymbolicEnvironment().from_string(text)


class _SymbolicChat(ChatTemplate):
    """The chat template with its probes' results, rendering symbolic messages."""

    def __init__(self, template: ChatTemplate) -> None:
        self.__dict__.update(template.__dict__)
        self.template = _SymbolicTemplate(template.template.text)

    def scene(self, conversation: Conversation, extra: Mapping[str, Any] | None = None) -> Scene:
        messages, shown = [], []
        for index, message in enumerate(conversation.messages):
            values = with_leaves(message, index, _symbol)
            messages.append(message_of(values, index, message["role"] in SPEAKING))
            shown.append(_shown(values))
        tools = [symbolic_object(tool, Field(TOOLS, (place,))) for place, tool in enumerate(conversation.tools or ())]
        variables = {**self.variables, **(extra or {}), "tools": tools or None, "documents": None}
        return Scene(messages, variables, shown, variables)

    def proven(self, scene: Scene) -> Any:
        return self.trace(scene)


@dataclass(frozen=True, slots=True)
class _Proof:
    """What was proven of a turn: it holds for others of its kind.

    Attributes:
        first: the turn's first message.
        lead: from the turn's start to its content, in characters; None where it is left out of the loss.
        guards: what the proof asked.
        counts: what it counted.
    """

    first: int
    lead: int | None
    guards: tuple[Guard, ...]
    counts: Counter[str]

    def moved(self, first: int) -> list[Guard]:
        """What the proof of another turn would have asked."""
        by = first - self.first
        return [guard._replace(subject=_moved(guard.subject, by)) for guard in self.guards]


class _KindsOfTurns(Job):
    """A conversation whose turns are proven by kind.

    To prove a turn is to render what is before it, which for every turn of a long conversation would take quadratic
    time. Turns are of one kind if the whole text has the same around them: the same literals, and the same fields of
    their own. Of each kind the first, second, fourth, eighth … turn and the last one are proven. The others follow the
    proof before them, if they give the answers that it relied on.
    """

    def __init__(self, template: ChatTemplate, policy: Policy, conversation: Conversation, recorder: Recorder) -> None:
        super().__init__(template, policy, conversation)
        self._recorder = recorder
        self._texts = {field: leaf_text(value) for field, value in leaves(conversation)}
        self._kinds: dict[range, Hashable | None] = {}
        self._there: Counter[Hashable] = Counter()
        self._met: Counter[Hashable] = Counter()
        self._proofs: dict[Hashable, _Proof] = {}

    def groups(self, chosen: Sequence[int]) -> list[range]:
        """The chosen messages as turns, whose kinds are looked at."""
        groups = super().groups(chosen)
        self._kinds = {members: self._kind(members) for members in groups}
        self._there = Counter(self._kinds.values())
        return groups

    def turn(self, members: range) -> Turn | None:
        """The trained turn of some messages, proven or of a kind that is proven."""
        kind = self._kinds[members]
        self._met[kind] += 1
        times, known = self._met[kind], self._proofs.get(kind)
        guards = known.moved(members[0]) if known is not None else []
        follows = known is not None and all(answered(guard, self._texts) for guard in guards)
        due = times & (times - 1) == 0 or times == self._there[kind]  # a power of two, or the last
        if known is not None and follows and not due:
            self._recorder.guards.update(dict.fromkeys(guards))
            self.counts.update(known.counts)
            return self._like(known, members)
        asked, counted = len(self._recorder.guards), self.counts.copy()
        turn = super().turn(members)
        content = self.index.content(members[0])
        if kind is not None and content is not None:
            lead = None if turn is None else content[0] - turn.start
            if known is not None and follows and lead != known.lead:
                self._recorder.refused.append("turns of one kind differ")
            new = tuple(self._recorder.guards)[asked:]
            self._proofs[kind] = _Proof(members[0], lead, new, self.counts - counted)
        return turn

    def _like(self, known: _Proof, members: range) -> Turn | None:
        content = self.index.content(members[0])
        if known.lead is None or content is None:
            return None
        turn = find_turn(self.index, members, content[0] - known.lead, self.template.stops, last=False)
        return self.checked(turn, last=False)

    def _same(self, turn: Turn, alone: TraceIndex, model: Turn) -> bool:
        same = super()._same(turn, alone, model)
        texts = self.index.text[turn.start : turn.stop], alone.text[model.start : model.stop]
        if not same and self._unstripped(texts[0]) == self._unstripped(texts[1]):
            self._recorder.refused.append("a turn may differ by blanks that some rows do not have")
        return same

    def _unstripped(self, text: str) -> str:
        """A symbolic text without regard to what is stripped from its fields."""
        known = self._recorder.expressions()
        return PLACEHOLDER.sub(lambda match: repr(known[match[0]].field) if match[0] in known else match[0], text)

    def _kind(self, members: range) -> Hashable | None:
        """What is around a turn, from the message before it to the one behind it; None where that cannot be told."""
        first, behind = members[0] - 1, members[-1] + 1
        if first < 0 or behind >= len(self.messages):
            return None
        left, right = self.index.content(first), self.index.content(behind)
        if left is None or right is None:
            return None
        known = self._recorder.expressions()
        shown: list[Hashable] = [message_shape(message) for message in self.conversation.messages[first : behind + 1]]
        for start, end, run in self.index.pieces:
            if left[0] <= start and end <= right[0]:
                text = self.index.text[start:end]
                owner = None if run.owner is None else run.owner - first
                printed = known.get(text) if run.field is not None else None
                shown.append((owner, run.generated, text if printed is None else _moved(printed, -first)))
        return tuple(shown)


def _moved(expression: Expression, by: int) -> Expression:
    """The same of a message that is so much further behind."""
    place = expression.field.place
    return expression._replace(field=expression.field._replace(place=place + by)) if place >= 0 else expression


class _KindsMarker(Marker):
    """A marker of symbolic conversations."""

    def __init__(self, template: ChatTemplate, policy: Policy) -> None:
        super().__init__(template, policy)
        self.recorder = Recorder()

    def job(self, conversation: Conversation) -> Job:
        """The conversation, its turns proven by kind."""
        return _KindsOfTurns(self.template, self.policy, conversation, self.recorder)


class SymbolicMarker:
    """Makes plans of conversations."""

    def __init__(self, marker: Marker, tokens: TokensOfText) -> None:
        self._marker, self._tokens = marker, tokens
        self._symbolic: _KindsMarker | None = None

    def plan(self, conversation: Conversation, recorder: Recorder) -> Plan | None:
        """The plan of conversations of this one's shape."""
        if self._marker.template.parts or self._marker.policy.train_on == "all":
            return None
        if self._symbolic is None:
            self._symbolic = _KindsMarker(_SymbolicChat(self._marker.template), self._marker.policy)
        self._symbolic.recorder = recorder
        roles = [message["role"] in SPEAKING for message in conversation.messages]
        if any(left and right for left, right in pairwise(roles)):
            return None  # whether one continues the other depends on more than guards
        found = self._symbolic.mark(conversation)
        speaking = [place for place, message in enumerate(conversation.messages) if message["role"] in SPEAKING]
        return make_plan(found[0], recorder, speaking, self._tokens) if len(found) == 1 else None


class SymbolicRecord(RecordTemplate):
    """The record template with its probes' results, rendering symbolic values, and making plans of records."""

    def __init__(self, template: RecordTemplate, append_eos: bool, tokens: TokensOfText) -> None:
        self.__dict__.update(template.__dict__)
        self._append_eos, self._tokens = append_eos, tokens
        self._text = template.template.text
        self._compiled: _SymbolicTemplate | None = None
        self._values: dict[str, Any] = {}

    def plan(self, record: Record, recorder: Recorder) -> Plan | None:
        """The plan of records of this one's shape."""
        if self._compiled is None:
            self._compiled = _SymbolicTemplate(self._text)
        self._values = {
            name: symbolic(value, Field(place, (name,))) for place, (name, value) in enumerate(record.values.items())
        }
        shown = {name: plain_text(value) for name, value in self._values.items()}
        marked = self.mark(Record(shown), append_eos=self._append_eos)
        names = list(record.values)
        answers = [names.index(name) for name in self.answers if name in names]
        return make_plan(marked, recorder, answers, self._tokens)

    def _index(self, values: Mapping[str, Any]) -> TraceIndex:
        assert self._compiled is not None
        return TraceIndex(self._compiled.trace_values({**self.variables, **self._values}, self.now))
