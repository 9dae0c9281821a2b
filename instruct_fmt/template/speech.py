"""What is asked of the messages of a turn.

In: a conversation's messages and which of them are one turn. Out: answers; of symbolic messages each is a guard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instruct_fmt.reasoning import NAMES
from instruct_fmt.reasoning import opener as block_opener


class Speech:
    """What the messages of a turn say, for `Completions`."""

    def __init__(self, messages: Sequence[Mapping[str, Any]], members: range) -> None:
        self.message, self.index = messages[members[0]], members[0]

    def reasons(self) -> bool:
        """Whether the turn has a field of reasoning."""
        return fields_of(self.message)

    def reasoning(self) -> tuple[str, str]:
        """The name of its field of reasoning, and what that says; the usual name and nothing where there is none."""
        found = ((name, self.message.get(name)) for name in NAMES)
        return next(((name, text) for name, text in found if isinstance(text, str) and text), (NAMES[0], ""))

    def opens(self, opener: str) -> bool:
        """Whether its content begins with a marker, blanks aside."""
        return self.content().lstrip().startswith(opener)

    def opens_block(self) -> bool:
        """Whether its content begins with a block of reasoning of any form."""
        return block_opener(self.content()) is not None

    def content(self) -> str:
        """Its content as the row has it."""
        content = self.message.get("content")
        if isinstance(content, list):
            return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        return content if isinstance(content, str) else ""

    def path(self, name: str = "") -> str:
        """The JSON path of the turn's message, or of a field of it."""
        return f"$.messages[{self.index}]" + (f".{name}" if name else "")


def fields_of(message: Mapping[str, object]) -> bool:
    """Whether a message has a field of reasoning that says something."""
    return any(isinstance(text := message.get(name), str) and text.strip() for name in NAMES)
