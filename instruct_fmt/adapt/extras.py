"""What a row says beside its messages in (system, tools, documents, variables), the conversation out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from instruct_fmt.adapt import parts
from instruct_fmt.adapt import tools as tool_forms
from instruct_fmt.adapt.canonical import IS_TEXT, Canonical
from instruct_fmt.adapt.content import content
from instruct_fmt.adapt.fields import Fields
from instruct_fmt.adapt.values import Path, as_list, at, object_of, root, text
from instruct_fmt.common.names import RESERVED
from instruct_fmt.errors import RowError
from instruct_fmt.types import Conversation, Message

_MEDIA = ("images", "audios", "videos")
SYSTEM_ROLES = ("system", "developer")
# Variables that the formatter sets itself.


@dataclass(frozen=True)
class Extras:
    """Names of the columns beside the messages (None where the dataset has no such column).

    Attributes:
        default_system: put in front of conversations that have no system message.
        media: columns with images, audio or video; a row that fills one is refused.
    """

    default_system: str | None
    system: str | None
    tools: str | None
    documents: str | None
    template_kwargs: str | None
    media: tuple[str, ...]

    @cached_property
    def _names(self) -> dict[str, str]:
        found = {"tools": self.tools, "documents": self.documents, "chat_template_kwargs": self.template_kwargs}
        return {ours: theirs for ours, theirs in found.items() if theirs is not None and ours != theirs}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        found = (self.system, self.tools, self.documents, self.template_kwargs, *self.media)
        return tuple(name for name in found if name is not None)

    def conversation(self, found: Canonical, row: Mapping[str, Any]) -> Conversation:
        """Put a row's parts together.

        Raises:
            RowError: ``media``, ``bad-tools`` or ``bad-field``, with the column's path.
        """
        for column in self.media:
            _refuse_media(row.get(column), column)
        messages, flags, names, paths, _, unread = found
        if self.system is not None:
            unread = (
                *unread,
                *((f"$.{path}", item) for path, item in parts.left_over(row.get(self.system), self.system)),
            )
        front = self._system(messages, row)
        if front is not None:
            source, prompt = front
            messages = [{"role": "system", "content": prompt}, *messages]
            flags, paths, names = (None, *flags), (source, *paths), (IS_TEXT, *names)
        tools, documents, variables = self.tools, self.documents, self.template_kwargs
        return Conversation(
            messages,
            tool_forms.tools(row.get(tools), root(tools)) if tools else None,
            tool_forms.documents(row.get(documents), root(documents)) if documents else None,
            template_variables(row.get(variables), variables) if variables else {},
            flags,
            paths,
            names,
            self._names,
            unread,
        )

    def _system(self, messages: list[Message], row: Mapping[str, Any]) -> tuple[str, str] | None:
        """The path and the text of a system prompt that is not among the messages."""
        value = row.get(self.system) if self.system else None
        path = root(self.system or "system")
        prompt = "" if value is None else _system_text(value, path)
        if not prompt and self.default_system is None:
            return None
        own = next((message for message in messages if message["role"] in SYSTEM_ROLES), None)
        if own is None:
            return (at(path), prompt) if prompt else ("system=", self.default_system or "")
        if prompt and own.get("content") != prompt:
            raise RowError(
                "bad-field",
                at(path),
                "a system prompt beside a different system message",
                "one system prompt",
                "take one of the two out of the row, or drop the column",
            )
        return None


def find_extras(fields: Fields, system: str | None, allow_dropped: Collection[str] = ()) -> Extras:
    """Find the columns once; media in `allow_dropped` are not looked at."""
    return Extras(
        default_system=system,
        system=fields.find("system"),
        tools=fields.find("tools"),
        documents=fields.find("documents"),
        template_kwargs=fields.find("chat_template_kwargs"),
        media=tuple(
            name
            for field in _MEDIA
            if (name := fields.find(field)) and field not in allow_dropped and name not in allow_dropped
        ),
    )


def _system_text(value: object, path: Path) -> str:
    """The text of a system prompt; Anthropic writes it as a list of text parts."""
    if as_list(value) is None:
        return text(value, path)
    found: str = content(value, path, "system")
    return found


def _refuse_media(value: Any, column: str) -> None:
    if value is None or (isinstance(value, str | bytes | list | tuple | dict) and not value):
        return
    raise RowError(
        "media",
        at(root(column)),
        f"a filled column {column!r}",
        "text only; images, audio and video are not supported",
        "leave such rows out; to train on the text alone, remove the column",
    )


def template_variables(value: Any, column: str) -> dict[str, Any]:
    """The template variables of a row.

    Raises:
        RowError: ``bad-field``, with the column's path.
    """
    path = root(column)
    if value is None or value == "":
        return {}
    found = object_of(value, path, "bad-field", "an object of template variables")
    taken = sorted(RESERVED & found.keys())
    if taken:
        what = f"the variable {taken[0]!r}"
        raise RowError("bad-field", at(path), what, "variables that the formatter does not set", "remove it")
    return found
