"""Forms that a rendering does not show: how an empty block of reasoning is closed, and what the user states.

In: a turn whose completion the template cannot tell, and the options that say what to do. Out: its completion.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from instruct_fmt.common.reasoning import REASONING, split_reasoning
from instruct_fmt.errors import RowError
from instruct_fmt.template.label.completion import Completion, Completions, supplied_by
from instruct_fmt.template.label.ground import Ground
from instruct_fmt.template.label.probes import AFTER_CALLS, ANSWERS, PROBE_TOOLS
from instruct_fmt.template.trace.origins import Field, Run
from instruct_fmt.template.trace.trace import Trace, TraceIndex, joined_traces, part_of
from instruct_fmt.types import Conversation

if TYPE_CHECKING:
    from instruct_fmt.template.label.blocks import Block
    from instruct_fmt.template.label.chat_renderer import ChatRenderer
    from instruct_fmt.template.label.chat_template import ChatTemplate
    from instruct_fmt.template.label.policy import Policy
    from instruct_fmt.template.label.speech import Speech

# Refusals that a stated form answers.
FORMED = frozenset(["block-twice", "empty-reasoning", "field-dropped", "field-order", "guard", "prefill-unknown"])
# Template variables that say whether and how a model reasons, and the values that are worth a try.
SWITCHES: dict[str, tuple[Any, ...]] = {
    "enable_thinking": (True, False),
    "thinking": (True, False),
    "preserve_thinking": (True,),
    "clear_thinking": (False,),
    "reasoning_effort": ("high", "none"),
}


def switches_of(source: str) -> Iterator[tuple[str, Any]]:
    """The switches that a template reads, with the values to try."""
    for name, values in SWITCHES.items():
        if re.search(rf"\b{name}\b", source):
            yield from ((name, value) for value in values)


class ClosingForms:
    """How a template closes a block of reasoning that has nothing in it."""

    def __init__(self, renderer: ChatRenderer) -> None:
        self._renderer = renderer
        self._known: dict[str, str | None] = {}

    def of(self, block: Block) -> str | None:
        """What the model writes to close an empty block, and what stands before its answer; None where unknown."""
        if block.text not in self._known:
            self._known[block.text] = next(self._found(block), None)
        return self._known[block.text]

    def _found(self, block: Block) -> Iterator[str]:
        """By a switch whose prompt goes on from this one; by a turn with reasoning, less the reasoning; last, by what
        rows write themselves, where the template leaves that as it is."""
        for messages, tools in ((ANSWERS[0][:1], None), *((call[:-1], PROBE_TOOLS) for call in AFTER_CALLS)):
            prompt = self._rendered(messages, tools, prompt=True)
            if prompt is None or not prompt.text.endswith(block.text):
                continue
            for name, value in switches_of(self._renderer.template.text):
                other = self._rendered(messages, tools, prompt=True, **{name: value})
                if other is not None and other.text.startswith(prompt.text):
                    yield from _closing(other.text[len(prompt.text) :], block)
            yield from self._by_reasoning(messages, tools, block)
            yield from self._as_rows_write(messages, tools, prompt, block)

    def _by_reasoning(self, messages: list[dict[str, Any]], tools: Any, block: Block) -> Iterator[str]:
        answer = {**ANSWERS[-1][-1], "reasoning": ANSWERS[-1][-1]["thinking"]}
        whole = self._rendered([*messages, answer], tools)
        if whole is None:
            return
        index = len(messages)
        reasoning = [
            end
            for _, end, run in whole.pieces
            if run.field and run.field.place == index and run.field.path[0] in REASONING
        ]
        content = whole.first_of(index, ("content",), reasoning[-1] if reasoning else 0)
        if reasoning and content is not None:
            yield from _closing(whole.text[reasoning[-1] : content], block)

    def _as_rows_write(
        self, messages: list[dict[str, Any]], tools: Any, prompt: TraceIndex, block: Block
    ) -> Iterator[str]:
        """The usual form, with the opener's own blanks in front of the closer."""
        form = f"{block.text[len(block.opener) :]}{block.closers[0]}\n\n"
        thought, answer = ANSWERS[-1][-1]["thinking"], ANSWERS[-1][-1]["content"]
        content = f"{block.text}{thought}{form}{answer}"
        whole = self._rendered([*messages, {"role": "assistant", "content": content}], tools)
        if whole is not None and whole.text.startswith(f"{prompt.text}{thought}{form}{answer}"):
            yield form

    def _rendered(
        self, messages: list[dict[str, Any]], tools: Any, *, prompt: bool = False, **variables: Any
    ) -> TraceIndex | None:
        try:
            scene = self._renderer.scene(Conversation(messages, tools, template_kwargs=variables))
            return TraceIndex(self._renderer.trace(scene, prompt=prompt))
        except RowError:
            return None


def _closing(text: str, block: Block) -> Iterator[str]:
    if any(closer in text for closer in block.closers):
        yield text


class Forms:
    """Completions by what the options state, for one template."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template

    def completion(self, error: RowError, ground: Ground, speech: Speech, policy: Policy) -> Completion | None:
        """The completion of a turn that the template refused with `error`; None where no option covers it."""
        empty = error.reason == "empty-reasoning"
        if empty and policy.empty_reasoning != "close":
            return None
        block = self._template.completions.blocks.open(ground.prompt_tail)
        form = self._template.closing.of(block) if empty and block is not None else None
        if form is not None:
            return self._closed(form, ground)
        if policy.completion_format is None or error.reason not in FORMED:
            return None
        guarded = error.reason == "guard"
        if speech.opens_block() and split_reasoning(speech.content()) is None:
            return None  # a block that the row never closes is no finished turn
        found = self._formatted(policy.completion_format, ground, speech, block, guarded=guarded)
        if block is not None and not any(closer in found.trace.text for closer in block.closers):
            return None  # the answer would be a thought
        closed = self._template.blocks.closed(ground.prompt_tail)
        markers = self._template.blocks.markers(closed or "")
        if markers and found.trace.text.lstrip().startswith(markers[0][0]):
            return None  # the block would be opened twice
        return found

    def _closed(self, form: str, ground: Ground) -> Completion:
        """A block that is closed as the template closes it, and the turn behind it."""
        lead = _literal(form, ground)
        spoken = joined_traces(lead, part_of(ground.whole, ground.own, ground.turn.end))
        rest = part_of(ground.whole, ground.turn.end, len(ground.whole.text))
        found = Completion(spoken, len(form) + ground.turn.stop - ground.own, rest)
        found.counts["reasoning_closed:option"] += 1
        return found

    def _formatted(
        self, form: str, ground: Ground, speech: Speech, block: Block | None, *, guarded: bool
    ) -> Completion:
        """The turn as the user states it, less what the prompt supplies, with the stop of the template."""
        split = "{reasoning}" in form
        fields = dict(_fields(self._template.completions, ground, speech, split=split))
        parts = []
        for text, name, _, _ in string.Formatter().parse(form):
            parts += [_literal(text, ground), fields.pop(name) if name else Trace("", ())]
        calls = fields.pop("calls", Trace("", ()))
        whole = TraceIndex(joined_traces(*parts, calls))
        start = supplied_by(ground.prompt_tail, whole.text, block)
        spoken = part_of(whole, start, len(whole.text))
        turn = ground.turn
        stop = part_of(ground.whole, turn.stop, turn.end)
        supplied = ground.prompt_tail[self._template.completions.shared(ground) :]
        if stop.text not in self._template.stops.declared and (guarded or stop.text in supplied):
            stop = Trace("", ())  # it ends what the template talks about, not what the model says
        found = Completion(joined_traces(spoken, stop), len(spoken.text), Trace("", ()))
        found.counts["completion_formatted"] += 1
        return found


def _fields(completions: Completions, ground: Ground, speech: Speech, *, split: bool) -> Iterator[tuple[str, Trace]]:
    """What a format may name: the turn's reasoning, its content, and its calls as the template writes them."""
    index, content, start = speech.index, speech.content(), 0
    name, reasoning = speech.reasoning()
    offset, place = 0, Field(index, (name,))
    inline = split_reasoning(content) if split and not reasoning and speech.opens_block() else None
    if inline is not None:
        reasoning, offset, content, start = inline
        place = Field(index, ("content",))
    yield "reasoning", _copied(reasoning, place, offset, ground)
    yield "content", _copied(content, Field(index, ("content",)), start, ground)
    first = ground.whole.first_of(index, ("tool_calls",), ground.lead)
    if first is not None:
        printed = ground.whole.last_copied(index, ("content",))[2]
        begin = printed if 0 < printed <= first else ground.lead + completions.shared(ground)
        yield "calls", part_of(ground.whole, begin, ground.turn.stop)


def _copied(text: str, field: Field, offset: int, ground: Ground) -> Trace:
    return Trace(text, (Run(len(text), field, offset, field.place, ground.generated),) if text else ())


def _literal(text: str, ground: Ground) -> Trace:
    return Trace(text, (Run(len(text), None, -1, ground.members[0], ground.generated),) if text else ())
