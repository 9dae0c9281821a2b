"""Whose part of the template prints: the owner, followed through loops while one render runs.

In: messages that know their place. Out: at any moment of a render, the message whose iteration is running.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from jinja2.runtime import LoopContext

from instruct_fmt.template.trace.origins import fields_in

# Roles that templates know. Any other role is a row's text like its content.
ROLES = frozenset(
    [
        "system",
        "user",
        "assistant",
        "tool",
        "developer",
        "function",
        "ipython",
        "model",
        "tool_response",
        "tool_call",
        "tools",
        "observation",
    ]
)
SPEAKING = frozenset({"assistant", "model"})


@dataclass(slots=True)
class Owners:
    """The owner while one render runs. `near` is the message whose content was printed last outside of any owner."""

    owner: int | None = None
    item: int | None = None
    near: int | None = None
    saved: list[tuple[int | None, int | None]] = field(default_factory=list)

    def push(self) -> None:
        self.saved.append((self.owner, self.item))
        self.near = None

    def pop(self) -> None:
        self.owner, self.item = self.saved.pop()
        self.near = None

    def outer(self) -> int | None:
        return self.saved[-1][0] if self.saved else None

    def enter(self, index: int, speaks: bool) -> None:
        """A loop over messages hands out message `index`.

        A loop inside message i's own iteration looks things up and keeps owner i, unless it goes forward to a message
        that is not the assistant's: tool results printed inside the assistant's iteration.
        """
        outer = self.outer()
        self.owner = index if outer is None or (index > outer and not speaks) else outer


owners_now: ContextVar[Owners] = ContextVar("instruct_fmt_owners")


class TracedMessage(dict[str, Any]):
    """A message that knows its place."""

    __slots__ = ("_index", "_speaks")
    _index: int
    _speaks: bool

    def copy(self) -> TracedMessage:
        return message_of(self, self._index, self._speaks)


class TracedMessages(list[Any]):
    """The list of messages; `messages[k]` inside `for k in range(…)` makes message k the owner."""

    def __getitem__(self, key: Any) -> Any:
        item = super().__getitem__(key)
        if isinstance(key, slice):
            return TracedMessages(item)
        owners = owners_now.get()
        if isinstance(item, TracedMessage) and owners.item is not None and owners.item == key:
            owners.enter(item._index, item._speaks)
        return item

    def __add__(self, other: list[Any]) -> TracedMessages:
        return TracedMessages(super().__add__(other))

    def copy(self) -> TracedMessages:
        return TracedMessages(self)


class OwnerLoop(LoopContext):
    """The loop context sets the owner here, when it hands an item out, and not when Jinja looks one item ahead."""

    def __next__(self) -> Any:
        pair = super().__next__()
        item, owners = pair[0], owners_now.get()
        owners.owner, owners.item, owners.near = owners.outer(), None, None
        if isinstance(item, TracedMessage):
            owners.enter(item._index, item._speaks)
        elif type(item) is int:
            owners.item = item
        elif owners.owner is None and isinstance(item, dict):
            indices = {found.place for found in fields_in(item)}
            if len(indices) == 1 and min(indices) >= 0:  # the template's own copy of one message
                owners.owner = indices.pop()
        return pair


def message_of(values: Mapping[str, Any], index: int, speaks: bool) -> TracedMessage:
    message = TracedMessage(values)
    message._index, message._speaks = index, speaks
    return message
