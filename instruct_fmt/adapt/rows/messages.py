"""Rows with a list of messages in (``role/content``, ``from/value``, or named keys), conversations out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.canonical import Dialect, canonical_messages, message_list
from instruct_fmt.adapt.extras import Extras
from instruct_fmt.adapt.fields import MESSAGE, TAGS, Fields
from instruct_fmt.adapt.formats import BESIDE, Format, Given, Made, Row
from instruct_fmt.adapt.roles import CALL, Roles
from instruct_fmt.adapt.rows.sharegpt import link_results
from instruct_fmt.adapt.values import as_list, decoded, root
from instruct_fmt.types import Conversation, TemplateSource

_TAG_ROLES = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": CALL,
    "system_tag": "system",
}


def dialects(fields: Fields, asked: Asked, source: TemplateSource) -> tuple[Dialect, Dialect]:
    """How this dataset writes messages: in OpenAI's way, and in ShareGPT's."""
    mapped = fields.mapped
    rename = {mapped[name]: name for name in MESSAGE[2:] if name in mapped}
    tags = {mapped[tag]: role for tag, role in _TAG_ROLES.items() if tag in mapped}
    roles, mentioned = Roles({**asked.roles, **tags}, source.roles), source.mentioned
    openai = Dialect(mapped.get("role", "role"), mapped.get("content", "content"), rename, roles, mentioned)
    role, content = mapped.get("role", "from"), mapped.get("content", "value")
    return openai, Dialect(role, content, rename, roles, mentioned, linked=True)


def adapter(
    fields: Fields, extras: Extras, spoken: tuple[Dialect, Dialect], format: str | None
) -> tuple[Sequence[str], Callable[[Mapping[str, Any]], Conversation]]:
    """Make the adapter of a dataset with a list of messages.

    Args:
        fields: the columns and what the user says about them.
        extras: the columns beside the messages.
        spoken: how messages may be written: in OpenAI's way, and in ShareGPT's.
        format: ``messages``, ``sharegpt``, or None: the first message of each row tells.

    Returns:
        The columns that are read, and what reads a row.

    Raises:
        UsageError: no column holds messages.
    """
    column = fields.need("messages", format or "messages")
    path = root(column)
    openai, sharegpt = spoken
    fixed = {"messages": openai, "sharegpt": sharegpt}.get(format or "")

    def adapt(row: Mapping[str, Any]) -> Conversation:
        values = message_list(row.get(column), path)
        dialect = fixed or (sharegpt if is_sharegpt(values[0]) else openai)
        found = canonical_messages(values, column, dialect)
        if found.linked:
            link_results(found.messages)
        return extras.conversation(found, row)

    return (column, *extras.columns), adapt


def is_sharegpt(message: Any) -> bool:
    """Whether a message is written as ``from/value``."""
    found = decoded(message) if isinstance(message, str) else message
    if not isinstance(found, Mapping):
        return False
    return found.get("role") is None and found.get("from") is not None


def _make(given: Given) -> Made:
    """The adapter of messages; where no format was named, each row tells its dialect itself."""
    spoken = dialects(given.fields, given.asked, given.source)
    return adapter(given.fields, given.extras, spoken, given.named)


def _shown(format: Format, given: Given, sample: Row | None) -> str:
    """A `messages` column may hold ShareGPT's messages."""
    column = given.fields.find("messages")
    value = sample.get(column) if sample and column else None
    first = as_list(decoded(value) if isinstance(value, str) else value)
    if first:
        return "sharegpt" if is_sharegpt(first[0]) else "messages"
    return "messages" if column == "messages" else "sharegpt"


_TAKES = ("messages", *MESSAGE, *TAGS, *BESIDE)
FORMAT = Format(
    "messages",
    takes=_TAKES,
    recognises=lambda fields: fields.find("messages") is not None,
    make=_make,
    same=("openai",),
    shown=_shown,
)
SHAREGPT = Format("sharegpt", takes=_TAKES, recognises=lambda fields: False, make=_make)
