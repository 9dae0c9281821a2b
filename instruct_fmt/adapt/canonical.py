"""Messages of any dialect in, canonical messages out: one set of names and roles, one type for each field.

A canonical message is what `apply_chat_template` hands to a template: `role`, `content` (text),
`reasoning_content` (with the alias `thinking`, as transformers adds it), `tool_calls` (see `tools`), and
every other key of the row that is not null. Flags that say whether a message is trained, and the row's own names of
its fields, are returned beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from instruct_fmt.adapt import parts, tools
from instruct_fmt.adapt.content import content
from instruct_fmt.adapt.roles import CALL, Roles
from instruct_fmt.adapt.values import Path, as_list, at, bad_field, decoded, plain, root, text
from instruct_fmt.common.names import meant_fields
from instruct_fmt.common.reasoning import REASONING
from instruct_fmt.errors import Change, RowError, shown
from instruct_fmt.types import Conversation, Message

Flags = tuple[bool | float | None, ...]

# The names of reasoning, in the order in which transformers 5.23 prefers them (utils/chat_template_utils.py).
FLAGS = frozenset({"train", "weight", "loss_weight", "loss"})
WEIGHTS = frozenset({"weight", "loss_weight"})
# A message with nothing but these says nothing at all.
_SAYING = frozenset({"tool_calls", *REASONING})
_BARE = frozenset({"role", "name", "tool_call_id", "prefix", "id"})
_LONGEST_ROLE = 40
IS_TEXT: Mapping[str, str] = {"content": ""}
"""The names of a message that is one text of the row's, a column or a member of a pair."""
_SAME: Mapping[str, str] = {}


@dataclass(frozen=True)
class Dialect:
    """How a dataset writes a message.

    Attributes:
        role, content: its names of these two fields.
        rename: its names of other fields → ours.
        roles: what its roles mean.
        mentioned: the names that the template uses; it may print a field of such a name.
        linked: whether results follow their calls without a word on which is whose.
    """

    role: str = "role"
    content: str = "content"
    rename: Mapping[str, str] = field(default_factory=dict)
    roles: Roles = field(default_factory=Roles)
    mentioned: frozenset[str] = frozenset()
    linked: bool = False

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Our names of fields → the dataset's, where they differ."""
        found = {"role": self.role, "content": self.content, **{ours: theirs for theirs, ours in self.rename.items()}}
        return {ours: theirs for ours, theirs in found.items() if ours != theirs}

    @cached_property
    def names_of_call(self) -> Mapping[str, str]:
        """The same for a message whose text is a call."""
        return {**self.names, "tool_calls": self.content}

    def roles_of(self, written: str) -> tuple[str, bool] | None:
        """What a role means, and whether the message's text is a call; None where nobody knows it."""
        role = self.roles.read(written)
        if role == CALL:
            return "assistant", True
        return None if role is None else (role, False)


class Canonical(NamedTuple):
    """The messages of a row.

    Attributes:
        messages: in canonical form.
        flags: for each True, False or None: trained, not trained, not said.
        names: for each our names of its fields → the dataset's.
        paths: for each where it comes from.
        linked: whether results follow their calls without a word on which is whose.
        unread: what parts of a content say beside their text.
    """

    messages: list[Message]
    flags: Flags
    names: tuple[Mapping[str, str], ...]
    paths: tuple[str, ...]
    linked: bool = False
    unread: tuple[tuple[str, Any], ...] = ()


def message_list(value: object, path: Path) -> list[Any]:
    """The messages of a row: a list, the JSON text of one, or a single message.

    Raises:
        RowError: ``null-field`` for null, ``no-messages`` for an empty list, ``bad-field`` for another type.
    """
    found = decoded(value) if isinstance(value, str) else value
    messages = [found] if isinstance(found, Mapping) and found else as_list(found)
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
    flags: list[bool | float | None] = []
    names: list[Mapping[str, str]] = []
    linked = dialect.linked
    unread: list[tuple[str, Any]] = []
    paths: Sequence[str] = message_paths(column, len(values))
    for i, value in enumerate(values):
        path = (root(column), i)
        found = canonical_message(value, path, dialect)
        linked = linked or found.is_call
        unread += [(f"$.{column}[{found.message['role']}].{name}", item) for name, item in found.left_over]
        if found.fragments:
            place = len(messages)
            paths = (*paths[:place], *(at(fragment.path) for fragment in found.fragments), *paths[place + 1 :])
            messages += parts.split(found.message, found.fragments, path)
            flags += [found.flag] * len(found.fragments)
            outer = {name: f"{at(path)}.{found.names.get(name, name)}" for name in found.message if name != "content"}
            names += [{**outer, **fragment.names} for fragment in found.fragments]
        else:
            messages.append(found.message)
            flags.append(found.flag)
            names.append(found.names)
    return Canonical(messages, tuple(flags), tuple(names), tuple(paths), linked, tuple(unread))


class _Read(NamedTuple):
    """One message, its flag, the names of its fields, the messages that its parts make of it, if any, and whether its
    text is a call."""

    message: Message
    flag: bool | float | None
    names: Mapping[str, str]
    fragments: Sequence[parts.Fragment]
    is_call: bool
    left_over: Sequence[tuple[str, Any]] = ()


def canonical_message(value: Any, path: Path, dialect: Dialect) -> _Read:
    """One message. Keys keep the order of the row."""
    if type(value) is not dict:
        value = _as_dict(value, path)
    role, is_call = _role(value, path, dialect)
    message: Message = {}
    flag: bool | float | None = None
    names = dialect.names_of_call if is_call else dialect.names
    said: parts.Parts | None = None
    beside: list[tuple[str, Any]] = []
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
                if isinstance(message["content"], str):
                    beside += parts.left_over(item, key)
        else:
            name = dialect.rename.get(key, key)
            if name in FLAGS:
                flag = _flag(item, flag, (path, key), is_weight=name in WEIGHTS)
            else:
                _add(message, name, item, (path, key))
                if name in REASONING:
                    beside += parts.left_over(item, key)
                names = _named(names, name, key)
    if "content" not in message:
        _check_says(message, path, dialect)
    _check_reasoning(message, path, names)
    if said is not None:
        names = {**names, **parts.into(message, said, REASONING)}
    return _Read(_with_reasoning(message), flag, names, () if said is None else said.fragments, is_call, beside)


def _check_reasoning(message: Message, path: Path, names: Mapping[str, str]) -> None:
    """A message has one reasoning, under whichever names."""
    said = [name for name in REASONING if message.get(name)]
    if len(said) > 1 and any(message[name] != message[said[0]] for name in said):
        raise bad_field((path, said[1]), message[said[1]], "one reasoning in a message", "remove one of the two fields")


def _check_says(message: Message, path: Path, dialect: Dialect) -> None:
    """A message without content says something else.

    Raises:
        RowError: ``null-field`` where it says nothing, ``field-dropped`` where nothing reads what it says.
    """
    others = message.keys() - _BARE
    if others & (_SAYING | dialect.mentioned):
        return
    for name in others:
        raise RowError(
            "field-dropped",
            at((path, name)),
            f"{shown(message[name])}, which nothing reads, in a message that says nothing else",
            "words in a field that the template prints",
            "rename the field, or take the message out",
            changes=list(meant_fields(name, message[name])),
        )
    text(None, (path, dialect.content))


def _as_dict(value: object, path: Path) -> dict[str, Any]:
    found = decoded(value) if isinstance(value, str) else value
    if isinstance(found, Mapping):
        return dict(found)
    raise bad_field(path, value, "a message such as {'role': 'user', 'content': …}", "convert the message")


def _role(message: Mapping[str, Any], path: Path, dialect: Dialect) -> tuple[str, bool]:
    """The role in our words, and whether its text is a call."""
    value = message.get(dialect.role)
    if not isinstance(value, str) or not value:
        found = "no role" if value is None else f"{type(value).__name__} {shown(value)}"
        fix = f"fill in {dialect.role!r}"
        raise RowError(
            "bad-role",
            at((path, dialect.role)),
            found,
            "text such as 'user'",
            fix,
            changes=list(_speakers(message, dialect)),
        )
    role = dialect.roles_of(value)
    if role is None:
        raise _unknown_role(text(value, (path, dialect.role)), at((path, dialect.role)), dialect.roles)
    return role


def _speakers(message: Mapping[str, Any], dialect: Dialect) -> Iterator[Change]:
    """The fields of a message that may say whose it is."""
    for name, value in message.items():
        if isinstance(value, str) and len(value) < _LONGEST_ROLE and dialect.roles_of(value) is not None:
            about = "reads it as the role"
            yield Change(f"field_map={{'role': {name!r}}}", about, {"field_map": {"role": name}})


def _unknown_role(written: str, path: str, roles: Roles) -> RowError:
    """The error for a role that nobody knows, with what it may have been meant to be."""
    near = roles.nearest(written)
    meant = None if near is None else roles.read(near)
    told = "" if near is None else f" (did you mean {near!r}?)"
    guess = "user" if meant is None else "function_call" if meant == CALL else meant
    return RowError(
        "unknown-role",
        path,
        f"{shown(written)}{told}",
        "'user', 'assistant', 'system', 'developer', 'tool', a usual name of one of them, or a role that the template "
        "has a branch for",
        "correct the role",
        changes=[
            Change(f"roles={{{written!r}: {role!r}}}", about, {"roles": {written: role}})
            for role, about in ((guess, "says what it means"), (written, "prints it as it is"))
        ],
    )


def _named(names: Mapping[str, str], ours: str, theirs: str) -> Mapping[str, str]:
    """The names of a message, with a field that canonical messages call otherwise."""
    if ours == "function_call":
        return {**names, "tool_calls": theirs}
    if ours in REASONING and theirs != "reasoning_content":
        return {**names, **dict.fromkeys(REASONING, theirs)}
    return names


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


def _flag(value: object, before: bool | float | None, path: Path, *, is_weight: bool) -> bool | float:
    """A flag of a message as True or False; a weight may be any other number.

    Raises:
        RowError: ``bad-field`` for anything but true, false and numbers, and for two flags that disagree.
    """
    number = plain(value, path)
    if isinstance(number, bool | int | float) and (number in (0, 1) or (is_weight and math.isfinite(number))):
        flag = bool(number) if number in (0, 1) else float(number)
        if before is None or before == flag:
            return flag
        raise bad_field(path, value, "flags that agree", "keep one of `train` and `weight`")
    raise bad_field(path, value, "a number" if is_weight else "true, false, 0 or 1", "correct it, or take it out")


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
    match = re.match(r"\$\.messages\[(\d+)\](?:\.(\w+))?(.*)", error.path)
    if error.path == "$.messages":
        columns = [path.partition("[")[0] for path in example.paths if "[" in path]
        found = columns[0] if columns else "$"
        return RowError(error.reason, found, error.found, error.expected, error.fix, changes=error.changes)
    if match is None or int(match[1]) >= len(example.paths):
        return error
    place = int(match[1])
    path = dataset_path(example, place, match[2] or "", match[3])
    return RowError(error.reason, path, error.found, error.expected, error.fix, changes=error.changes)


def dataset_path(example: Conversation, place: int, name: str, inside: str = "") -> str:
    """The path in the dataset of a message's field, and of what is inside it; without a name, of the message."""
    path = example.paths[place]
    names = example.names[place] if place < len(example.names) else _SAME
    part = names.get(f"{name}{inside.partition(']')[0]}]")
    if part is not None:  # a call that is a part of the content
        own = inside.partition("]")[2]
        return f"{path}.{part}{'' if own.startswith('.function') else own}"
    theirs = names.get(name, name)
    if name == "tool_calls" and theirs == names.get("content", "content"):
        inside = ""  # the call is the text of its message, whose JSON has no path
    if theirs.startswith("$."):
        path, theirs = theirs, ""  # a field of the whole message, of which this one is a part
    return f"{path}.{theirs}{inside}" if theirs else f"{path}{inside}"


def with_column(error: RowError, columns: Mapping[str, str]) -> RowError:
    """The error about a record with the dataset's name of the column, where the template has another."""
    name = error.path.removeprefix("$.")
    if name not in columns:
        return error
    path = at((None, columns[name]))
    return RowError(error.reason, path, error.found, error.expected, error.fix, changes=error.changes)
