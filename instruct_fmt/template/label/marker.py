"""Which characters of a conversation are trained, proven turn by turn.

In: a conversation and the policies. Out: `Marked` texts: one for the conversation, or, with `history="expand"`, one
for each trained turn. What cannot be proven raises `RowError`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise

from instruct_fmt.errors import RowError, option, shown
from instruct_fmt.template.label.chat_template import ChatTemplate
from instruct_fmt.template.label.cures import Cures, Known
from instruct_fmt.template.label.marked import chosen_turns, from_row, message_name, spans_of, speaks
from instruct_fmt.template.label.policy import UNSERVED, Policy
from instruct_fmt.template.label.turn import Turn
from instruct_fmt.template.label.turns import Turns
from instruct_fmt.template.trace.trace import TraceIndex
from instruct_fmt.types import Conversation, Marked, Range


class Marker:
    """Marks the trained characters of conversations under one template and one policy."""

    def __init__(self, template: ChatTemplate, policy: Policy) -> None:
        self.template = template
        self.policy = policy
        self._cures = Cures(template, policy)

    def mark(self, conversation: Conversation, known: Known = lambda _: None) -> list[Marked]:
        """The marked texts of one conversation.

        Args:
            conversation: the row.
            known: the marked texts of rows whose like was proven, for the cures of an error; None for others.

        Raises:
            RowError: the row cannot be rendered, or its mask cannot be proven. Its fix was tried on the row.
        """
        try:
            return self.mark_plainly(conversation)
        except RowError as error:
            raise self._cures.with_fix(error, conversation, self, known) from error

    def with_policy(self, policy: Policy) -> Marker:
        """The same under another policy."""
        return Marker(self.template, policy)

    def mark_plainly(self, conversation: Conversation) -> list[Marked]:
        """`mark`, without a look for cures."""
        messages = conversation.messages
        chosen = chosen_turns(conversation, self.policy.train_on)
        if not chosen and self.policy.train_on != "all":
            flagged = ", some of them not to be trained by their own flags" if False in conversation.train else ""
            raise RowError(
                "no-trained-turn",
                "$.messages",
                f"the roles {shown([message.get('role') for message in messages])}{flagged}",
                "a message that is to be trained",
                "leave the row out, or say with train_on what is to be trained",
            )
        if self.policy.train_on == "all":
            return [self._everything(conversation)]
        if self.policy.expands:
            return self._expanded(conversation, chosen)
        return [self._conversation(conversation, chosen[-1:] if self.policy.history == "last" else chosen)]

    def _check_weights(self, conversation: Conversation) -> None:
        """Refuse weights of messages that nobody said are to count."""
        flags = conversation.train
        place = next((place for place, flag in enumerate(flags) if isinstance(flag, float)), None)
        if place is None or (self.policy.loss_weights.of_messages and self.policy.train_on != "all"):
            return
        raise RowError(
            "bad-field",
            f"$.messages[{place}].weight",
            f"{flags[place]:g}",
            "0 or 1",
            "use 0 or 1",
            changes=[option("loss_weights", {"message": 1.0}, "writes weights into a column `loss_weights`")],
        )

    def turns(self, conversation: Conversation) -> Turns:
        """The conversation on its way."""
        return Turns(self.template, self.policy, conversation)

    def _conversation(self, conversation: Conversation, chosen: Sequence[int]) -> Marked:
        self._check_weights(conversation)
        row = self.turns(conversation)
        speaking = [index for index in chosen if speaks(conversation.messages[index])]
        groups = row.groups(speaking)
        turns = [row.last_turn(groups[-1])] if groups else []
        turns += [turn for members in groups[:-1] if (turn := row.turn(members)) is not None]
        turns += [turn for index in chosen if index not in speaking and (turn := row.other_role(index)) is not None]
        return row.marked(sorted(turns, key=lambda turn: turn.start))

    def speaking(self, conversation: Conversation) -> list[int]:
        """The model's messages that are to be trained."""
        chosen = chosen_turns(conversation, self.policy.train_on)
        return [index for index in chosen if speaks(conversation.messages[index])]

    def trains(self, conversation: Conversation, trained: Collection[Range], messages: Collection[int]) -> bool:
        """Whether these ranges are what is trained of some of the model's messages, and of the last one.

        Each turn is proven by renders of its own, which of all turns of a long conversation take quadratic time.
        """
        speaking = self.speaking(conversation)
        try:
            row = self.turns(conversation)
            groups = row.groups(speaking[-1:] if self.policy.history == "last" or self.policy.expands else speaking)
            found: list[tuple[range, Turn | None]] = [(groups[-1], row.last_turn(groups[-1]))] if groups else []
            found += [(members, row.turn(members)) for members in groups[:-1] if members[-1] in messages]
        except RowError:
            return False
        for members, turn in found:
            own = row.index.content(members[-1])
            here = {part for part in trained if own is not None and part[0] < own[1] and own[0] < part[1]}
            if own is not None and here != set(() if turn is None else turn.ranges):
                return False
        return True

    def _expanded(self, conversation: Conversation, chosen: Sequence[int]) -> list[Marked]:
        """A row of each trained turn that can be served, the conversation cut behind it.

        Raises:
            RowError: the last reason, where none can.
        """
        rows: list[Marked] = []
        skipped: Counter[str] = Counter()
        for members in self._groups(conversation, chosen):
            try:
                rows.append(self._turn_of_its_own(until(conversation, members[-1]), members))
            except RowError as error:
                if error.reason not in UNSERVED or (not rows and members[-1] == chosen[-1]):
                    raise
                skipped[f"turns_skipped:{error.reason}"] += 1
        turns = rows[-1].counts["turns"] + skipped.total()
        rows[-1] = replace(rows[-1], counts={**rows[-1].counts, **skipped, "turns": turns})
        return rows

    def _turn_of_its_own(self, conversation: Conversation, members: Sequence[int]) -> Marked:
        """The row of a turn that the conversation ends with; the other turns have rows of their own."""
        row = self._conversation(conversation, members)
        return replace(row, counts={**row.counts, "turns": 1})

    def mark_last(self, conversation: Conversation) -> Marked:
        """The row that `history="expand"` makes of the last trained turn of a conversation that ends with it.

        Raises:
            RowError: as `mark`; its fix was not tried.
        """
        groups = self._groups(conversation, chosen_turns(conversation, self.policy.train_on))
        return self._turn_of_its_own(conversation, groups[-1])

    def ends(self, conversation: Conversation) -> list[int]:
        """The messages that the rows of `history="expand"` end with; none where two of the model's are side by side."""
        chosen = chosen_turns(conversation, self.policy.train_on)
        roles = [speaks(message) for message in conversation.messages]
        return [] if any(left and right for left, right in pairwise(roles)) else chosen

    def _groups(self, conversation: Conversation, chosen: Sequence[int]) -> list[range]:
        """The turns of chosen messages."""
        speaking = [index for index in chosen if speaks(conversation.messages[index])]
        alone = [range(index, index + 1) for index in chosen if index not in speaking]
        if any(index and speaks(conversation.messages[index - 1]) for index in speaking):
            return sorted([*alone, *self.turns(conversation).groups(speaking)], key=min)
        return [range(index, index + 1) for index in chosen]

    def _everything(self, conversation: Conversation) -> Marked:
        self._check_weights(conversation)
        if False in conversation.train:
            raise RowError(
                "bad-field",
                f"$.messages[{conversation.train.index(False)}]",
                'a message that is not to be trained, under train_on="all", which trains the whole text',
                "no such messages, or turns that are trained one by one",
                "take its flag out",
                changes=[option("train_on", "assistant", "trains the model's turns")],
            )
        row = self.turns(conversation)
        size, last = len(row.index.text), len(conversation.messages) - 1
        text = row.index.text.rstrip()
        stop = max((len(text) - len(stop) for stop in self.template.stops.stops if text.endswith(stop)), default=size)
        marked = row.marked([Turn(last, last, 0, stop, size, ((0, size),))])
        return replace(marked, counts={**marked.counts, "trained_turns": sum(map(speaks, conversation.messages))})

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
        trace = TraceIndex(self.template.proven(self.template.scene(conversation), index, prompt=True))
        messages = conversation.messages[:index]
        return Marked(trace.text, (), spans_of(trace, (), message_name), from_row=from_row(trace, messages))


def until(conversation: Conversation, index: int) -> Conversation:
    """The conversation up to a message."""
    return replace(conversation, messages=conversation.messages[: index + 1], train=conversation.train[: index + 1])
