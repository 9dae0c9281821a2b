"""Lists of parts that say more than text in; what they say, each in its field of a canonical message, out.

| part | of | becomes |
|---|---|---|
| ``{"type": "reasoning" | "thinking", …}``, its text under the type's name, `text` or `value` | an answer | reasoning |
| ``{"type": "tool_use", "id", "name", "input"}`` (Anthropic) | an answer | a call |
| ``{"type": "tool_call", "value": "{…}"}`` (LLaMA-Factory), or with the members of a call | an answer | a call |
| ``{"type": "tool_result", "tool_use_id", "content"}`` (Anthropic) | a user's message | a message of role `tool` |

A canonical answer has its reasoning in front of its text, and its calls behind it: parts in another order are refused.
A user's message with results becomes one message for each result, and one for the text between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from instruct_fmt.adapt import tools
from instruct_fmt.adapt.content import RESULT_ROLES, content, is_joined, part_text, text_key
from instruct_fmt.adapt.values import Path, as_list, at, bad_field, plain, text
from instruct_fmt.errors import RowError
from instruct_fmt.types import Message

_KINDS = {
    "reasoning": "reasoning",
    "thinking": "reasoning",
    "tool_use": "calls",
    "tool_call": "calls",
    "tool_result": "result",
    "redacted_thinking": "redacted",
}
_ORDER = ("reasoning", "text", "calls")
# Members of a result that are not copied into its message.
_OF_RESULT = frozenset({"type", "tool_use_id", "content", "role", "tool_calls"})
# Fields that say something of one message.
_OF_ONE = frozenset(
    {"name", "tool_call_id", "tool_calls", "prefix", "is_error", "reasoning_content", "thinking", "reasoning"}
)

_Part = tuple[Any, Path]


class Fragment(NamedTuple):
    """One of the messages that a message becomes.

    Attributes:
        message: its role, its content, and what the part says beside them.
        path: where it comes from.
        names: our names of its fields → the part's, where they differ; ``""`` where the path leads to the field itself.
    """

    message: Message
    path: Path
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the parts of a message say.

    Attributes:
        content: the text of an answer.
        reasoning: the reasoning of an answer and where it begins, if it has any.
        calls: the calls of an answer and where they are.
        fragments: the messages that a message with results becomes, in the order of its parts.
    """

    content: str = ""
    reasoning: tuple[str, Path] | None = None
    calls: Sequence[tuple[dict[str, Any], Path]] = ()
    fragments: Sequence[Fragment] = ()


def read(value: object, path: Path, role: str) -> Parts | None:
    """What a message's content says, where it is more than text; None where `content` reads it.

    Args:
        value: the content of a message.
        path: where it stands in the row.
        role: the canonical role of the message. Results of tools may be structured data, which is left alone.

    Raises:
        RowError: ``bad-field`` for a part that the role cannot have, reasoning that is no text, and parts of an answer
            that are in another order; ``bad-tools`` for calls that cannot be read; and what `content` raises.

    >>> read([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hi"}], (None, "content"), "assistant")
    Parts(content='Hi', reasoning=('Hm.', ((None, 'content'), 0)), calls=[], fragments=())
    """
    parts: list[_Part]
    if isinstance(value, Mapping):
        parts = [(value, path)]
    else:
        parts = [(part, (path, i)) for i, part in enumerate(as_list(value) or ())]
    kinds = {_kind(part) for part, _ in parts}
    if kinds <= {"text"} or (role in RESULT_ROLES and kinds != {"result"}):
        return None
    return _answer(parts) if role == "assistant" else Parts(fragments=_fragments(parts, role))


def left_over(value: object, name: str) -> Iterator[tuple[str, Any]]:
    """What parts of text, of reasoning and of results say beside it, at any depth.

    Args:
        value: what is read as text: a part or a list of parts; text itself has nothing beside it.
        name: what it is called in its message.

    >>> list(left_over([{"type": "thinking", "thinking": "Hm.", "signature": "x"}], "content"))
    [('content[].signature', 'x')]
    """
    listed = None if isinstance(value, Mapping) else as_list(value)
    here = f"{name}[]" if listed is not None else name
    for part in [value] if isinstance(value, Mapping) else listed or ():
        kind = _kind(part)
        if not isinstance(part, Mapping) or kind not in ("text", "reasoning", "result"):
            continue
        said = _reasoning_key(part) if kind == "reasoning" else text_key(part) if kind == "text" else "content"
        if kind != "result" or is_joined(part.get(said)):
            yield from left_over(part.get(said), f"{here}.{said}")
        if kind != "result":  # a result's other members are members of its message
            yield from (
                (f"{here}.{key}", item) for key, item in part.items() if key not in ("type", said) and item is not None
            )


def _kind(part: object) -> str:
    """What a part says; those of an unknown type count as text, which they must hold."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    return _KINDS.get(kind, "text") if isinstance(kind, str) else "text"


def _answer(parts: Sequence[_Part]) -> Parts:
    """What the parts of an assistant's message say."""
    texts: list[str] = []
    thoughts: list[tuple[str, Path]] = []
    calls: list[tuple[dict[str, Any], Path]] = []
    last = 0
    for part, place in parts:
        kind = _kind(part)
        if kind == "calls":
            said: Any = _calls(part, place)
            calls += [(call, place) for call in said]
        elif kind == "reasoning":
            said = _reasoning(part, place)
            thoughts.append((said, place))
        elif kind == "text":
            said = part_text(part, place)
            texts.append(said)
        else:
            raise _misplaced(part, place, "assistant")
        if said:
            if _ORDER.index(kind) < last:
                raise _out_of_order(kind, _ORDER[last], place)
            last = _ORDER.index(kind)
    reasoning = ("".join(said for said, _ in thoughts), thoughts[0][1]) if thoughts else None
    return Parts("".join(texts), reasoning, calls)


def _fragments(parts: Sequence[_Part], role: str) -> list[Fragment]:
    """The messages that a message with results of tools becomes. Text that is empty makes none."""
    fragments: list[Fragment] = []
    behind_text = False
    for part, place in parts:
        kind = _kind(part)
        if kind == "result" and (role == "user" or role in RESULT_ROLES):
            fragments.append(_result(part, place, "tool" if role == "user" else role))
        elif kind != "text":
            raise _misplaced(part, place, role)
        elif said := part_text(part, place):
            if behind_text:
                fragments[-1].message["content"] += said
            else:
                fragments.append(Fragment({"role": role, "content": said}, place, {"content": text_key(part)}))
        behind_text = bool(fragments) and fragments[-1].message["role"] == role and kind == "text"
    return fragments


def _result(part: Mapping[str, Any], path: Path, role: str) -> Fragment:
    """The message of a result: its content, the id of its call, and whatever else the part says."""
    value = part.get("content")
    message: Message = {"role": role, "content": "" if value is None else content(value, (path, "content"), "tool")}
    if part.get("tool_use_id") is not None:
        message["tool_call_id"] = text(part["tool_use_id"], (path, "tool_use_id"))
    for key, item in part.items():
        if item is not None and key not in _OF_RESULT:
            message[text(key, path)] = plain(item, (path, key))
    return Fragment(message, path, {"tool_call_id": "tool_use_id"})


def _reasoning(part: Mapping[str, Any], path: Path) -> str:
    """The text of a part with reasoning; Mistral writes it as a list of text parts."""
    key = _reasoning_key(part)
    if part.get(key) is None:
        return text(None, (path, key))
    found: str = content(part[key], (path, key), "assistant")
    return found


def _reasoning_key(part: Mapping[str, Any]) -> str:
    """The name under which a part has its reasoning."""
    keys = (part["type"], "text", "value", "content")
    found = [key for key in keys if part.get(key) is not None] or [key for key in keys if key in part]
    return str(found[0]) if found else "text"


def _calls(part: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """The call of a part; LLaMA-Factory writes it as JSON text under `value`."""
    if part["type"] == "tool_call" and part.get("name") is None and part.get("function") is None:
        return tools.calls_of_text(part.get("value"), (path, "value"))
    return tools.tool_calls(part, path) or []


def _misplaced(part: Mapping[str, Any], path: Path, role: str) -> RowError:
    """The error for a part that a message of this role cannot have."""
    kind = part["type"]
    if _kind(part) == "redacted":
        fix = "take the part out, or leave such rows out of the dataset"
        return RowError("bad-field", at(path), f"a part of type {kind!r}", "reasoning that can be read", fix)
    wanted = "user" if _kind(part) == "result" else "assistant"
    found = f"a part of type {kind!r} in a message of role {role!r}"
    fix = f"take the part out, or give it a message of role {wanted!r}"
    return RowError("bad-field", at(path), found, f"such parts in messages of role {wanted!r}", fix)


def _out_of_order(kind: str, last: str, path: Path) -> RowError:
    """The error for a part that comes too late."""
    named = {"reasoning": "reasoning", "text": "text", "calls": "a call"}
    expected = "the parts of an answer in the order that templates write: reasoning, text, calls"
    fix = "put the parts in this order, or begin another message with this one"
    return RowError("bad-field", at(path), f"{named[kind]} behind {named[last]}", expected, fix)


def into(message: Message, parts: Parts, names: Sequence[str]) -> dict[str, str]:
    """Fill an answer with the reasoning and the calls of its parts, whose text it has; changes the message.

    Args:
        message: a canonical message.
        parts: what its parts say.
        names: what its reasoning may be called.

    Returns:
        Our names of these fields, and of each call → where they are in the message of the row.

    Raises:
        RowError: ``bad-field`` where it has others in a field of its own.
    """
    found: dict[str, str] = {}
    if parts.reasoning is not None:
        said, path = parts.reasoning
        if any(message.get(name, said) != said for name in names):
            raise bad_field(path, said, "one reasoning in a message", "remove the part, or the field beside it")
        message.setdefault(names[0], said)
        found.update(dict.fromkeys(names, _inside(path)))
    if parts.calls:
        calls = [call for call, _ in parts.calls]
        if message.setdefault("tool_calls", calls) != calls:
            path = parts.calls[0][1]
            raise bad_field(path, calls, "one list of calls in a message", "remove the part, or the field beside it")
        found.update({f"tool_calls[{i}]": _inside(path) for i, (_, path) in enumerate(parts.calls)})
    return found


def _inside(path: Path) -> str:
    """The path of a part from its message on."""
    parent, key = path
    return f"{parent[1]}[{key}]" if isinstance(key, int) else key


def split(message: Message, fragments: Sequence[Fragment], path: Path) -> list[Message]:
    """The messages that a message with results becomes; what it says beside its content holds for each.

    Args:
        message: its fields, canonical, without flags.
        fragments: what its parts say.
        path: where it stands in the row.

    Raises:
        RowError: ``bad-field`` for a field that would hold for one of them only.
    """
    beside = {key: value for key, value in message.items() if key not in ("role", "content")}
    for key in beside:
        if key in _OF_ONE and any(piece.message.get(key) != beside[key] for piece in fragments):
            fix = "remove it, or write results and text as messages of their own"
            raise bad_field((path, key), beside[key], "no such field beside results of tools", fix)
    return [{**piece.message, **beside} for piece in fragments]
