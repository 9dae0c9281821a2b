"""Short conversations, rendered and marked, to learn what a template does.

In: a formatter. Out: for each kind of conversation what the core makes of it: a `Marked` text or the `RowError` that
refuses it. Nothing here judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from instruct_fmt.errors import RowError
from instruct_fmt.template.label.marker import Marker
from instruct_fmt.template.label.policy import Policy
from instruct_fmt.template.label.probes import ANSWERS, CALLS, PROBE_TOOLS, RESULT, spelled_out
from instruct_fmt.template.trace.trace import prompt_tail
from instruct_fmt.types import Conversation, Marked, Record

if TYPE_CHECKING:
    from instruct_fmt.formatter import Formatter

__all__ = ["Bench", "ProbeRecord", "prints_tools"]

Outcome = Marked | RowError

_QUESTION, _ANSWER = ANSWERS[0]
_REASONED = ANSWERS[3]
# The two ways in which adapted rows write a message that is a call only: without content, and with an empty one.
_CALLS = (CALLS[0], CALLS[2])
WORD = "word"


def _conversations(call: list[dict[str, Any]]) -> dict[str, Conversation]:
    flow = [*call, RESULT, _ANSWER]
    return {
        "plain": Conversation([_QUESTION, _ANSWER]),
        "system": Conversation(ANSWERS[1]),
        "reasoning": Conversation(_REASONED),
        "tools": Conversation([_QUESTION, _ANSWER], PROBE_TOOLS),
        "call": Conversation(call, PROBE_TOOLS),
        "result": Conversation(flow, PROBE_TOOLS),
        "plain turns": Conversation([_QUESTION, _ANSWER] * 2),
        "reasoning turns": Conversation([*_REASONED] * 2),
        "tool turns": Conversation([*flow, _QUESTION, _ANSWER], PROBE_TOOLS),
    }


class Bench:
    """The probes of a chat template.

    Args:
        fmt: the formatter.
        marker: its marker.
    """

    def __init__(self, fmt: Formatter, marker: Marker) -> None:
        self.fmt = fmt
        self.template = marker.template
        self._policy = replace(
            marker.policy,
            train_on="assistant",
            history="auto",
            prompt_mismatch="as_rendered",
            allow_dropped=frozenset(),
        )
        self._done: dict[tuple[Any, ...], Outcome] = {}

    @cached_property
    def conversations(self) -> dict[str, Conversation]:
        """The probes by name; the call is written in the way that the template takes."""
        for call in _CALLS:
            outcome = self._marked(Conversation(call, PROBE_TOOLS), self._policy)
            if isinstance(outcome, Marked) or outcome.reason != "template-raised":
                return _conversations(call)
        return _conversations(_CALLS[0])

    def mark(self, name: str, **policy: Any) -> Outcome:
        """What the core makes of a probe. As rendered, and history is ``auto``, unless `policy` says so."""
        key = (name, *sorted(policy.items()))
        if key not in self._done:
            self._done[key] = self._marked(self.conversations[name], replace(self._policy, **policy))
        return self._done[key]

    def _marked(self, conversation: Conversation, policy: Policy) -> Outcome:
        try:
            return Marker(self.template, policy).mark(conversation)[-1]
        except RowError as error:
            return RowError(error.reason, error.path, spelled_out(error.found), error.expected, spelled_out(error.fix))

    def tail(self) -> str | None:
        """What the template adds to a question to make the model speak; None where it refuses a bare question."""
        scene = self.template.scene(self.conversations["plain"])
        try:
            return prompt_tail(self.template.trace(scene, 1, prompt=True), self.template.trace(scene, 1))
        except RowError:
            return None


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """A record template's probe: every column holds one word."""

    values: Mapping[str, str]
    marked: Outcome
    prompt: str

    @classmethod
    def of(cls, fmt: Formatter) -> ProbeRecord:
        """Render the record.

        Raises:
            UsageError: the trained column cannot be told from the template alone.
        """
        names = [name for name in fmt.source.columns if name not in fmt.stages.variables]
        values = {name: f"{WORD}{number}" for number, name in enumerate(names)}
        template = fmt.stages.record_template(None)
        try:
            marked = template.mark(Record(values), append_eos=fmt.stages.append_eos)
            return cls(values, marked, template.prompt(Record(values)).text)
        except RowError as error:
            return cls(values, error, "")


def prints_tools(marked: Marked) -> bool:
    """Whether the text holds something of the row that is no message's: its tools or documents."""
    return any(span.owner is None and span.kind != "literal" for span in marked.spans)
