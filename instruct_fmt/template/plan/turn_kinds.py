"""The turns of a symbolic conversation, proven by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

from instruct_fmt.common.reasoning import BEGINS, REASONING
from instruct_fmt.common.reasoning import opener as block_opener
from instruct_fmt.template.label.chat_template import ChatTemplate
from instruct_fmt.template.label.marked import speaks
from instruct_fmt.template.label.policy import Policy
from instruct_fmt.template.label.speech import Speech
from instruct_fmt.template.label.turn import Turn, find_turn
from instruct_fmt.template.label.turns import Turns
from instruct_fmt.template.plan.plan import answered
from instruct_fmt.template.plan.recorder import PLACEHOLDER, SAME, Expression, Guard, Recorder, Refused
from instruct_fmt.template.plan.shape import leaf_text, leaves
from instruct_fmt.template.plan.steps import BLANKS
from instruct_fmt.template.plan.surroundings import Surroundings
from instruct_fmt.template.plan.symbolic import Symbolic, asks, plain_text
from instruct_fmt.template.trace.origins import VARIABLES, Field
from instruct_fmt.types import Conversation, Marked


class _SymbolicSpeech(Speech):
    """A turn whose answers are guards."""

    def __init__(self, row: TurnKinds, members: range) -> None:
        super().__init__(row.messages, members)
        self._recorder, self._symbols = row.recorder, row.scene.messages[members[0]]

    def reasons(self) -> bool:
        fields = [self._symbols[name] for name in REASONING if name in self._symbols]
        return any(bool(field.strip()) for field in fields)

    def without_values(self, text: str) -> str:
        return text  # arguments are printed whole, or in no plan

    def opens(self, opener: str) -> bool:
        content = self._symbol().lstrip()
        found = content.startswith(opener)
        if found and _is_one(content):
            raise Refused("a content that opens a block of reasoning")
        return found

    def opens_block(self) -> bool:
        content = self._symbol().lstrip()
        if not _is_one(content):
            return block_opener(plain_text(content)) is not None
        if asks(content, "matches", BEGINS):
            raise Refused("a content that may open a block of reasoning")
        return False

    def _symbol(self) -> str:
        """The content, as a template that asked for its text would get it."""
        content = self._symbols.get("content") or ""
        return str(content[0]["text"]) if isinstance(content, list) else content


def _is_one(text: str) -> TypeGuard[Symbolic]:
    """Whether a text is one expression, of which nothing is known but answers."""
    return PLACEHOLDER.fullmatch(plain_text(text)) is not None


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
        return [guard.moved(by) for guard in self.guards]


class Proofs:
    """What was proven of turns under one template and policy, by their kinds."""

    def __init__(self) -> None:
        self.met: Counter[Hashable] = Counter()
        self.known: dict[Hashable, _Proof] = {}

    def is_due(self, kind: Hashable) -> bool:
        """Whether one more turn of this kind is to be proven."""
        self.met[kind] += 1
        return self.met[kind] & (self.met[kind] - 1) == 0


class TurnKinds(Turns):
    """A conversation whose turns are proven by kind.

    To prove a turn is to render what is before it, which for every turn of a long conversation would take quadratic
    time. Turns are of one kind if the same is around them: the same messages, as far as templates care, and in the
    whole text the same literals and the same fields of their own. Of each kind the first, second, fourth, eighth …
    turn is proven, no matter of which conversation. The others follow the proof before them, if they give the answers
    that it relied on.
    """

    def __init__(
        self,
        template: ChatTemplate,
        policy: Policy,
        conversation: Conversation,
        recorder: Recorder,
        proofs: Proofs,
    ) -> None:
        super().__init__(template, policy, conversation)
        self.recorder = recorder
        self._proofs = proofs
        self._surroundings = Surroundings(conversation)
        self._texts = {field: leaf_text(value) for field, value in leaves(conversation)}
        self._groups: list[range] = []
        self._kinds: dict[range, Hashable | None] = {}

    def groups(self, chosen: Sequence[int]) -> list[range]:
        """The chosen messages as turns."""
        self._groups = super().groups(chosen)
        return self._groups

    def last_turn(self, members: range) -> Turn:
        """The last turn, behind which the text is known and the kinds of the others are looked at."""
        counted = self.counts.copy()
        turn = super().last_turn(members)
        self.recorder.counted[members[0]] = self.counts - counted
        self._kinds = {members: self._kind(members) for members in self._groups[:-1]}
        return turn

    def speech(self, members: range) -> Speech:
        """What the messages of a turn say, as guards."""
        return _SymbolicSpeech(self, members)

    def turn(self, members: range) -> Turn | None:
        """The trained turn of some messages, proven or of a kind that is proven."""
        counted = self.counts.copy()
        turn = self._turn(members)
        self.recorder.counted[members[0]] = self.counts - counted
        return turn

    def marked(self, turns: Sequence[Turn]) -> Marked:
        """The row with the trained turns, which are noted."""
        self.recorder.turns = {turn.first: turn for turn in turns}
        self.recorder.variables = [
            (start, end)
            for start, end, run in self.index.pieces
            if run.field is not None and run.field.place == VARIABLES
        ]
        return super().marked(turns)

    def _turn(self, members: range) -> Turn | None:
        kind = self._kinds[members]
        due, known = kind is None or self._proofs.is_due(kind), self._proofs.known.get(kind)
        guards = known.moved(members[0]) if known is not None else []
        compared = any(guard.question == SAME for guard in guards)  # messages with one another, wherever they are
        follows = known is not None and not compared and all(answered(guard, self._texts) for guard in guards)
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
            self._proofs.known[kind] = _Proof(members[0], lead, behind, new, self.counts - counted)
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
        blank = [Expression(field).then("strip", "both", BLANKS) for field in fields if field in self._texts]
        self.recorder.guards.update({Guard("filled", content, "", False): None for content in blank})
        for content in self.recorder.placeholders:
            place, path = content.field
            if path == ("content",) and place >= 0 and not speaks(self.messages[place]) and _takes_words(content):
                self.recorder.refused.append("what is stripped from a message may be all that it says")
        return found

    def _says(self, start: int, end: int) -> bool:
        """Whether a field says something, which becomes a guard."""
        text = self.index.text[start:end]
        known, filled = self.recorder.expressions(), False
        for match in PLACEHOLDER.findall(text):
            if match not in known:
                raise Refused("a text of another row")
            says = self.recorder.actual(match) != ""
            self.recorder.guards[Guard("filled", known[match], "", says)] = None
            filled |= says
        return filled or bool(PLACEHOLDER.sub("", text))

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
        shown: list[Hashable] = [self._surroundings.of(members[0], members[-1])]
        for start, end, run in self.index.within(left[0], right[0]):
            if left[0] <= start and end <= right[0]:
                text = self.index.text[start:end]
                owner = None if run.owner is None else run.owner - first
                printed = known.get(text) if run.field is not None else None
                shown.append((owner, run.generated, text if printed is None else printed.moved(-first)))
        return tuple(shown)


def _takes_words(expression: Expression) -> bool:
    """Whether more than blanks is stripped from a field."""
    return any(step.name == "strip" and set(str(step.args[1])) - set(BLANKS) for step in expression.steps)
