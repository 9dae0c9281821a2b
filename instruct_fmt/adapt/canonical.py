"""Messages of any dialect in, canonical messages out: one set of names, one type for each field, no nulls.

A canonical message is what `apply_chat_template` hands to a template: `role`, `content` (text),
`reasoning_content` (with the alias `thinking`, as transformers adds it), `tool_calls` (see `tools`), and
every other key of the row that is not null. Flags that say whether a message is trained are taken out of it
and returned beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from instruct_fmt.adapt import parts, tools
from instruct_fmt.adapt.content import content
from instruct_fmt.adapt.values import Path, as_list, at, bad_field, decoded, plain, root, text
from instruct_fmt.errors import RowError, shown
from instruct_fmt.types import Conversation, Message

Flags = tuple[bool | None, ...]

# The names of reasoning, in the order in which transformers 5.23 prefers them (utils/chat_template_utils.py).
REASONING = ("reasoning_content", "thinking", "reasoning")
FLAGS = frozenset({"train", "weight", "loss_weight", "loss"})
# A message with nothing but these says nothing at all.
_BARE = frozenset({"role", "name", "tool_call_id", "prefix", "id"})
CALL = "(call)"
# Paths of fields that hold a message's text, not the message: a column, a member of a pair, the option `system`.
_IS_TEXT = re.compile(r"[^\d]\]$|[^\]]$|\d\]\[\d+\]$")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a dataset writes a message.

    Attributes:
        role, content: its names of these two fields.
        rename: its names of other fields → ours.
        roles: its roles → ours; the value `CALL` marks a role whose text is the JSON of calls.
        any_case: look roles up in lower case where they are not found as written.
    """

    role: str = "role"
    content: str = "content"
    rename: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    any_case: bool = False


class Canonical(NamedTuple):
    """The messages of a row, for each a flag (trained, not trained, or None: not said) and where it comes from."""

    messages: list[Message]
    flags: Flags
    paths: tuple[str, ...]


def message_list(value: object, path: Path) -> list[Any]:
    """The messages of a row: a list, or the JSON text of one.

    Raises:
        RowError: ``null-field`` for null, ``no-messages`` for an empty list, ``bad-field`` for another type.
    """
    found = decoded(value) if isinstance(value, str) else value
    messages = as_list(found)
    if messages:
        return messages
    if value is None:
        raise RowError("null-field", at(path), "null", "a list of messages", "leave such rows out")
    if messages is None:
        raise bad_field(path, value, "a list of messages", "name the column that holds them with field_map")
    raise RowError("no-messages", at(path), "an empty list", "at least one message", "leave such rows out")


def canonical_messages(values: Sequence[Any], column: str, dialect: Dialect) -> Canonical:
    """All messages of a row's column. One that holds results of tools beside text becomes several.

    Raises:
        RowError: with the path of the field that cannot be used.
    """
    messages: list[Message] = []
    flags: list[bool | None] = []
    paths: Sequence[str] = message_paths(column, len(values))
    for i, value in enumerate(values):
        path = (root(column), i)
        message, flag, pieces = canonical_message(value, path, dialect)
        if pieces:
            place = len(messages)
            paths = (*paths[:place], *(at(piece.path) for piece in pieces), *paths[place + 1 :])
            messages += parts.split(message, pieces, path)
            flags += [flag] * len(pieces)
        else:
            messages.append(message)
            flags.append(flag)
    return Canonical(messages, tuple(flags), tuple(paths))


def canonical_message(value: Any, path: Path, dialect: Dialect) -> tuple[Message, bool | None, Sequence[parts.Piece]]:
    """One message, its flag, and the messages that its parts make of it, if any. Keys keep the order of the row."""
    if type(value) is not dict:
        value = _as_dict(value, path)
    role, is_call = _role(value.get(dialect.role), path, dialect)
    message: Message = {}
    flag: bool | None = None
    said: parts.Parts | None = None
    for key, item in value.items():
        if item is None:
            continue
        if key == dialect.role:
            message["role"] = role
        elif key == dialect.content:
            if is_call:
                # A message of ShareGPT always has text, and many templates fail where there is none at all.
                message["content"] = ""
                message["tool_calls"] = tools.calls_of_text(item, (path, key))
            elif type(item) is str and item.isascii():
                message["content"] = item
            else:
                said = None if isinstance(item, str) else parts.read(item, (path, key), role)
                message["content"] = content(item, (path, key), role) if said is None else said.content
        else:
            name = dialect.rename.get(key, key)
            if name in FLAGS:
                flag = _flag(item, flag, (path, key))
            else:
                _add(message, name, item, (path, key))
    if "content" not in message and not message.keys() - _BARE:
        text(None, (path, dialect.content))
    if said is not None:
        parts.into(message, said, REASONING)
    return _with_reasoning(message), flag, () if said is None else said.pieces


def _as_dict(value: object, path: Path) -> dict[str, Any]:
    found = decoded(value) if isinstance(value, str) else value
    if isinstance(found, Mapping):
        return dict(found)
    raise bad_field(path, value, "a message such as {'role': 'user', 'content': …}", "convert the message")


def _role(value: object, path: Path, dialect: Dialect) -> tuple[str, bool]:
    """The role in our words, and whether its text is a call."""
    if not isinstance(value, str) or not value:
        found = "no role" if value is None else f"{type(value).__name__} {shown(value)}"
        fix = f"fill in {dialect.role!r}, or name the right key with field_map={{'role': …}}"
        raise RowError("bad-role", at((path, dialect.role)), found, "text such as 'user'", fix)
    role = dialect.roles.get(value)
    if role is None and dialect.any_case:
        role = dialect.roles.get(value.lower())
    if role is None:
        return text(value, (path, dialect.role)), False
    return ("assistant", True) if role == CALL else (role, False)


def _add(message: Message, name: str, value: Any, path: Path) -> None:
    """Any field but role and content (or a second one of them under another dialect's name)."""
    if name == "tool_calls" or name == "function_call":
        calls = tools.tool_calls(value, path)
        if calls and message.setdefault("tool_calls", calls) != calls:
            raise bad_field(path, value, "one list of calls in a message", "remove one of the two fields")
    elif name in REASONING:
        message[name] = content(value, path, "assistant")
    elif name == "train_detail":
        raise bad_field(path, value, "one flag for the whole message", "use `train` instead")
    elif name == "prefix" and type(value) is not bool:
        raise bad_field(path, value, "true or false", "write `prefix` as true or false")
    elif name in ("role", "content"):
        raise bad_field(path, value, f"one {name} in a message", "remove the other, or choose with field_map")
    else:
        message[text(name, path)] = plain(value, path)


def _flag(value: object, before: bool | None, path: Path) -> bool:
    """A flag of a message as True or False.

    Raises:
        RowError: ``bad-field`` for anything but true, false, 0 and 1, and for two flags that disagree.
    """
    number = plain(value, path)
    if isinstance(number, bool | int | float) and number in (0, 1):
        flag = bool(number)
        if before is None or before == flag:
            return flag
        raise bad_field(path, value, "flags that agree", "keep one of `train` and `weight`")
    raise bad_field(path, value, "true, false, 0 or 1", "other weights are not supported: use 0 or 1")


def _with_reasoning(message: Message) -> Message:
    """Copy the reasoning to the names that templates read, exactly as transformers does before it renders."""
    for name in REASONING:
        if name in message:
            reasoning = message[name]
            return {"thinking": reasoning, **message, "reasoning_content": reasoning}
    return message


@lru_cache(maxsize=4096)
def message_paths(column: str, count: int, first: int = 0) -> tuple[str, ...]:
    """The JSON paths of the messages of a column."""
    return tuple(at(((None, column), i)) for i in range(first, first + count))


def with_dataset_path(error: RowError, example: Conversation) -> RowError:
    """The error with the path of the dataset's own field: an adapted row has other names and places."""
    match = re.match(r"\$\.messages\[(\d+)\](.*)", error.path)
    if match is None or int(match[1]) >= len(example.paths):
        return error
    path, inside = example.paths[int(match[1])], match[2]
    if _IS_TEXT.search(path):
        inside = inside.removeprefix(".content")
    return RowError(error.reason, path + inside, error.found, error.expected, error.fix)
