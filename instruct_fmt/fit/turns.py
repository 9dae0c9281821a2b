"""Conversations that are too long, without their oldest exchanges.

In: a conversation, and whether it fits with so many exchanges left out. Out: the longest end of it that does. The
system message stays, and so do the last question and its answer; an exchange is what a user says, in one message or in
several, and all that follows up to the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from instruct_fmt.types import Conversation

_FRONT = ("system", "developer")


def exchanges(conversation: Conversation) -> list[int]:
    """Where the exchanges of a conversation begin that end in an answer: the last of them stays."""
    roles = [message.get("role") for message in conversation.messages]
    last = max((place for place, role in enumerate(roles) if role == "assistant"), default=-1)
    begins = [role == "user" and (place == 0 or roles[place - 1] != "user") for place, role in enumerate(roles)]
    return [place for place, begin in enumerate(begins) if begin and place < last]


def kept_messages(conversation: Conversation, starts: Sequence[int], number: int) -> list[int]:
    """The messages that stay without so many of the oldest exchanges: those in front, and the later ones."""
    front = 0
    while front < len(conversation.messages) and conversation.messages[front].get("role") in _FRONT:
        front += 1
    return [*range(front), *range(starts[number], len(conversation.messages))]


def without_oldest(conversation: Conversation, starts: Sequence[int], number: int) -> Conversation:
    """The conversation without its oldest exchanges.

    Args:
        conversation: a conversation.
        starts: where its exchanges begin.
        number: how many are left out, fewer than there are.
    """
    left = kept_messages(conversation, starts, number)
    return replace(
        conversation,
        messages=[conversation.messages[place] for place in left],
        train=tuple(conversation.train[place] for place in left if place < len(conversation.train)),
        paths=tuple(conversation.paths[place] for place in left if place < len(conversation.paths)),
        names=tuple(conversation.names[place] for place in left if place < len(conversation.names)),
    )


def fewest(fits: Callable[[int], bool], most: int) -> int:
    """The fewest exchanges to leave out so that the rest fits; `most` where nothing fits.

    Args:
        fits: whether it fits without so many; once it does, it does without more.
        most: the most that may be left out.

    >>> fewest(lambda number: number >= 3, 7)
    3
    """
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle + 1
    return low
