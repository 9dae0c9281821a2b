"""A chat template that renders conversations: their values traced, and as plain Jinja has them.

In: conversations. Out: traces of whole conversations, of their beginnings, and of their generation prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import jinja2

from instruct_fmt.template.label.template_errors import PYTHON_ERRORS, row_error, text_differs
from instruct_fmt.template.trace.owners import Owners
from instruct_fmt.template.trace.trace import Trace
from instruct_fmt.template.trace.traced_template import TracedTemplate
from instruct_fmt.template.trace.traced_values import trace_message, traced_variables
from instruct_fmt.types import Conversation

# What a message that is a call and nothing else may have for content, the likeliest to be understood first.
EMPTY_CONTENTS: dict[str, dict[str, str | None]] = {"empty": {"content": ""}, "null": {"content": None}, "absent": {}}


@dataclass(frozen=True, slots=True)
class MessageForm:
    """How a template wants messages to be written.

    Attributes:
        parts: whether it prints content only as a list of parts.
        contents: for each form of an empty content whether it prints a call with it.
    """

    parts: bool = False
    contents: Mapping[str, bool] = field(default_factory=lambda: dict.fromkeys(EMPTY_CONTENTS, True))


@dataclass(frozen=True, slots=True)
class Scene:
    """One conversation, its values traced once, to be rendered as often as needed."""

    messages: Sequence[Any]
    variables: Mapping[str, Any]
    plain_messages: Sequence[Mapping[str, Any]]
    plain_variables: Mapping[str, Any]


@dataclass(frozen=True)
class ChatRenderer:
    """Renders conversations.

    Attributes:
        template: the compiled template.
        variables: the special tokens and the formatter's own template variables.
        now: the clock that templates see.
        form: how the template wants messages to be written.
    """

    template: TracedTemplate
    variables: Mapping[str, Any]
    now: datetime | None
    form: MessageForm = field(default_factory=MessageForm)

    def with_form(self, form: MessageForm) -> ChatRenderer:
        """The same, messages written otherwise."""
        return replace(self, form=form)

    def scene(self, conversation: Conversation) -> Scene:
        """Trace the conversation's values."""
        messages, variables = self._values(conversation)
        return Scene(
            [trace_message(message, index) for index, message in enumerate(messages)],
            traced_variables(conversation.tools, conversation.documents, conversation.template_kwargs, self.variables),
            messages,
            variables,
        )

    def trace(self, scene: Scene, count: int | None = None, *, prompt: bool = False) -> Trace:
        """Render the first `count` messages, all by default; with `prompt`, make the model speak.

        Raises:
            RowError: the template refuses the row or exceeds its budget.
            TemplateError: the template reads a clock that is not pinned.
        """
        messages = list(scene.messages if count is None else scene.messages[:count])
        owners = Owners()
        variables = {**scene.variables, "add_generation_prompt": prompt}
        try:
            return self.template.trace_chat(messages, variables, self.now, owners)
        except (jinja2.TemplateError, *PYTHON_ERRORS) as error:
            raise row_error(error, _place(owners), self.template) from error

    def proven(self, scene: Scene, count: int | None = None, *, prompt: bool = False) -> Trace:
        """`trace`, compared with the plain rendering.

        Raises:
            RowError: as `trace`, and where the two texts differ.
        """
        trace = self.trace(scene, count, prompt=prompt)
        plain = self._plain(scene.plain_messages[:count], scene.plain_variables, prompt=prompt)
        if plain != trace.text:
            raise text_differs(plain, trace.text)
        return trace

    def plain(self, conversation: Conversation, count: int | None = None, *, prompt: bool = False) -> str:
        """The first `count` messages, all by default, as plain Jinja renders them; with `prompt`, so that the model
        speaks.

        Raises:
            RowError: the template refuses the row or exceeds its budget.
        """
        messages, variables = self._values(conversation)
        return self._plain(messages[:count], variables, prompt=prompt)

    def _plain(
        self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], *, prompt: bool = False
    ) -> str:
        values = {**variables, "messages": list(messages), "add_generation_prompt": prompt}
        try:
            return self.template.plain(values, self.now)
        except (jinja2.TemplateError, *PYTHON_ERRORS) as error:
            raise row_error(error, "$.messages", self.template) from error

    def _values(self, conversation: Conversation) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]:
        """Messages and variables as a template sees them."""
        messages = [self.printable(message) for message in conversation.messages]
        messages = [_in_parts(message) for message in messages] if self.form.parts else messages
        own = {**self.variables, **conversation.template_kwargs}
        return messages, {**own, "tools": conversation.tools, "documents": conversation.documents}

    def printable(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """A call without content, its content left out, null or empty as the template needs it to print the call."""
        if not message.get("tool_calls") or message.get("content", "") != "":
            return message
        form = next((form for form, prints in self.form.contents.items() if prints), None)
        if form is None or self.form.contents["empty" if "content" in message else "absent"]:
            return message
        rest = {name: value for name, value in message.items() if name != "content"}
        return {**rest, **EMPTY_CONTENTS[form]}


def _in_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else dict(message)


def _place(owners: Owners) -> str:
    """The path of the message whose turn it was, as far as that is known."""
    place = owners.item if owners.owner is None else owners.owner
    return "$.messages" if place is None else f"$.messages[{place}]"
