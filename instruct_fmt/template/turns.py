"""Which characters of a conversation are trained, proven turn by turn.

In: a conversation and the policies. Out: `Marked` texts: one for the conversation, or, with `history="expand"`, one
for each trained turn. What cannot be proven raises `RowError`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from instruct_fmt.errors import RowError, shown
from instruct_fmt.template.chat import ChatTemplate, Scene
from instruct_fmt.template.marking import chosen_turns, from_row, mark_turns, message_name, spans_of, speaks
from instruct_fmt.template.provenance import Trace
from instruct_fmt.template.spans import (
    REASONING,
    TraceIndex,
    Turn,
    check_foreign,
    dropped_fields,
    find_header,
    find_turn,
    joined,
    prompt_tail,
    same_words,
)
from instruct_fmt.types import Conversation, Marked

History = Literal["auto", "as_rendered", "last", "expand", "error"]
NO_THINKING = {"enable_thinking": False}


@dataclass(frozen=True, slots=True)
class Policy:
    """What is trained of a conversation; the names are those of `compile`."""

    train_on: str | tuple[str, ...] = "assistant"
    history: History = "auto"
    prompt_mismatch: Literal["error", "as_rendered"] = "error"
    allow_dropped: frozenset[str] = frozenset()
    append_eos: bool = True


class Marker:
    """Marks the trained characters of conversations under one template and one policy."""

    def __init__(self, template: ChatTemplate, policy: Policy) -> None:
        self.template = template
        self.policy = policy

    def mark(self, conversation: Conversation) -> list[Marked]:
        """The marked texts of one conversation.

        Raises:
            RowError: the row cannot be rendered, or its mask cannot be proven.
        """
        messages = conversation.messages
        if not messages:
            raise RowError("no-messages", "$.messages", "no message", "at least one", "leave the row out")
        chosen = chosen_turns(conversation, self.policy.train_on)
        if not chosen:
            raise RowError(
                "no-trained-turn",
                "$.messages",
                f"the roles {shown([message.get('role') for message in messages])}",
                "a message that is to be trained",
                "leave the row out, or say with train_on what is to be trained",
            )
        if self.policy.train_on == "all":
            return [self._everything(conversation)]
        if self.policy.history == "expand":
            return [self._expanded(conversation, index) for index in chosen]
        return [self._conversation(conversation, chosen[-1:] if self.policy.history == "last" else chosen)]

    def job(self, conversation: Conversation) -> Job:
        """The conversation on its way."""
        return Job(self.template, self.policy, conversation)

    def _conversation(self, conversation: Conversation, chosen: Sequence[int]) -> Marked:
        job = self.job(conversation)
        speaking = [index for index in chosen if speaks(conversation.messages[index])]
        turns = [turn for members in job.groups(speaking) if (turn := job.turn(members)) is not None]
        others = [job.other_role(index) for index in chosen if index not in speaking]
        if not turns and not others and job.counts["turns_skipped:no_prompt"]:
            raise RowError(
                "start-unknown",
                "$.messages[0]",
                "a conversation that begins with the assistant",
                "a message before the trained turn, so that the template can make the model speak",
                "put a user or system message in front",
            )
        if not turns and not others:
            raise RowError(
                "history-rewritten",
                f"$.messages[{speaking[-1]}]",
                "no turn that the template writes as it is generated",
                "a trained turn that reads the same as history and as the last turn",
                'history="expand" makes one row of each turn; history="as_rendered" trains what is there',
            )
        return job.marked(sorted([*turns, *others], key=lambda turn: turn.start))

    def _expanded(self, conversation: Conversation, index: int) -> Marked:
        part = replace(conversation, messages=conversation.messages[: index + 1], train=conversation.train[: index + 1])
        return self._conversation(part, [index])

    def _everything(self, conversation: Conversation) -> Marked:
        job = self.job(conversation)
        size = len(job.index.text)
        last = len(conversation.messages) - 1
        turn = Turn(last, last, 0, size, size, ((0, size),))
        return job.marked([turn])

    def prompt(self, conversation: Conversation, turn: int = -1) -> Marked:
        """The generation prompt of a trained turn: what a server would render for the messages before it.

        Raises:
            RowError: there is no such turn, or the template refuses the messages before it.
        """
        chosen = [
            index for index in chosen_turns(conversation, self.policy.train_on) if speaks(conversation.messages[index])
        ]
        try:
            index = chosen[turn]
        except IndexError:
            raise RowError(
                "no-trained-turn",
                "$.messages",
                f"{len(chosen)} trained turns",
                f"a turn {turn}",
                "ask for a turn that is there",
            ) from None
        messages = conversation.messages[:index]
        trace = TraceIndex(self.template.trace(self.template.scene(conversation), index, prompt=True))
        return Marked(trace.text, (), spans_of(trace, (), message_name), from_row=from_row(trace, messages))


class Job:
    """One conversation on its way: its traces and what was counted."""

    def __init__(self, template: ChatTemplate, policy: Policy, conversation: Conversation) -> None:
        self.template, self.policy = template, policy
        self.conversation = conversation
        self.scene: Scene = template.scene(conversation)
        self.messages = self.scene.plain_messages
        self.trace: Trace = template.proven(self.scene)
        self.index = TraceIndex(self.trace)
        self.counts: Counter[str] = Counter(turns=sum(speaks(message) for message in self.messages))
        self._beginnings: dict[tuple[int, bool], Trace] = {}

    def _beginning(self, count: int, *, prompt: bool = False) -> Trace:
        """The trace of the first messages; several checks of a turn look at the same ones."""
        key = (count, prompt)
        if key not in self._beginnings:
            self._beginnings[key] = self.template.trace(self.scene, count, prompt=prompt)
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
        return prompt_tail(self._beginning(index, prompt=True), self._beginning(index))

    def turn(self, members: range) -> Turn | None:
        """The trained turn of some messages; None where the history policy leaves it out."""
        first, index = members[0], members[-1]
        last = index == len(self.messages) - 1
        prompt = self._prompt(first)
        if prompt is None:
            self.counts["turns_skipped:no_prompt"] += 1
            return None
        policy = self.policy.history
        if not last and policy in ("auto", "error", "last"):
            turn = self._as_generated(members, prompt)
            if turn is None:
                if policy == "error":
                    raise self._rewritten(index)
                self.counts["turns_skipped:history"] += 1
                return None
        else:
            start = self._start(first, prompt, last)
            turn = find_turn(self.index, members, start, self.template.stops, last=last)
        return self.checked(turn, last=last)

    def checked(self, turn: Turn, *, last: bool) -> Turn:
        """The turn with what of it is trained.

        Raises:
            RowError: text of others is in it, or a field of its own is not.
        """
        self._check(turn, last)
        return self._ranges(turn, last)

    def _prompt(self, index: int) -> Trace | None:
        """The generation prompt before message `index`; None where the template cannot begin with the assistant."""
        try:
            return self._beginning(index, prompt=True)
        except RowError:
            if index:
                raise
            return None

    def _start(self, index: int, prompt: Trace, last: bool) -> int:
        if self.index.text.startswith(prompt.text):
            return len(prompt.text)
        if self.policy.prompt_mismatch == "error" and last:
            raise self._mismatch(index, prompt)
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

    def _as_generated(self, members: range, prompt: Trace) -> Turn | None:
        """The turn inside the whole text, if it reads exactly as it does when it is the last one."""
        first, stops = members[0], self.template.stops
        alone = TraceIndex(self._beginning(members[-1] + 1))
        if not alone.text.startswith(prompt.text):
            return None
        model = find_turn(alone, members, len(prompt.text), stops, last=True)
        here, there = self.index.content(first), alone.content(first, model.start)
        if here and there:
            start = here[0] - (there[0] - model.start)
        elif self.index.text.startswith(prompt.text):
            start = len(prompt.text)
        else:
            return None
        if start < 0 or not _has_header(self.index.text[:start], self._tail(first)):
            return None
        turn = find_turn(self.index, members, start, stops, last=False)
        if not model.stopped:  # blanks behind a last turn without a stop belong to it alone
            model = replace(model, stop=min(model.stop, model.start + turn.stop - turn.start))
        if not self._same(turn, alone, model):
            return None
        ends = self.index.text[turn.stop : turn.end].strip(), alone.text[model.stop : model.end].strip()
        return turn if ends[0] == ends[1] or not model.stopped else None

    def _same(self, turn: Turn, alone: TraceIndex, model: Turn) -> bool:
        """Whether the turn reads as it does in the text that it ends."""
        return same_words(self.index, turn, alone, model)

    def _check(self, turn: Turn, last: bool) -> None:
        check_foreign(self.index, turn)
        if not last and self.policy.history == "as_rendered":
            return
        dropped = [
            (index, path, text)
            for index in range(turn.first, turn.index + 1)
            for path, text in dropped_fields(self.index, turn, index, self.messages[index])
        ]
        for index, path, text in dropped:
            name = path.lstrip(".").split("[")[0].split(".")[0]
            if {name, *(REASONING if name in REASONING else ())} & self.policy.allow_dropped:
                continue
            raise RowError(
                "field-dropped",
                f"$.messages[{index}]{path}",
                f"{shown(text)}, which the template leaves out of the turn",
                "every field of a trained turn in its text",
                f"use a template that knows the field, remove it, or pass allow_dropped=[{name!r}]",
            )

    def _ranges(self, turn: Turn, last: bool) -> Turn:
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
        if last and self.policy.prompt_mismatch == "error" and self._unwritten(turn.start, ranges[0][0]):
            raise RowError(
                "prompt-not-prefix",
                f"$.messages[{turn.index}]",
                f"{shown(self.index.text[turn.start : ranges[0][0]])} between the generation prompt and the block",
                "a {% generation %} block that begins where the generation prompt ends",
                'move the block\'s beginning, or pass prompt_mismatch="as_rendered"',
            )
        if self.index.literal_until(ranges[-1][1]) >= turn.end:
            ranges = (*ranges[:-1], (ranges[-1][0], turn.end))  # the model learns to stop only if it sees the stop
        return replace(turn, ranges=ranges)

    def _unwritten(self, start: int, end: int) -> bool:
        """Whether there is text between two places, and none of it is from the row."""
        return start < end <= self.index.literal_until(start)

    def other_role(self, index: int) -> Turn:
        """A trained message that is not the assistant's: its own text and the stop that follows it."""
        content = self.index.content(index)
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
        """The row with the trained turns."""
        self._check_last(turns[-1])
        return mark_turns(self.index, self.messages, turns, self.counts, append_eos=self.policy.append_eos)

    def _check_last(self, last: Turn) -> None:
        """Rule 2 for a last trained turn that is not the conversation's last message."""
        if last.index == len(self.messages) - 1 or not speaks(self.messages[last.index]):
            return
        if self.policy.prompt_mismatch == "error":
            prompt = self._beginning(last.first, prompt=True)
            if self.index.text[: last.start] != prompt.text:
                raise self._mismatch(last.index, prompt)

    def _rewritten(self, index: int) -> RowError:
        return RowError(
            "history-rewritten",
            f"$.messages[{index}]",
            "a turn that the template writes differently once it is history",
            "the same text as history and as the last turn",
            'history="expand" makes one row of each turn; history="auto" leaves such turns out of the loss',
        )

    def _mismatch(self, index: int, prompt: Trace) -> RowError:
        text = self.index.text
        at = next(
            (i for i, (a, b) in enumerate(zip(prompt.text, text, strict=False)) if a != b),
            min(len(text), len(prompt.text)),
        )
        fix = 'prompt_mismatch="as_rendered" trains the text as it stands'
        if self._cured(index):
            fix = "template_kwargs={'enable_thinking': False} makes the two agree; or " + fix
        return RowError(
            "prompt-not-prefix",
            f"$.messages[{index}]",
            f"the generation prompt has {shown(prompt.text[at : at + 40])} where the training text has "
            f"{shown(text[at : at + 40])}",
            "a training text that begins with the generation prompt",
            fix,
        )

    def _cured(self, index: int) -> bool:
        try:
            scene = self.template.scene(self.conversation, NO_THINKING)
            whole = self.template.trace(scene)
            return whole.text.startswith(self.template.trace(scene, index, prompt=True).text)
        except RowError:
            return False


def _has_header(before: str, tail: str) -> bool:
    """Whether the text before a turn ends with the prompt's tail, or with its beginning: a think prefill may lack."""
    head = tail
    while head.strip():
        if before.endswith(head):
            return True
        head = head[:-1]
    return not tail.strip()
