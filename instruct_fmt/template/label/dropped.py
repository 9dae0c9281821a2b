"""Messages that a template leaves out of the text: what a system, a user or a tool says must not vanish.

In: the pieces of a rendered conversation and its messages. Out: the places of messages without a trace, and the error
for one that says something. What of an assistant's turn is missing, `dropped_fields` tells.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from instruct_fmt.common.reasoning import REASONING, split_reasoning
from instruct_fmt.errors import RowError, let_go, shown
from instruct_fmt.template.label.turn import Turn
from instruct_fmt.template.trace.origins import MIXED, Run
from instruct_fmt.template.trace.owners import SPEAKING
from instruct_fmt.template.trace.trace import TraceIndex

Messages = Sequence[Mapping[str, Any]]


def unprinted(
    text: str, pieces: Sequence[tuple[int, int, Run]], messages: Messages, allow_dropped: Collection[str]
) -> list[int]:
    """The messages of whose content no character is in the text.

    Args:
        text: the rendered text.
        pieces: (start, end, run) of it.
        messages: the conversation's messages.
        allow_dropped: roles and fields that may be left out; messages that they name are not looked at.
    """
    # A coarse run may be of the whole message, such as its JSON, or of a part of its content.
    fields = [run.field for start, end, run in pieces if start < end and run.field is not None]
    printed = {field.place for field in fields if field.path[:1] in ((), ("content",))}
    mixed = [text[start:end] for start, end, run in pieces if run.field is not None and run.field.place == MIXED]
    return [
        place
        for place, message in enumerate(messages)
        if "content" in message
        and {message.get("role"), "content"}.isdisjoint(allow_dropped)
        and place not in printed
        and not any(_holds(part, message["content"]) for part in mixed)
    ]


def unprinted_calls(pieces: Sequence[tuple[int, int, Run]], messages: Messages) -> list[tuple[int, int]]:
    """The calls of which nothing is in the text: their message, and which of its calls they are."""
    fields = [run.field for start, end, run in pieces if start < end and run.field is not None]
    printed = {(field.place, field.path[:2]) for field in fields}
    whole = {(place, path) for place, path in printed if len(path) < 2}  # a coarse run of all calls, or of the message
    return [
        (place, number)
        for place, message in enumerate(messages)
        if not {(place, ()), (place, ("tool_calls",))} & whole and isinstance(message.get("tool_calls"), list)
        for number in range(len(message["tool_calls"]))
        if (place, ("tool_calls", number)) not in printed
    ]


def _holds(mixed: str, content: object) -> bool:
    """Whether text made of several messages at once, which nothing tells apart any more, has this one's words."""
    return isinstance(content, str) and content.strip() in mixed


def check_unprinted(places: Iterable[int], messages: Messages) -> None:
    """Refuse a conversation of which the template leaves out a message that says something.

    Args:
        places: what `unprinted` found.
        messages: the conversation's messages.

    Raises:
        RowError: ``field-dropped``, with the path of the first such message's content.
    """
    for place in places:
        role, content = messages[place].get("role"), messages[place]["content"]
        if is_blank(content) or (role in SPEAKING and only_reasons(content)):
            continue
        raise RowError(
            "field-dropped",
            f"$.messages[{place}].content",
            f"{shown(content)} of the role {role!r}, which the template leaves out of the text",
            "every message in the text",
            f"use a template that prints the role {role!r}, or leave it out of the data",
            changes=[let_go(str(role))],
        )


def check_unprinted_calls(calls: Iterable[tuple[int, int]], messages: Messages) -> None:
    """Refuse a conversation of which the template leaves out a call.

    Raises:
        RowError: ``field-dropped``, with the path of the first such call.
    """
    for place, number in calls:
        raise RowError(
            "field-dropped",
            f"$.messages[{place}].tool_calls[{number}]",
            f"{shown(messages[place]['tool_calls'][number])}, which the template leaves out of the text",
            "every call in the text",
            "use a template that knows calls",
            changes=[let_go("tool_calls")],
        )


def only_reasons(content: object) -> bool:
    """Whether an answer is nothing but a block of reasoning, which history may lose."""
    found = split_reasoning(content) if isinstance(content, str) else None
    return found is not None and not found[2].strip()


def is_blank(content: object) -> bool:
    """Whether a message's content says nothing: white space, an empty object, or parts without text."""
    if isinstance(content, str):
        return not content.strip()
    if isinstance(content, Mapping):
        return all(name == "type" or is_blank(value) for name, value in content.items())
    if isinstance(content, list | tuple):
        return all(map(is_blank, content))
    return content is None


def dropped_fields(trace: TraceIndex, turn: Turn, index: int, message: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Fields of message `index` that its turn does not hold: their path inside the message and the missing text."""
    # A field that begins inside the prompt, as a think prefill may, counts whole: the prompt holds what the turn lacks.
    inside = _Printed()
    for begin, end, run in trace.within(turn.start, turn.end):
        if run.field is not None and run.field.place == index:
            inside.add(run, min(end, turn.end) - begin)
    # The prompt's own text counts too: it may begin a think block whose tags the template takes out of the content.
    before = trace.behind_fields(turn.start, range(0))
    literals = "".join(
        trace.text[max(begin, before) : min(end, turn.end)] if run.field is None else "\0"
        for begin, end, run in trace.within(before, turn.end)
    )
    missing = []
    for path, text in _spoken_fields(message):
        paths = [(name,) for name in REASONING] if path[0] in REASONING else [path]
        gaps = min((inside.gaps(text, each) for each in paths), key=len)
        if any(gap not in literals for gap in gaps) and not _named_by_id(message, path, text, inside):
            missing.append((_shown_path(path), " … ".join(gaps)))
    content = message.get("content")
    if isinstance(content, str) and content and not content.strip() and not inside.anything:
        missing.append((".content", content))
    return missing


class _Printed:
    """What of a message's fields stands in a text."""

    def __init__(self) -> None:
        self.anything = False
        self._ranges: dict[tuple[str | int, ...], list[tuple[int, int]]] = {}
        # Fields of which something is there, nobody knows what; and whatever holds such a field.
        self._coarse: set[tuple[str | int, ...]] = set()
        self._around: set[tuple[str | int, ...]] = set()

    def add(self, run: Run, size: int) -> None:
        """The first characters of a run of one of the fields."""
        assert run.field is not None
        path = run.field.path
        self.anything = True
        if run.offset >= 0:
            self._ranges.setdefault(path, []).append((run.offset, run.offset + size))
        elif path not in self._coarse:
            self._coarse.add(path)
            self._around.update(path[:length] for length in range(len(path)))

    def gaps(self, text: str, path: tuple[str | int, ...]) -> list[str]:
        """The stretches of a field's text that are not there, blanks aside."""
        if path in self._around or any(path[:length] in self._coarse for length in range(len(path) + 1)):
            return []
        covered = bytearray(len(text))
        for start, end in self._ranges.get(path, ()):
            covered[start:end] = b"\1" * (end - start)
        missing = [text[gap.start() : gap.end()].strip() for gap in re.finditer(rb"\x00+", covered)]
        return [part for part in missing if part]


def _named_by_id(message: Mapping[str, Any], path: tuple[str | int, ...], name: str, inside: _Printed) -> bool:
    """Whether a call's name stands in its id, which is printed: ``functions.look:0``."""
    if path[0] != "tool_calls" or path[-1] != "name" or not isinstance(path[1], int):
        return False
    id = message["tool_calls"][path[1]].get("id")
    return isinstance(id, str) and name in id and not inside.gaps(id, (*path[:2], "id"))


def _spoken_fields(message: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """The texts of an assistant message that must appear: content, reasoning once, names and arguments of calls."""
    fields: list[tuple[tuple[str | int, ...], str]] = []
    content = message.get("content")
    if isinstance(content, str):
        fields.append((("content",), content))
    elif isinstance(content, list):
        fields += [(("content", *path), text) for path, text in _leaves(content) if path[-1] != "type"]
    reasoning = next((name for name in REASONING if isinstance(message.get(name), str)), None)
    if reasoning is not None:
        fields.append(((reasoning,), message[reasoning]))
    calls = message.get("tool_calls")
    for number, call in enumerate(calls if isinstance(calls, list) else []):
        function = call.get("function", call) if isinstance(call, dict) else {}
        under: tuple[str | int, ...] = ("tool_calls", number, *(("function",) if function is not call else ()))
        for name in ("name", "arguments"):
            fields += [((*under, name, *path), text) for path, text in _leaves(function.get(name))]
    return [(path, text) for path, text in fields if text.strip()]


def _leaves(value: Any) -> list[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        return [((), value)]
    items: Sequence[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    return [((key, *path), text) for key, item in items for path, text in _leaves(item)]


def _shown_path(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
