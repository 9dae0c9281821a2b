"""Conversations with symbols in place of what their messages say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruct_fmt.template.label.chat_renderer import ChatRenderer, Scene
from instruct_fmt.template.plan.shape import with_leaves
from instruct_fmt.template.plan.symbolic import Symbolic, plain_text, symbolic, with_block
from instruct_fmt.template.plan.symbolic_object import SymbolicObject, UnknownList, symbolic_object, text_of, unknown
from instruct_fmt.template.trace.origins import TOOLS, Field
from instruct_fmt.template.trace.owners import SPEAKING, message_of
from instruct_fmt.template.trace.trace import Trace
from instruct_fmt.template.trace.traced import runs_of, with_runs
from instruct_fmt.template.trace.traced_values import traced_variables
from instruct_fmt.types import Conversation


def _symbol(value: Any, field: Field) -> Any:
    if isinstance(value, str):
        return symbolic(value, field)
    return symbolic_object(value, field) if isinstance(value, dict) else unknown(value)


def _in_parts(content: str, index: int) -> list[dict[str, str]]:
    """The content as a list of parts: each run is of the text of the first."""
    field = Field(index, ("content", 0, "text"))
    return [{"type": "text", "text": with_runs(content, tuple(run._replace(field=field) for run in runs_of(content)))}]


def _shown(value: Any) -> Any:
    """A symbol as the text that it prints; an empty one as none, which makes emptiness a guard."""
    if isinstance(value, SymbolicObject):
        return plain_text(text_of(value))
    if isinstance(value, Symbolic):
        return plain_text(value) if value else ""
    if isinstance(value, dict):
        return {name: _shown(item) for name, item in value.items()}
    if isinstance(value, list) and not isinstance(value, UnknownList):
        return [_shown(item) for item in value]
    return value


class SymbolicRenderer(ChatRenderer):
    """Renders symbols in place of what messages say."""

    def scene(self, conversation: Conversation) -> Scene:
        messages, shown = [], []
        for index, message in enumerate(conversation.messages):
            values = self._printable(with_leaves(message, index, _symbol))
            content = values.get("content")
            if message["role"] in SPEAKING and message.get("content") == "" and isinstance(content, Symbolic):
                # A turn that says nothing: what ends it is found elsewhere than behind words.
                content = content if content else ""
                values = {**values, "content": _in_parts(content, index) if self.form.parts else content}
            if isinstance(content, Symbolic):
                content = with_block(content) if message["role"] in SPEAKING else content
                values = {**values, "content": _in_parts(content, index) if self.form.parts else content}
            messages.append(message_of(values, index, message["role"] in SPEAKING))
            shown.append(_shown(values))
        tools = [symbolic_object(tool, Field(TOOLS, (place,))) for place, tool in enumerate(conversation.tools or ())]
        variables = traced_variables(None, None, conversation.template_kwargs, self.variables)
        variables["tools"] = tools or None
        return Scene(messages, variables, shown, variables)

    def _printable(self, values: dict[str, Any]) -> Mapping[str, Any]:
        """A call as the template needs it; whether it has content is a guard."""
        content = values.get("content", "")
        if "tool_calls" not in values or bool(content):
            return values
        return self.printable({**values, "content": ""} if "content" in values else values)

    def proven(self, scene: Scene, count: int | None = None, *, prompt: bool = False) -> Trace:
        return self.trace(scene, count, prompt=prompt)
