"""One conversation on its way to a marked text.

In: a conversation, its template and the policies. Out: its turns, proven one by one, in the text of the row: the
rendering of the whole conversation where the last trained turn stands behind its prompt there, otherwise that prompt
and the turn's completion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from instruct_fmt.common.reasoning import REASONING
from instruct_fmt.errors import RowError, let_go, shown
from instruct_fmt.template.label.chat_renderer import Scene
from instruct_fmt.template.label.chat_template import ChatTemplate
from instruct_fmt.template.label.completion import Completion, field_dropped
from instruct_fmt.template.label.coverage import check_bare, check_silent, printed_fields
from instruct_fmt.template.label.dropped import (
    check_unprinted,
    check_unprinted_calls,
    dropped_fields,
    unprinted,
    unprinted_calls,
)
from instruct_fmt.template.label.forms import Forms
from instruct_fmt.template.label.ground import Ground
from instruct_fmt.template.label.marked import mark_turns, speaks
from instruct_fmt.template.label.policy import UNSERVED, Policy
from instruct_fmt.template.label.refused import history_rewritten, prompt_not_prefix
from instruct_fmt.template.label.speech import Speech
from instruct_fmt.template.label.turn import Turn, check_foreign, check_stops, find_header, find_turn, joined
from instruct_fmt.template.label.weights import weights_of
from instruct_fmt.template.trace.trace import TraceIndex, joined_traces, prompt_tail
from instruct_fmt.types import Conversation, Marked, Weighted


def changes_content(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a call's empty content was written otherwise, for the template's sake."""
    if not before.get("tool_calls") or before.get("content"):
        return False
    return ("content" in before) != ("content" in after) or after.get("content", "") is None


def _as_spoken(turn: Turn, size: int, text: str) -> Turn:
    """A turn as long as it is when it is the last one, and a stop right behind it; no separator is its own."""
    end = turn.start + size
    if turn.end <= end or (turn.stopped and not text[end : turn.stop].strip()):
        return turn
    return replace(turn, stop=end, end=end)


def _reasons(found: Completion) -> bool:
    """Whether a completion has the turn's field of reasoning."""
    return any(run.field.path[:1] and run.field.path[0] in REASONING for run in found.trace.runs if run.field)


def _says(error: RowError) -> bool:
    """Whether a field is left out that must not vanish from history either: any but reasoning."""
    return error.reason == "field-dropped" and not any(name in error.path for name in REASONING)


class Turns:
    """One conversation: its traces, its turns, and what was counted.

    Args:
        template: the chat template.
        policy: what is trained.
        conversation: the row.
    """

    def __init__(self, template: ChatTemplate, policy: Policy, conversation: Conversation) -> None:
        self.template, self.policy = template, policy
        self.conversation = conversation
        self.scene: Scene = template.scene(conversation)
        self.messages = self.scene.plain_messages
        self.index = TraceIndex(template.proven(self.scene))
        self.counts: Counter[str] = Counter(turns=sum(speaks(message) for message in self.messages))
        pairs = zip(conversation.messages, self.messages, strict=True)
        self.counts["call_content_changed"] = sum(changes_content(before, after) for before, after in pairs)
        self._beginnings: dict[tuple[int, bool], TraceIndex] = {(len(self.messages), False): self.index}
        self._forms = Forms(template)
        self._shown = len(self.messages)

    def beginning(self, count: int, *, prompt: bool = False, proven: bool = False) -> TraceIndex:
        """The trace of the first messages, `proven` by plain Jinja; several checks of a turn look at the same ones."""
        key = (count, prompt)
        if key not in self._beginnings:
            trace = self.template.proven if proven else self.template.trace
            self._beginnings[key] = TraceIndex(trace(self.scene, count, prompt=prompt))
        return self._beginnings[key]

    def groups(self, chosen: Sequence[int]) -> list[range]:
        """The chosen messages as turns: a message that the template joins to the one before it continues its turn."""
        groups: list[range] = []
        for index in chosen:
            first = index
            while first and speaks(self.messages[first - 1]) and self._joined(first):
                first -= 1
            if first < index and self.conversation.train[first:index].count(False):
                raise RowError(
                    "start-unknown",
                    f"$.messages[{index}]",
                    "a turn that continues a message which is not trained",
                    "turns that are trained as a whole",
                    "train both messages, or neither",
                )
            if groups and groups[-1][-1] >= first:
                first = groups.pop()[0]
            groups.append(range(first, index + 1))
        return groups

    def _joined(self, index: int) -> bool:
        return joined(self.index, index, self._tail(index), self.template.stops)

    def _tail(self, index: int) -> str:
        """The literal text with which the generation prompt before message `index` ends."""
        return prompt_tail(self.beginning(index, prompt=True).trace, self.beginning(index).trace)

    # the last trained turn: it says what the row's text is

    def last_turn(self, members: range) -> Turn:
        """The last trained turn of the model's, in the row's text, which from now on is `index`.

        Raises:
            RowError: the turn cannot be served, or text of others is in it, or a field of its own is not.
        """
        prompt = self._prompt(members[0], proven=True)
        if prompt is None:
            raise RowError(
                "no-prompt",
                f"$.messages[{members[0]}]",
                "a conversation that begins with the assistant, which the template cannot be asked for",
                "a message before the trained turn, so that the template can make the model speak",
                "put a user or system message in front",
            )
        if self.policy.prompt_mismatch == "as_rendered":
            return self._as_rendered(members, prompt)
        self.beginning(members[-1] + 1, proven=True)
        completion = self.completion(members, prompt)
        whole = self.agrees(prompt.text + completion.trace.text)
        if not whole and self.policy.prompt_mismatch == "error":
            raise prompt_not_prefix(members[-1], prompt.text, self.index.text)
        self.counts.update(completion.counts)
        if whole:
            last = members[-1] == len(self.messages) - 1
            turn = find_turn(self.index, members, len(prompt.text), self.template.stops, last=last)
            turn = self._with_behind(_as_spoken(turn, len(completion.trace.text), self.index.text), completion)
        else:
            turn = self._assemble(members, prompt, completion)
        try:
            return self.checked(turn, last=True)
        except RowError as error:
            formed = self._formed(error, members, prompt)
            if formed is None:
                raise
            self.counts.update(formed.counts)
            return self.checked(self._assemble(members, prompt, formed), last=True)

    def _formed(self, error: RowError, members: range, prompt: TraceIndex) -> Completion | None:
        """The completion that options state, in place of one that was refused."""
        ground = Ground.of(prompt, self.beginning(members[-1] + 1), members, self.template.stops)
        return self._forms.completion(error, ground, self.speech(members), self.policy)

    def _assemble(self, members: range, prompt: TraceIndex, completion: Completion) -> Turn:
        """Put the row together from the prompt, the completion, and what the template prints behind it."""
        start = len(prompt.text)
        self.index = TraceIndex(joined_traces(prompt.trace, completion.trace, completion.rest))
        self.counts["assembled"] += 1
        self._shown = members[-1] + 1
        self.counts["messages_behind_left_out"] += len(self.messages) - self._shown
        end = start + len(completion.trace.text)
        turn = Turn(members[0], members[-1], start, start + completion.stop, end)
        return self._with_behind(turn, completion)

    def _with_behind(self, turn: Turn, completion: Completion) -> Turn:
        """The turn, with how much of what follows it does so when it is the last one, too: tokens may cross its end."""
        rest = completion.rest.text
        ends_alike = turn.end - turn.start == len(completion.trace.text)
        return replace(turn, behind=len(rest)) if ends_alike and self.index.text.startswith(rest, turn.end) else turn

    def completion(self, members: range, prompt: TraceIndex) -> Completion:
        """What the model must write behind the prompt.

        Raises:
            RowError: that cannot be told, neither by the template nor by the options.
        """
        whole = self.beginning(members[-1] + 1)
        ground = Ground.of(prompt, whole, members, self.template.stops)
        speech = self.speech(members)
        if all(whole.content(member) is None for member in members):
            self._check_fields(whole, ground.turn)
        try:
            found = self.template.completions.of(ground, speech)
            if self._unasked(found, prompt, members):
                raise self.template.completions.no_prompt(found, speech)
            if speech.reasons() and not _reasons(found) and not self.policy.allow_dropped.intersection(REASONING):
                raise field_dropped(speech)
            return found
        except RowError as error:
            formed = self._formed(error, members, prompt)
            if formed is None:
                raise
            return formed

    def _unasked(self, found: Completion, prompt: TraceIndex, members: range) -> bool:
        """Whether a header stands before the turn's own text, and the template adds nothing to make the model speak."""
        own = next(((start, run.field) for start, _, run in found.trace.positions() if run.field is not None), None)
        if own is None or own[1] is None or own[1].path[:1] == ("tool_calls",):
            return False
        lead = found.trace.text[: own[0]]
        return self.template.blocks.asks(lead) and self.beginning(members[0]).text == prompt.text

    def speech(self, members: range) -> Speech:
        """What the messages of a turn say."""
        return Speech(self.messages, members)

    # earlier turns

    def turn(self, members: range) -> Turn | None:
        """A trained turn before the last one, in the row's text; None where it is left out.

        Raises:
            RowError: with `history="error"`, a turn that is not written as it is generated.
        """
        prompt = self._prompt(members[0])
        if prompt is None:
            self.counts["turns_skipped:no-prompt"] += 1
            return None
        if self.policy.history == "as_rendered" or self.policy.prompt_mismatch == "as_rendered":
            start = self._rendered_start(members[0], prompt)
            return self.checked(find_turn(self.index, members, start, self.template.stops, last=False), last=False)
        try:
            turn = self._in_place(members, prompt)
        except RowError as error:
            if error.reason not in UNSERVED or self.policy.history == "error" or _says(error):
                raise
            self.counts[f"turns_skipped:{error.reason}"] += 1
            return None
        if turn is None and self.policy.history == "error":
            raise history_rewritten(members[-1])
        if turn is None:
            self.counts["turns_skipped:history"] += 1
            return None
        return self.checked(turn, last=False)

    def _in_place(self, members: range, prompt: TraceIndex) -> Turn | None:
        """The turn inside the row's text, if everything up to its end reads as it does when it is generated."""
        completion = self.completion(members, prompt)
        spoken = completion.trace.text
        if not completion.stopped and not self.index.text.startswith(prompt.text + spoken):
            spoken = spoken.rstrip()  # blanks behind a last turn without a stop may belong to it alone
        if not self.agrees(prompt.text + spoken):
            return None
        turn = find_turn(self.index, members, len(prompt.text), self.template.stops, last=False)
        if completion.stopped:
            return self._with_behind(turn, completion) if turn.end == len(prompt.text) + len(spoken) else None
        return _as_spoken(turn, len(spoken), self.index.text)

    def agrees(self, text: str) -> bool:
        """Whether the row's text begins with a turn as it is generated."""
        return self.index.text.startswith(text)

    def checked(self, turn: Turn, *, last: bool) -> Turn:
        """The turn with what of it is trained.

        Raises:
            RowError: text of others is in it, or a field of its own is not.
        """
        check_foreign(self.index, turn)
        check_stops(self.index, turn, self.template.stops.declared)
        if last or self.policy.history != "as_rendered":
            self._check_fields(self.index, turn)
        return self._ranges(turn)

    def _prompt(self, index: int, *, proven: bool = False) -> TraceIndex | None:
        """The generation prompt before message `index`; None where the template cannot begin with the assistant."""
        asked = any(message.get("role") not in ("system", "developer") for message in self.messages[:index])
        try:
            prompt = self.beginning(index, prompt=True, proven=proven)
        except RowError:
            if asked:
                raise
            return None
        return prompt if index or prompt.text.strip() else None

    # as rendered: where a turn stands that is not as served

    def _as_rendered(self, members: range, prompt: TraceIndex) -> Turn:
        last = members[-1] == len(self.messages) - 1
        start = self._rendered_start(members[0], prompt)
        return self.checked(find_turn(self.index, members, start, self.template.stops, last=last), last=True)

    def _rendered_start(self, index: int, prompt: TraceIndex) -> int:
        if self.index.text.startswith(prompt.text):
            return len(prompt.text)
        self.counts["as_rendered"] = 1
        start = find_header(self.index, index, self._tail(index))
        if start is None:
            raise RowError(
                "start-unknown",
                f"$.messages[{index}]",
                f"no part of the generation prompt {shown(prompt.text[-60:])} before the turn",
                "the prompt, or its header",
                "use another template for this row",
            )
        return start

    # checks

    def _check_fields(self, trace: TraceIndex, turn: Turn) -> None:
        for index in turn.members:
            for path, text in dropped_fields(trace, turn, index, self.messages[index]):
                name = path.lstrip(".").split("[")[0].split(".")[0]
                if {name, *(REASONING if name in REASONING else ())} & self.policy.allow_dropped:
                    continue
                raise RowError(
                    "field-dropped",
                    f"$.messages[{index}]{path}",
                    f"{shown(text)}, which the template leaves out of the turn",
                    "every field of a trained turn in its text",
                    "use a template that knows the field, or remove it",
                    changes=[let_go(name)],
                )

    def _ranges(self, turn: Turn) -> Turn:
        """What of the turn is trained: all of it, or what `{% generation %}` blocks enclose, the stop included."""
        if not self.index.has_generation:
            return replace(turn, ranges=((turn.start, turn.end),))
        ranges = self.index.generated(turn.start, turn.end)
        if not ranges:
            raise RowError(
                "field-dropped",
                f"$.messages[{turn.index}]",
                "no {% generation %} block around the turn",
                "a block around each trained turn, as elsewhere in the template",
                "mend the template, or remove its generation tags",
            )
        if self.index.literal_until(turn.start) >= ranges[0][0] and self.policy.prompt_mismatch != "as_rendered":
            ranges = ((turn.start, ranges[0][1]), *ranges[1:])  # what the prompt lacks, the model must write
        if self.index.literal_until(ranges[-1][1]) >= turn.end:
            ranges = (*ranges[:-1], (ranges[-1][0], turn.end))  # the model learns to stop only if it sees the stop
        return replace(turn, ranges=ranges)

    def other_role(self, index: int) -> Turn | None:
        """A trained message that is not the assistant's: its own text and the stop that follows it."""
        content = self.index.content(index)
        if index >= self._shown:
            return None
        if content is None:
            raise RowError(
                "field-dropped",
                f"$.messages[{index}]",
                "nothing of the message in the text",
                "its content",
                "use a template that prints this role",
            )
        turn = find_turn(self.index, range(index, index + 1), content[0], self.template.stops, last=False)
        end = turn.end if turn.stopped else content[1]
        turn = Turn(index, index, content[0], min(turn.stop, end), end, ((content[0], end),))
        check_foreign(self.index, turn)
        return turn

    def marked(self, turns: Sequence[Turn]) -> Marked:
        """The row with the trained turns.

        Raises:
            RowError: a message that says something is not in the text.
        """
        allowed = self.policy.allow_dropped
        check_unprinted(self._unprinted(), self.messages)
        if "tool_calls" not in allowed:
            calls = unprinted_calls(self.index.pieces, self.messages[: self._shown])
            check_unprinted_calls(calls, self.messages)
        printed = printed_fields(self.index.text, self.index.pieces)
        check_silent(self.messages[: self._shown], printed, allowed)
        self.counts["turns_silent"] = check_bare(self.messages, [turn.members for turn in turns], printed)
        served = self.policy.prompt_mismatch != "as_rendered" and self.policy.train_on != "all"
        seams = [turn for turn in turns if served and speaks(self.messages[turn.index])]
        if self.policy.history == "as_rendered":
            seams = seams[-1:]
        messages = self.messages[: self._shown]
        append_eos, weights = self.policy.append_eos, self.policy.loss_weights
        found = self._weights(turns)
        marked = mark_turns(self.index, messages, turns, self.counts, append_eos=append_eos, seams=seams, weights=found)
        factor = self._factors()[turns[-1].index]
        return replace(marked, eos_weight=weights.of_part("last_terminator") * factor) if weights else marked

    def _weights(self, turns: Sequence[Turn]) -> tuple[Weighted, ...]:
        """What of the turns does not count once."""
        weights = self.policy.loss_weights
        if not weights.parts or self.policy.train_on == "all":
            return ()
        return weights_of(self.index, turns, weights, self._factors(), self._says)

    def _factors(self) -> Sequence[float]:
        """What each message counts."""
        by = self.policy.loss_weights.of_part("message")
        flags = self.conversation.train
        own = [flags[place] if place < len(flags) else None for place in range(len(self.messages))]
        return [flag * by if isinstance(flag, float) else 1.0 for flag in own]

    def _says(self, start: int, end: int) -> bool:
        """Whether a stretch of a field is a text."""
        return start < end

    def _unprinted(self) -> list[int]:
        """Messages of other roles that should be in the text and are not."""
        messages = self.messages[: self._shown]
        return unprinted(self.index.text, self.index.pieces, messages, self.policy.allow_dropped)
