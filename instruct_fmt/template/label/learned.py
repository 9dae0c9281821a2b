"""What short conversations show of a chat template: how it ends turns, what opens and closes its blocks.

In: a renderer and the tokenizer's added tokens. Out: `Learned`. Nothing here knows a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instruct_fmt.errors import RowError
from instruct_fmt.template.label.blocks import Blocks
from instruct_fmt.template.label.chat_renderer import EMPTY_CONTENTS, ChatRenderer, MessageForm
from instruct_fmt.template.label.completion import Completions
from instruct_fmt.template.label.probes import AFTER_CALLS, ANSWERS, CALLS, PARTS, PROBE_TOOLS, RESULT
from instruct_fmt.template.label.stops import StopFinder
from instruct_fmt.template.label.structure import structural_tokens
from instruct_fmt.template.trace.trace import Trace, TraceIndex, prompt_tail
from instruct_fmt.types import Added, Conversation


@dataclass(frozen=True, slots=True)
class Learned:
    """What is known of a chat template.

    Attributes:
        stops: what ends its turns.
        blocks: its markers.
        structural: the added tokens that structure a conversation.
        completions: finds what the model must write behind a prompt.
    """

    stops: StopFinder
    blocks: Blocks
    structural: frozenset[str]
    completions: Completions


def message_form(renderer: ChatRenderer) -> MessageForm:
    """How a template wants messages to be written; `renderer` writes them in the usual form."""
    in_parts = renderer.with_form(MessageForm(parts=True))
    parts = not _prints(renderer, ANSWERS[0]) and _prints(in_parts, PARTS)
    return MessageForm(parts, _contents_of_calls(in_parts if parts else renderer))


def learn(renderer: ChatRenderer, added: Sequence[Added], declared_stops: Iterable[str]) -> Learned:
    """Render short conversations, and look.

    Args:
        renderer: the template, with the form that it wants.
        added: the tokenizer's added tokens.
        declared_stops: EOS and other stop strings known beforehand.
    """
    return _Lesson(renderer, StopFinder(declared_stops, added)).learned([token.content for token in added])


def reasoning_block(renderer: ChatRenderer, blocks: Blocks) -> tuple[str, str, str] | None:
    """The block of reasoning in the template's prompts: its opener with blanks, its closer, and the blanks behind
    it; None where prompts have none."""
    for messages in (ANSWERS[0][:1], *(call[:-1] for call in AFTER_CALLS)):
        for trace in _probes(renderer, Conversation(messages), prompt=True):
            index = TraceIndex(trace)
            found = blocks.open(index.text[index.behind_fields(len(index.text), range(len(messages), 99)) :])
            if found is not None:
                return found.text, found.closers[0], "\n\n"
            closed = blocks.closed(index.text[index.behind_fields(len(index.text), range(len(messages), 99)) :])
            closer = blocks.last(closed or "")
            if closed is not None and closer is not None and not closed.startswith(closer):
                inside, _, behind = closed.rpartition(closer)
                return inside.rstrip() + ("\n" if inside[-1:].isspace() else ""), closer, behind
    return None


def _prints(renderer: ChatRenderer, messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the template prints the last message's content: some know only lists of parts."""
    traces = _probes(renderer, Conversation(list(map(dict, messages))))
    last = len(messages) - 1
    return any(run.field is not None and run.field.place == last for trace in traces for run in trace.runs)


def _contents_of_calls(renderer: ChatRenderer) -> dict[str, bool]:
    """For each form of an empty content whether the template prints a call with it, as history too where it can."""
    last = {form: _prints_call(renderer, form) for form in EMPTY_CONTENTS}
    both = {form: prints and _prints_call(renderer, form, RESULT, ANSWERS[0][-1]) for form, prints in last.items()}
    return both if any(both.values()) else last


def _prints_call(renderer: ChatRenderer, form: str, *behind: dict[str, Any]) -> bool:
    """Whether the template prints a call whose message has this for content, with more messages behind it."""
    for probe in CALLS[:2]:
        message = {**probe[-1], **EMPTY_CONTENTS[form]}
        for tools in (PROBE_TOOLS, None):
            traces = _probes(renderer, Conversation([*probe[:-1], message, *behind], tools))
            if any(run.field and run.field.path[:1] == ("tool_calls",) for trace in traces for run in trace.runs):
                return True
    return False


def _probes(renderer: ChatRenderer, conversation: Conversation, *, prompt: bool = False) -> list[Trace]:
    """The rendered probe; nothing where the template refuses it."""
    try:
        return [renderer.trace(renderer.scene(conversation), prompt=prompt)]
    except RowError:
        return []


class _Lesson:
    """One template's probes."""

    def __init__(self, renderer: ChatRenderer, stops: StopFinder) -> None:
        self._renderer, self._stops = renderer, stops

    def learned(self, added: Sequence[str]) -> Learned:
        self._learn_stops()
        blocks = Blocks(self._renderer.template.text, added, self._stops.is_stop)
        structural = frozenset(self._structural(blocks))
        always = self._always_prompts()
        completions = Completions(blocks, self._stops, self._headers(blocks), always_prompts=always)
        return Learned(self._stops, blocks, structural, completions)

    def _probes(self, conversation: Conversation, *, prompt: bool = False) -> list[Trace]:
        return _probes(self._renderer, conversation, prompt=prompt)

    def _learn_stops(self) -> None:
        with_unowned = not self._always_prompts()
        for probes, answer in ((ANSWERS, True), (CALLS, False), (AFTER_CALLS, True)):
            for messages in probes:
                for tools in (None, PROBE_TOOLS):
                    for trace in self._probes(Conversation(messages, tools)):
                        last = len(messages) - 1
                        own, behind = _tails(trace, last, with_unowned=with_unowned)
                        self._stops.learn(own, behind, answer=answer, opening=_opening(trace, last))

    def _structural(self, blocks: Blocks) -> set[str]:
        """The added tokens that structure a conversation."""
        conversations = [*ANSWERS, [*ANSWERS[0], *ANSWERS[0]], *CALLS, *([*call, RESULT] for call in CALLS)]
        probes = [(trace, messages) for messages in conversations for trace in self._probes(Conversation(messages))]
        question = Conversation(ANSWERS[0][:1])
        prompts = zip(self._probes(question, prompt=True), self._probes(question), strict=False)
        tails = [blocks.apart(prompt_tail(prompt, plain)) for prompt, plain in prompts]
        return structural_tokens(probes, tails, self._stops)

    def _headers(self, blocks: Blocks) -> set[str]:
        """The markers with which turns begin: the first of each literal text between what two speakers say."""
        messages = [*ANSWERS[0], *ANSWERS[0]]
        user = [TraceIndex(trace) for trace in self._probes(Conversation(messages))]
        prompts = [TraceIndex(trace) for trace in self._probes(Conversation(messages[:3]), prompt=True)]
        leads = [
            trace.text[trace.behind_fields(own[0], range(2, 3)) : own[0]] for trace in user if (own := trace.content(2))
        ]
        leads += [trace.text[trace.behind_fields(len(trace.text), range(3, 4)) :] for trace in prompts]
        found = set()
        for lead in leads:
            markers = [marker[0] for marker in blocks.markers(lead)]
            ends = [place for place, marker in enumerate(markers) if self._stops.is_stop(marker)]
            found.update(markers[ends[-1] + 1 if ends else 0 :][:1])
        return found

    def _always_prompts(self) -> bool:
        """Whether the template prints a generation prompt whether it is asked for or not."""
        scene = self._renderer.scene(Conversation(ANSWERS[0][:1]))
        try:
            plain, prompt = self._renderer.trace(scene), self._renderer.trace(scene, prompt=True)
        except RowError:
            return False
        last = plain.runs[-1] if plain.runs else None
        return plain.text == prompt.text and last is not None and last.owner is None


def _tails(trace: Trace, last: int, *, with_unowned: bool) -> tuple[str, str]:
    """The literal text behind the last character of message `last`: its own, and what follows; empty if it is not."""
    own, behind = "", ""
    for run, text in reversed(list(_pieces(trace))):
        if run.field is not None:
            return (own, behind) if run.field.place == last else ("", "")
        if run.owner is not None:
            own = text + own
        elif own:
            own = text + own  # text without an owner inside the turn
        elif with_unowned:
            behind = text + behind
    return "", ""


def _opening(trace: Trace, last: int) -> tuple[str, str]:
    """The literal text behind what was said before message `last`, and that in front of the last that it says."""
    index = TraceIndex(trace)
    own = index.content(last)
    if own is None:
        return "", ""
    fields = [(start, end) for start, end, run in index.pieces if run.field is not None and end <= own[1]]
    before = fields[-2][1] if len(fields) > 1 else 0
    return index.text[index.behind_fields(own[0], range(last, last + 1)) : own[0]], index.text[before : fields[-1][0]]


def _pieces(trace: Trace) -> Iterable[tuple[Any, str]]:
    return ((run, trace.text[start:end]) for start, end, run in trace.positions())
