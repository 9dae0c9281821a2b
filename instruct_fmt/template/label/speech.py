"""What is asked of the messages of a turn.

In: a conversation's messages and which of them are one turn. Out: answers; of symbolic messages each is a guard.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instruct_fmt.common.reasoning import REASONING
from instruct_fmt.common.reasoning import opener as block_opener


class Speech:
    """What the messages of a turn say, for `Completions`."""

    def __init__(self, messages: Sequence[Mapping[str, Any]], members: range) -> None:
        self.message, self.index = messages[members[0]], members[0]
        self._messages = [messages[member] for member in members]

    def reasons(self) -> bool:
        """Whether the turn has a field of reasoning."""
        return fields_of(self.message)

    def reasoning(self) -> tuple[str, str]:
        """The name of its field of reasoning, and what that says; the usual name and nothing where there is none."""
        found = ((name, self.message.get(name)) for name in REASONING)
        return next(((name, text) for name, text in found if isinstance(text, str) and text), (REASONING[0], ""))

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

    def without_values(self, text: str) -> str:
        """A literal text without the numbers, the truths and the nulls of its calls, which remember no field."""
        values = {
            spelled for message in self._messages for value in _arguments(message) for spelled in _spellings(value)
        }
        longest = sorted(map(re.escape, values), key=len, reverse=True)
        return re.sub(rf"(?<!\w)(?:{'|'.join(longest)})(?!\w)", " ", text) if longest else text

    def path(self, name: str = "") -> str:
        """The JSON path of the turn's message, or of a field of it."""
        return f"$.messages[{self.index}]" + (f".{name}" if name else "")


def _arguments(message: Mapping[str, Any]) -> Iterator[Any]:
    """The arguments of a message's calls; objects of any row, which tell nothing of their members, aside."""
    calls = message.get("tool_calls")
    for call in calls if type(calls) is list else ():
        arguments = call.get("function", call).get("arguments")
        if type(arguments) is dict:
            yield arguments


def _spellings(value: Any) -> Iterator[str]:
    """How templates write what is no text inside a value: as JSON, or as Python."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _spellings(item)
    elif value is None or isinstance(value, bool | int | float):
        yield from (str(value), json.dumps(value))


def fields_of(message: Mapping[str, object]) -> bool:
    """Whether a message has a field of reasoning that says something."""
    return any(isinstance(text := message.get(name), str) and text.strip() for name in REASONING)
