"""Fifteen kinds of conversation on which templates are judged "as served"; no two messages share a telling word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A conversation.

    Attributes:
        messages: as a dataset holds them.
        tools: JSON schemas of tools; None where the conversation has none.
    """

    messages: tuple[Message, ...]
    tools: tuple[Message, ...] | None = None

    def row(self) -> dict[str, Any]:
        """The conversation as a row of a dataset."""
        row: dict[str, Any] = {"messages": [dict(message) for message in self.messages]}
        return row if self.tools is None else {**row, "tools": list(self.tools)}

    @property
    def turns(self) -> list[int]:
        """The messages that the model writes."""
        return [index for index, message in enumerate(self.messages) if message["role"] == "assistant"]


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _answer(content: str, **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def _call(number: int, name: str, place: str) -> Message:
    function = {"name": name, "arguments": {"place": place}}
    return {"id": f"call0000{number}", "type": "function", "function": function}


def _result(number: int, name: str, content: str) -> Message:
    return {"role": "tool", "name": name, "tool_call_id": f"call0000{number}", "content": content}


def _tool(name: str, description: str) -> Message:
    place = {"type": "string", "description": "name of a village"}
    parameters = {"type": "object", "properties": {"place": place}, "required": ["place"]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


ASK, MORE, AGAIN = (
    _user("Which harbour shelters trawlers"),
    _user("Who keeps that lighthouse"),
    _user("Since what year"),
)
FIRST, SECOND, THIRD = (
    _answer("Quiet Brackwater, by sandy dunes"),
    _answer("Old Hesketh polishes lenses"),
    _answer("About nineteen hundred twelve"),
)
SYSTEM = {"role": "system", "content": "Speak like gruff sailors"}
DEVELOPER = {"role": "developer", "content": "Speak like gruff sailors"}
WHY, HOW = {"reasoning_content": "Charts mention shallow coves"}, {"reasoning_content": "Records praise one warden"}
LOOK, PEEK = _tool("look_up_sky", "Reads clouds above a village"), _tool("tide_of_day", "Reads ebbs along coasts")
WANT = _user("Will fishermen need oilskins")
CALL, OTHER = _call(1, "look_up_sky", "Marazion"), _call(2, "tide_of_day", "Penzance")
FOUND, TIDE = _result(1, "look_up_sky", "drizzle until midnight"), _result(2, "tide_of_day", "ebbing past seven")
SO = _answer("Certainly, pack waterproofs tonight")
THINK, NOW = {"reasoning_content": "Weather decides this"}, {"reasoning_content": "Rain seems likely"}
INLINE = _answer("<think>\nCharts mention shallow coves\n</think>\n\nQuiet Brackwater, by sandy dunes")
HALF = _answer("Quiet <think Brackwater, by sandy dunes")

KINDS: Mapping[str, Kind] = {
    "plain": Kind((ASK, FIRST)),
    "three turns": Kind((ASK, FIRST, MORE, SECOND, AGAIN, THIRD)),
    "system": Kind((SYSTEM, ASK, FIRST, MORE, SECOND)),
    "reasoning once": Kind((ASK, FIRST, MORE, {**SECOND, **HOW})),
    "reasoning twice": Kind((ASK, {**FIRST, **WHY}, MORE, {**SECOND, **HOW})),
    "inline think": Kind((ASK, INLINE)),
    "half a tag": Kind((ASK, HALF)),
    "tools": Kind((WANT, _answer("", tool_calls=[CALL]), FOUND, SO), (LOOK,)),
    "parallel calls": Kind((WANT, _answer("", tool_calls=[CALL, OTHER]), FOUND, TIDE, SO), (LOOK, PEEK)),
    "tools and reasoning": Kind((WANT, _answer("", tool_calls=[CALL], **THINK), FOUND, {**SO, **NOW}), (LOOK,)),
    "null content": Kind((WANT, {**_answer("", tool_calls=[CALL]), "content": None}, FOUND, SO), (LOOK,)),
    "last a call": Kind((WANT, _answer("", tool_calls=[CALL])), (LOOK,)),
    "last a user": Kind((ASK, FIRST, MORE)),
    "users in a row": Kind((ASK, MORE, SECOND)),
    "developer": Kind((DEVELOPER, ASK, FIRST)),
}


def words(values: Iterable[Any]) -> set[str]:
    """The words of four letters or more in all strings of some JSON values, names of keys aside."""
    found: set[str] = set()
    for value in values:
        if isinstance(value, str):
            found |= {word for word in value.replace("<think>", " ").replace(",", " ").split() if len(word) > 3}
        elif isinstance(value, Mapping):
            found |= words(value.values())
        elif isinstance(value, list | tuple):
            found |= words(value)
    return found
