"""What of a row a template never prints: the texts of an example in, those that left no character behind out.

Of a shape with a plan, `unprinted.py` tells the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from instruct_fmt.common.names import meant_fields
from instruct_fmt.common.reasoning import REASONING
from instruct_fmt.errors import RowError, shown
from instruct_fmt.template.trace.origins import DOCUMENTS, MIXED, TOOLS, VARIABLES, Field, Run
from instruct_fmt.types import Conversation, Example, Printed, Record

# What our own stages read of a message, whatever a template does.
_READ = frozenset({"role", "prefix"})
# Fields that have rules of their own, or that say nothing by themselves.
_ELSEWHERE = frozenset({"role", "prefix", "content", "tool_calls", "name", "tool_call_id", "id", *REASONING})
# Objects whose members are a row's own: what is inside them counts as a part of them.
_DATA = ("arguments", "parameters")


class Leaf(NamedTuple):
    """A value that nothing read, and where it is."""

    field: Field
    value: Any


def printed_fields(text: str, pieces: Iterable[tuple[int, int, Run]]) -> Printed:
    """The fields that left a character in a text; a text made of several messages at once stands for itself."""
    found = set()
    for start, end, run in pieces:
        if run.field is not None and start < end:
            mixed = run.field.place == MIXED
            found.add((MIXED, (text[start:end],)) if mixed else (run.field.place, run.field.path))
    return frozenset(found)


def unread(example: Example, printed: Collection[tuple[int, Any]], mentioned: Collection[str]) -> list[Leaf]:
    """The texts of an example that are printed nowhere.

    Args:
        example: the row.
        printed: what was printed, in any of the texts made of the row.
        mentioned: the names that the template uses: what is no text leaves no trace, and counts as read if it is named.
    """
    if not isinstance(example, Conversation | Record):
        return []
    known = frozenset(printed)
    mixed = [path[0] for place, path in printed if place == MIXED]
    prefixes = {(place, path[:size]) for place, path in known if place != MIXED for size in range(len(path) + 1)}
    return [
        leaf
        for leaf in _leaves(example, known, mentioned)
        if not is_printed(leaf.field, known, prefixes)
        and not (isinstance(leaf.value, str) and any(leaf.value.strip() in part for part in mixed))
    ]


def unread_inside(value: Any, field: Field, printed: Collection[tuple[str | int, ...]]) -> list[Leaf]:
    """The texts inside an object of which only some paths are printed."""
    known = {(field.place, path) for path in printed}
    prefixes = {(field.place, path[:size]) for path in printed for size in range(len(path) + 1)}
    return [leaf for leaf in _texts(value, *field) if not is_printed(leaf.field, known, prefixes)]


def is_printed(field: Field, known: Collection[Any], prefixes: Collection[Any]) -> bool:
    """Whether the field, something inside it, or something that holds it is printed."""
    place, path = field
    if path[:1] and path[0] in REASONING:
        return any((place, (name, *path[1:])) in prefixes or (place, (name,)) in known for name in REASONING)
    return (place, path) in prefixes or any((place, path[:size]) in known for size in range(len(path)))


def _leaves(example: Conversation | Record, known: Printed, mentioned: Collection[str]) -> Iterator[Leaf]:
    """Everything that an example says; of a tool or a document of which nothing is printed, the whole."""
    if isinstance(example, Record):
        for place, (name, value) in enumerate(example.values.items()):
            yield from _texts(value, place, (name,))
        return
    for place, message in enumerate(example.messages):
        yield from _of_message(message, place, example.messages, mentioned)
    for place, values in ((TOOLS, example.tools), (DOCUMENTS, example.documents)):
        for number, value in enumerate(values or ()):
            if any(found == place and path[:1] in ((), (number,)) for found, path in known):
                yield from _texts(value, place, (number,))
            else:
                yield Leaf(Field(place, (number,)), value)
    for name in example.template_kwargs:
        if name not in mentioned:
            yield Leaf(Field(VARIABLES, (name,)), example.template_kwargs[name])


def _of_message(
    message: Mapping[str, Any], place: int, messages: Sequence[Mapping[str, Any]], mentioned: Collection[str]
) -> Iterator[Leaf]:
    reasoning = next((name for name in REASONING if name in message), None)
    for name, value in message.items():
        if name in _READ or (name in REASONING and name != reasoning) or _is_said_by_call(name, value, place, messages):
            continue
        yield from unread_value(value, place, (name,), is_mentioned=name in mentioned)


def unread_value(value: Any, place: int, path: tuple[str | int, ...], *, is_mentioned: bool) -> list[Leaf]:
    """What a value says of which nothing is printed; `is_mentioned` is whether the template uses its name."""
    texts = list(_texts(value, place, path))
    # What is no text leaves no trace: a name that the template does not use is all that tells.
    says = bool(value) if isinstance(value, str | list | tuple | dict) else value is not None
    if not texts and says and not isinstance(value, str) and not is_mentioned:
        return [Leaf(Field(place, path), value)]
    return texts


def _is_said_by_call(name: str, value: Any, place: int, messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a result only repeats which call it answers; what the call says is looked at there."""
    if name not in ("name", "tool_call_id") or messages[place].get("role") in ("user", "assistant", "system"):
        return False
    calls = [call for message in messages[:place] for call in message.get("tool_calls") or ()]
    if name == "tool_call_id":
        return any(call.get("id") == value for call in calls)
    return any((call.get("function") or {}).get("name") == value for call in calls)


def _texts(value: Any, place: int, path: tuple[str | int, ...]) -> Iterator[Leaf]:
    """The texts inside a value that say something."""
    if isinstance(value, str):
        if value.strip() and not (path[-1:] == ("type",) and value == "function"):
            yield Leaf(Field(place, path), value)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, place, (*path, name))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _texts(item, place, (*path, number))


def check_silent(messages: Sequence[Mapping[str, Any]], printed: Printed, allow_dropped: Collection[str]) -> None:
    """Refuse a message whose only words are in a field that nothing reads.

    Raises:
        RowError: ``field-dropped``, with the field's path.
    """
    speaking = {place for place, path in printed if path[:1] != ("role",)}
    for place, message in enumerate(messages):
        if place in speaking or message.get("role") in allow_dropped:
            continue
        for name, value in message.items():
            if name not in _ELSEWHERE and name not in allow_dropped and any(_texts(value, place, (name,))):
                raise _silent(place, name, value)


def check_bare(messages: Sequence[Mapping[str, Any]], turns: Iterable[range], printed: Printed) -> int:
    """Refuse a trained turn of which nothing but its stop is left, though it says something: it would teach silence.

    Returns:
        How many turns say nothing in the row itself; of those the stop alone is trained.

    Raises:
        RowError: ``field-dropped``, with the path of the first field that says something.
    """
    bare = bare_turns(turns, printed)
    for places in bare:
        _check_says_nothing(messages, places)
    return len(bare)


def bare_turns(turns: Iterable[range], printed: Printed) -> list[range]:
    """The turns of which no field but a role is printed, each as the places of its messages."""
    there = {place for place, path in printed if path[:1] != ("role",)}
    return [places for places in turns if there.isdisjoint(places)]


def _check_says_nothing(messages: Sequence[Mapping[str, Any]], places: range) -> None:
    for place in places:
        for name in ("tool_calls", "content", *REASONING):
            if any(_texts(messages[place].get(name), place, (name,))):
                raise RowError(
                    "field-dropped",
                    f"$.messages[{place}].{name}",
                    f"{shown(messages[place][name])}, without which nothing but the stop is left of the turn",
                    "a turn that says something",
                    "use a template that prints the field, or leave the row out",
                )


def unread_words(
    messages: Sequence[Mapping[str, Any]], mentioned: Collection[str], allow_dropped: Collection[str]
) -> RowError | None:
    """The error of `check_silent` for messages that were refused before they had a text.

    Only for a field whose name the template does not mention, in a message without anything else that it may print.
    """
    for place, message in enumerate(messages):
        said = [name for name, value in message.items() if name not in _READ and any(_texts(value, place, (name,)))]
        if message.get("role") in allow_dropped or _prints_some(said, mentioned):
            continue
        for name in said:
            if name not in _ELSEWHERE and name not in allow_dropped:
                return _silent(place, name, message[name])
    return None


def _prints_some(names: Collection[str], mentioned: Collection[str]) -> bool:
    own = ("content", "tool_calls", *REASONING)
    return any(name in own or (name in mentioned and name not in _ELSEWHERE) for name in names)


def _silent(place: int, name: str, value: Any) -> RowError:
    return RowError(
        "field-dropped",
        f"$.messages[{place}].{name}",
        f"{shown(value)}, which nothing reads, in a message that says nothing else",
        "words in a field that the template prints",
        "rename the field, or take the message out",
        changes=list(meant_fields(name, value)),
    )


def says_elsewhere(message: Mapping[str, Any]) -> bool:
    """Whether a message has fields that may be all that it says."""
    return any(name not in _ELSEWHERE for name in message)


def shown_path(path: Sequence[str | int]) -> str:
    """A path for a list of what nothing read: without numbers, and no deeper than what a format fixes.

    >>> shown_path(("tool_calls", 0, "function", "arguments", "city"))
    'tool_calls[].function.arguments'
    """
    shown = ""
    for step in path:
        shown += "[]" if isinstance(step, int) else f".{step}"
        if step in _DATA:
            break
    return shown.lstrip(".")
