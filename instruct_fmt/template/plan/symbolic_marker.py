"""Templates that are rendered with symbols in place of a row's values, and the plans that come out.

In: one row of a shape. Out: the `Plan` of all rows of that shape for which its guards hold; None where there is none.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from instruct_fmt.template.label.chat_template import ChatTemplate
from instruct_fmt.template.label.coverage import says_elsewhere
from instruct_fmt.template.label.marker import Marker
from instruct_fmt.template.label.policy import Policy
from instruct_fmt.template.label.turns import Turns
from instruct_fmt.template.plan.make import make_plan
from instruct_fmt.template.plan.plan import Plan
from instruct_fmt.template.plan.recorder import PLACEHOLDER, Recorder
from instruct_fmt.template.plan.steps import THOUGHTS
from instruct_fmt.template.plan.symbolic_environment import SymbolicEnvironment
from instruct_fmt.template.plan.symbolic_renderer import SymbolicRenderer
from instruct_fmt.template.plan.tokens_of_text import TokensOfText
from instruct_fmt.template.plan.turn_kinds import Proofs, TurnKinds
from instruct_fmt.template.plan.unprinted import THOUGHT, Unprinted, unprinted_leaves
from instruct_fmt.template.trace.owners import SPEAKING
from instruct_fmt.template.trace.traced_template import TracedTemplate
from instruct_fmt.types import Conversation, Marked


class _KindsMarker(Marker):
    """A marker of symbolic conversations."""

    def __init__(self, template: ChatTemplate, policy: Policy, recorder: Recorder, proofs: Proofs) -> None:
        super().__init__(template, policy)
        self._recorder, self._proofs = recorder, proofs

    def turns(self, conversation: Conversation) -> Turns:
        """The conversation, its turns proven by kind."""
        return TurnKinds(self.template, self.policy, conversation, self._recorder, self._proofs)


class SymbolicMarker:
    """Makes plans of conversations."""

    def __init__(self, marker: Marker, tokens: TokensOfText, mentioned: frozenset[str]) -> None:
        self._marker, self._tokens, self._mentioned = marker, tokens, mentioned
        self._symbolic: ChatTemplate | None = None
        self._proofs = Proofs()

    def _without_variables(self, found: Marked, recorder: Recorder) -> Marked:
        """The row, text of its variables as good as the template's own: it is the same in every row of the plan."""
        if not recorder.variables:
            return found
        tokens = [(end - len(self._tokens.name(id)), end) for end, id in self._tokens.control(found.text)]
        if any(start < right and left < end for start, end in recorder.variables for left, right in tokens):
            recorder.refused.append("a control token that a variable is a part of")
        own = set(recorder.variables)
        return replace(found, from_row=tuple(part for part in found.from_row if part[:2] not in own))

    def plan(self, conversation: Conversation, recorder: Recorder) -> Plan | None:
        """The plan of conversations of this one's shape; with `history="expand"`, of the row of the last turn."""
        template, policy = self._marker.template, self._marker.policy
        if self._symbolic is None:
            known = template.renderer
            compiled = TracedTemplate(template.text, SymbolicEnvironment())
            self._symbolic = template.rendered_by(SymbolicRenderer(compiled, known.variables, known.now, known.form))
        roles = [message["role"] in SPEAKING for message in conversation.messages]
        if any(left and right for left, right in pairwise(roles)):
            # Whether one continues the other depends on more than guards.
            recorder.refused.append("messages of the model's in a row")
            return None
        marker = _KindsMarker(self._symbolic, policy, recorder, self._proofs)
        found = marker.mark_last(conversation) if policy.expands else marker.mark_plainly(conversation)[0]
        if policy.train_on == "all" and _ends_in_field(found.text):
            # Whether a stop ends it, and white space after that, depends on the row.
            recorder.refused.append("a text that is trained whole and ends in a field")
            return None
        found = self._without_variables(found, recorder)
        printed = found.printed
        wordy = {place for place, message in enumerate(conversation.messages) if says_elsewhere(message)}
        if wordy - {place for place, path in printed if path[:1] != ("role",)}:
            recorder.refused.append("a message whose words are in other fields")
            return None
        speaking = {place for place, message in enumerate(conversation.messages) if message["role"] in SPEAKING}
        unread = [*unprinted_leaves(conversation, printed, self._mentioned), *_unprinted_thoughts(found.text, recorder)]
        return make_plan(found, recorder, speaking | wordy, unread, self._tokens)


def _ends_in_field(text: str) -> bool:
    """Whether nothing but white space stands behind the last placeholder of a text."""
    ends = [found.end() for found in PLACEHOLDER.finditer(text)]
    return bool(ends) and not text[ends[-1] :].strip()


def _unprinted_thoughts(text: str, recorder: Recorder) -> list[Unprinted]:
    """Blocks of reasoning inside of contents that are left out of a text, of which the rest is printed."""
    known = recorder.expressions()
    there = {known[placeholder] for placeholder in PLACEHOLDER.findall(text) if placeholder in known}
    printed = {(found.field, found.steps[0]) for found in there if found.steps}
    thoughts = [found for found in recorder.placeholders if found.steps == (THOUGHTS,)]
    contents = [found.field for found in thoughts if (found.field, THOUGHTS) not in printed]
    return [Unprinted(field._replace(path=(*field.path, THOUGHT))) for field in contents]
