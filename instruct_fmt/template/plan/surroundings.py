"""What is around a message of a conversation, as far as templates care.

In: a conversation. Out: for each of its messages a key; messages with the same key are likely to be printed, and
trained, alike. A template that treats a message by what is around it looks at its neighbours, or at what lies between
the user's message before it and the user's next one: which of those reason, call, or answer. Nothing is proven here:
whoever follows a key compares what comes out with the template.
"""

from __future__ import annotations

from collections.abc import Hashable

from instruct_fmt.template.label.marked import speaks
from instruct_fmt.template.plan.shape import leaf_text, leaves, message_shape, variables_shape
from instruct_fmt.template.plan.steps import BLANKS
from instruct_fmt.types import Conversation


class Surroundings:
    """The surroundings of a conversation's messages."""

    def __init__(self, conversation: Conversation) -> None:
        messages, size = conversation.messages, len(conversation.messages)
        said: list[list[bool]] = [[] for _ in messages]
        for field, value in leaves(conversation):
            if field.place >= 0:
                said[field.place].append(bool(leaf_text(value).strip(BLANKS)))
        flags = (*conversation.train, *[None] * size)
        self._kinds: list[Hashable] = [
            (message_shape(message), tuple(filled), flag)
            for message, filled, flag in zip(messages, said, flags, strict=False)
        ]
        self._beside = bool(conversation.tools), variables_shape(conversation.template_kwargs)
        users = [place for place, message in enumerate(messages) if message.get("role") == "user"]
        self._last_answer = max((place for place, one in enumerate(messages) if speaks(one)), default=-1)
        self._first_user = users[0] if users else size
        self._begin, self._end = [0] * size, [size] * size
        for start, stop in zip([0, *users], [*users, size], strict=True):
            self._begin[start:stop] = [start] * (stop - start)
            self._end[start:stop] = [stop] * (stop - start)

    def near(self, first: int, last: int) -> Hashable:
        """What the messages from `first` to `last` are, their neighbours, and where in the conversation they are."""
        begin, end, size = self._begin[first], self._end[last], len(self._kinds)
        return (
            min(first, 2),
            tuple(self._kinds[max(first - 1, 0) : last + 2]),
            (begin <= self._first_user, last >= self._last_answer, end == size, last + 1 == size, *self._beside),
        )

    def of(self, first: int, last: int) -> Hashable:
        """The same, and which messages there are from the user's before them to the user's next."""
        before, behind = self._kinds[self._begin[first] : first], self._kinds[last + 1 : self._end[last]]
        return self.near(first, last), frozenset(before), frozenset(behind)
