"""Templates that are rendered with symbols in place of a row's values, and the plans that come out.

In: one row of a shape. Out: the `Plan` of all rows of that shape for which its guards hold; None where there is none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import jinja2

from instruct_fmt.common.reasoning import BEGINS, REASONING
from instruct_fmt.template.label.chat_renderer import ChatRenderer, Scene
from instruct_fmt.template.label.chat_template import ChatTemplate
from instruct_fmt.template.label.coverage import says_elsewhere
from instruct_fmt.template.label.marked import speaks
from instruct_fmt.template.label.marker import Marker
from instruct_fmt.template.label.policy import Policy
from instruct_fmt.template.label.record_template import RecordRenderer, RecordTemplate
from instruct_fmt.template.label.speech import Speech
from instruct_fmt.template.label.template_errors import PYTHON_ERRORS, row_error
from instruct_fmt.template.label.turn import Turn, find_turn
from instruct_fmt.template.label.turns import Turns
from instruct_fmt.template.plan.make import make_plan
from instruct_fmt.template.plan.plan import Plan, answered
from instruct_fmt.template.plan.recorder import BLANKS, PLACEHOLDER, Expression, Guard, Recorder, Refused
from instruct_fmt.template.plan.shape import leaf_text, leaves, message_shape, with_leaves
from instruct_fmt.template.plan.symbolic import Symbolic, SymbolicObject, plain_text, symbolic, symbolic_object
from instruct_fmt.template.plan.symbolic_environment import SymbolicEnvironment
from instruct_fmt.template.plan.tokens_of_text import TokensOfText
from instruct_fmt.template.plan.unprinted import unprinted_leaves
from instruct_fmt.template.trace.origins import TOOLS, Field
from instruct_fmt.template.trace.owners import SPEAKING, message_of
from instruct_fmt.template.trace.trace import Trace
from instruct_fmt.template.trace.traced_template import TracedTemplate
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


class _SymbolicRenderer(ChatRenderer):
    """Renders symbols in place of what messages say."""

    def scene(self, conversation: Conversation) -> Scene:
        messages, shown = [], []
        for index, message in enumerate(conversation.messages):
            values = self._printable(with_leaves(message, index, _symbol))
            messages.append(message_of(values, index, message["role"] in SPEAKING))
            shown.append(_shown(values))
        tools = [symbolic_object(tool, Field(TOOLS, (place,))) for place, tool in enumerate(conversation.tools or ())]
        variables = {**self.variables, "tools": tools or None, "documents": None}
        return Scene(messages, variables, shown, variables)

    def _printable(self, values: dict[str, Any]) -> Mapping[str, Any]:
        """A call as the template needs it; whether it has content is a guard."""
        content = values.get("content", "")
        if "tool_calls" not in values or bool(content):
            return values
        return self.printable({**values, "content": ""} if "content" in values else values)

    def proven(self, scene: Scene, count: int | None = None, *, prompt: bool = False) -> Trace:
        return self.trace(scene, count, prompt=prompt)


class _SymbolicSpeech(Speech):
    """A turn whose answers are guards."""

    def __init__(self, row: _KindsOfTurns, members: range) -> None:
        super().__init__(row.messages, members)
        self._recorder, self._symbols = row.recorder, row.scene.messages[members[0]]

    def reasons(self) -> bool:
        fields = [self._symbols[name] for name in REASONING if name in self._symbols]
        return any(bool(field.strip()) for field in fields)

    def without_values(self, text: str) -> str:
        return text  # arguments are printed whole, or in no plan

    def opens(self, opener: str) -> bool:
        content = self._symbols.get("content", "")
        found = bool(content.lstrip().startswith(opener))
        if found:
            raise Refused("a content that opens a block of reasoning")
        return False

    def opens_block(self) -> bool:
        content = self._symbols.get("content", "").lstrip()
        if not isinstance(content, Symbolic):
            return False
        if re.search(BEGINS, content._actual):
            raise Refused("a content that may open a block of reasoning")
        assert content._node is not None
        self._recorder.guards[Guard("matches", content._node, BEGINS, False)] = None
        return False


@dataclass(frozen=True, slots=True)
class _Proof:
    """What was proven of a turn: it holds for others of its kind.

    Attributes:
        first: the turn's first message.
        lead: from the turn's start to its content, in characters; None where it is left out of the loss.
        behind: how much of what follows the turn is the same when it is the last one, in characters.
        guards: what the proof asked.
        counts: what it counted.
    """

    first: int
    lead: int | None
    behind: int
    guards: tuple[Guard, ...]
    counts: Counter[str]

    def moved(self, first: int) -> list[Guard]:
        """What the proof of another turn would have asked."""
        by = first - self.first
        return [guard._replace(subject=_moved(guard.subject, by)) for guard in self.guards]


class _KindsOfTurns(Turns):
    """A conversation whose turns are proven by kind.

    To prove a turn is to render what is before it, which for every turn of a long conversation would take quadratic
    time. Turns are of one kind if the whole text has the same around them: the same literals, and the same fields of
    their own. Of each kind the first, second, fourth, eighth … turn and the last one are proven. The others follow the
    proof before them, if they give the answers that it relied on.
    """

    def __init__(self, template: ChatTemplate, policy: Policy, conversation: Conversation, recorder: Recorder) -> None:
        super().__init__(template, policy, conversation)
        self.recorder = recorder
        self._texts = {field: leaf_text(value) for field, value in leaves(conversation)}
        self._groups: list[range] = []
        self._kinds: dict[range, Hashable | None] = {}
        self._there: Counter[Hashable] = Counter()
        self._met: Counter[Hashable] = Counter()
        self._proofs: dict[Hashable, _Proof] = {}

    def groups(self, chosen: Sequence[int]) -> list[range]:
        """The chosen messages as turns."""
        self._groups = super().groups(chosen)
        return self._groups

    def last_turn(self, members: range) -> Turn:
        """The last turn, behind which the text is known and the kinds of the others are looked at."""
        turn = super().last_turn(members)
        self._kinds = {members: self._kind(members) for members in self._groups[:-1]}
        self._there = Counter(self._kinds.values())
        return turn

    def speech(self, members: range) -> Speech:
        """What the messages of a turn say, as guards."""
        return _SymbolicSpeech(self, members)

    def turn(self, members: range) -> Turn | None:
        """The trained turn of some messages, proven or of a kind that is proven."""
        kind = self._kinds[members]
        self._met[kind] += 1
        times, known = self._met[kind], self._proofs.get(kind)
        guards = known.moved(members[0]) if known is not None else []
        follows = known is not None and all(answered(guard, self._texts) for guard in guards)
        due = times & (times - 1) == 0 or times == self._there[kind]  # a power of two, or the last
        if known is not None and follows and not due:
            self.recorder.guards.update(dict.fromkeys(guards))
            self.counts.update(known.counts)
            return self._like(known, members)
        asked, counted = len(self.recorder.guards), self.counts.copy()
        turn = super().turn(members)
        content = self.index.content(members[0])
        if kind is not None and content is not None:
            lead = None if turn is None else content[0] - turn.start
            if known is not None and follows and lead != known.lead:
                self.recorder.refused.append("turns of one kind differ")
            new = tuple(self.recorder.guards)[asked:]
            behind = 0 if turn is None else turn.behind
            self._proofs[kind] = _Proof(members[0], lead, behind, new, self.counts - counted)
        return turn

    def _like(self, known: _Proof, members: range) -> Turn | None:
        content = self.index.content(members[0])
        if known.lead is None or content is None:
            return None
        turn = find_turn(self.index, members, content[0] - known.lead, self.template.stops, last=False)
        return self.checked(replace(turn, behind=known.behind), last=False)

    def agrees(self, text: str) -> bool:
        found = super().agrees(text)
        if not found and self._unstripped(self.index.text[: len(text)]) == self._unstripped(text):
            self.recorder.refused.append("a turn may differ by blanks that some rows do not have")
        return found

    def _unprinted(self) -> list[int]:
        """Messages that are left out, because this row says nothing there: so must the plan's other rows."""
        found = super()._unprinted()
        fields = [Field(place, ("content",)) for place in found]
        blank = [Expression(field, (("both", BLANKS),)) for field in fields if field in self._texts]
        self.recorder.guards.update({Guard("filled", content, "", False): None for content in blank})
        for content in self.recorder.placeholders:
            place, path = content.field
            if path == ("content",) and place >= 0 and not speaks(self.messages[place]) and _takes_words(content):
                self.recorder.refused.append("what is stripped from a message may be all that it says")
        return found

    def _unstripped(self, text: str) -> str:
        """A symbolic text without regard to what is stripped from its fields."""
        known = self.recorder.expressions()
        return PLACEHOLDER.sub(lambda match: repr(known[match[0]].field) if match[0] in known else match[0], text)

    def _kind(self, members: range) -> Hashable | None:
        """What is around a turn, from the message before it to the one behind it; None where that cannot be told."""
        first, behind = members[0] - 1, members[-1] + 1
        if first < 0 or behind >= len(self.messages):
            return None
        left, right = self.index.content(first), self.index.content(behind)
        if left is None or right is None:
            return None
        known = self.recorder.expressions()
        shown: list[Hashable] = [message_shape(message) for message in self.conversation.messages[first : behind + 1]]
        for start, end, run in self.index.within(left[0], right[0]):
            if left[0] <= start and end <= right[0]:
                text = self.index.text[start:end]
                owner = None if run.owner is None else run.owner - first
                printed = known.get(text) if run.field is not None else None
                shown.append((owner, run.generated, text if printed is None else _moved(printed, -first)))
        return tuple(shown)


def _takes_words(expression: Expression) -> bool:
    """Whether more than blanks is stripped from a field."""
    return any(set(characters) - set(BLANKS) for _, characters in expression.strips)


def _moved(expression: Expression, by: int) -> Expression:
    """The same of a message that is so much further behind."""
    place = expression.field.place
    return expression._replace(field=expression.field._replace(place=place + by)) if place >= 0 else expression


class _KindsMarker(Marker):
    """A marker of symbolic conversations."""

    def __init__(self, template: ChatTemplate, policy: Policy, recorder: Recorder) -> None:
        super().__init__(template, policy)
        self._recorder = recorder

    def turns(self, conversation: Conversation) -> Turns:
        """The conversation, its turns proven by kind."""
        return _KindsOfTurns(self.template, self.policy, conversation, self._recorder)


class SymbolicMarker:
    """Makes plans of conversations."""

    def __init__(self, marker: Marker, tokens: TokensOfText) -> None:
        self._marker, self._tokens = marker, tokens
        self._symbolic: ChatTemplate | None = None

    def plan(self, conversation: Conversation, recorder: Recorder) -> Plan | None:
        """The plan of conversations of this one's shape."""
        template, policy = self._marker.template, self._marker.policy
        if template.renderer.form.parts or policy.train_on == "all":
            return None
        if self._symbolic is None:
            known = template.renderer
            compiled = TracedTemplate(template.text, SymbolicEnvironment())
            self._symbolic = template.rendered_by(_SymbolicRenderer(compiled, known.variables, known.now, known.form))
        roles = [message["role"] in SPEAKING for message in conversation.messages]
        if any(left and right for left, right in pairwise(roles)):
            return None  # whether one continues the other depends on more than guards
        found = _KindsMarker(self._symbolic, policy, recorder).mark_plainly(conversation)
        if len(found) != 1:
            return None
        printed = found[0].printed
        wordy = {place for place, message in enumerate(conversation.messages) if says_elsewhere(message)}
        if wordy - {place for place, path in printed if path[:1] != ("role",)}:
            return None
        speaking = {place for place, message in enumerate(conversation.messages) if message["role"] in SPEAKING}
        return make_plan(found[0], recorder, speaking | wordy, unprinted_leaves(conversation, printed), self._tokens)


@dataclass(frozen=True)
class _SymbolicRecordRenderer(RecordRenderer):
    """Renders symbols in place of a record's values.

    Attributes:
        symbolic: the template, compiled for symbols.
        symbols: the values.
    """

    symbolic: TracedTemplate
    symbols: Mapping[str, Symbolic]

    def proven(self, values: Mapping[str, Any]) -> Trace:
        try:
            return self.symbolic.trace_values({**self.variables, **self.symbols}, self.now)
        except (jinja2.TemplateError, *PYTHON_ERRORS) as error:  # symbols are not always what a template expects
            raise row_error(error, "$", self.symbolic) from error


class SymbolicRecord:
    """Makes plans of records."""

    def __init__(self, template: RecordTemplate, append_eos: bool, tokens: TokensOfText) -> None:
        self._template, self._append_eos, self._tokens = template, append_eos, tokens
        self._compiled: TracedTemplate | None = None

    def plan(self, record: Record, recorder: Recorder) -> Plan | None:
        """The plan of records of this one's shape."""
        known = self._template.renderer
        if self._compiled is None:
            self._compiled = TracedTemplate(known.template.text, SymbolicEnvironment())
        symbols = {
            name: symbolic(value, Field(place, (name,))) for place, (name, value) in enumerate(record.values.items())
        }
        renderer = _SymbolicRecordRenderer(known.template, known.variables, known.now, self._compiled, symbols)
        shown = Record({name: plain_text(value) for name, value in symbols.items()})
        marked = self._template.rendered_by(renderer).mark(shown, append_eos=self._append_eos)
        names = list(record.values)
        answers = [names.index(name) for name in self._template.answers if name in names]
        return make_plan(marked, recorder, answers, unprinted_leaves(record, marked.printed), self._tokens)
