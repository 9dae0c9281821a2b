"""A conversation as a server would be sent it: its prompts and renderings by `apply_chat_template`, and its fields."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import oracles
from corpus_rows import NOW
from jinja2 import TemplateError
from served_rows import Message
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

INLINE = re.compile(r"<think>(.*?)</think>(.*)", re.DOTALL)

# what is asked for, as plain Jinja answers it


def pin_clock(template: str) -> None:
    """Give a template a clock that stands still; transformers takes functions from no other hand."""
    with suppress(TemplateError):
        chat_template_utils._compile_jinja_template(template).globals["strftime_now"] = NOW.strftime


@dataclass(frozen=True)
class Scene:
    """A conversation under a template and a tokenizer, in one of the forms that a server may be sent it in.

    Attributes:
        messages: the messages in that form.
        nulls: whether content that is null reaches the template, as older versions of transformers had it.
        names: template variables.
    """

    tokenizer: PreTrainedTokenizerFast
    template: str
    messages: Sequence[Message]
    tools: Sequence[Message] | None
    names: Mapping[str, Any]
    nulls: bool = False
    kept: dict[tuple[int, bool], tuple[str, list[int]] | None] = field(default_factory=dict, compare=False)

    def prompt(self, turn: int) -> tuple[str, list[int]] | None:
        """What a server sends to get message `turn`: text and ids; None where the template refuses."""
        return self._asked(turn, True)

    def whole(self, count: int) -> tuple[str, list[int]] | None:
        """The first `count` messages."""
        return self._asked(count, False)

    def _asked(self, count: int, prompt: bool) -> tuple[str, list[int]] | None:
        key = (count, prompt)
        if key not in self.kept:
            pin_clock(self.template)
            try:
                text = self._text(count, prompt)
                self.kept[key] = text, self._ids(text, count, prompt)
            except oracles.PLAIN_FAILURES:
                self.kept[key] = None
        return self.kept[key]

    def _text(self, count: int, prompt: bool) -> str:
        messages, names = list(self.messages[:count]), {**self.names, "add_generation_prompt": prompt}
        tools = list(self.tools) if self.tools else None
        if not self.nulls:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, tools=tools, chat_template=self.template, tokenize=False, **names
                )
            )
        special = dict(self.tokenizer.special_tokens_map)
        texts, _ = chat_template_utils.render_jinja_template(
            [messages], tools=tools, chat_template=self.template, **{**special, **names}
        )
        return str(texts[0])

    def _ids(self, text: str, count: int, prompt: bool) -> list[int]:
        if self.nulls:
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return oracles.chat_ids(
            self.tokenizer, self.template, self.messages[:count], self.tools, add_generation_prompt=prompt, **self.names
        )

    @cached_property
    def text(self) -> str | None:
        """The whole conversation."""
        found = self.whole(len(self.messages))
        return found and found[0]

    @property
    def turns(self) -> list[int]:
        """The messages that the model writes and a server can ask for."""
        return [turn for turn, message in enumerate(self.messages) if turn and message["role"] == "assistant"]

    def upto(self, count: int) -> Scene:
        """The first messages of it; what was rendered stays known."""
        return self if count == len(self.messages) else replace(self, messages=self.messages[:count])

    def end(self, turn: int) -> int:
        """The message behind the last one of the model's that follows message `turn` without another speaker."""
        while turn < len(self.messages) and self.messages[turn]["role"] == "assistant":
            turn += 1
        return turn


def in_parts(message: Message) -> Message:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _with_null(message: Message, value: object) -> Message:
    if message.get("content") or not message.get("tool_calls"):
        return message
    bare = {key: item for key, item in message.items() if key != "content"}
    return bare if value is ... else {**bare, "content": value}


def forms(
    tokenizer: PreTrainedTokenizerFast,
    template: str,
    messages: Sequence[Message],
    tools: Sequence[Message] | None,
    names: Mapping[str, Any],
) -> list[Scene]:
    """The conversation in every form: content as text and as parts; beside calls empty, missing and null."""
    bare = any(message.get("tool_calls") and not message.get("content") for message in messages)
    found = []
    for value in ("", ..., None) if bare else ("",):
        for parts in (False, True):
            shown = [_with_null(message, value) for message in messages]
            shown = [in_parts(message) for message in shown] if parts else shown
            found.append(Scene(tokenizer, template, shown, tools, names, nulls=value is None))
    return found


# the fields of a message


@dataclass(frozen=True)
class Fields:
    """What a message of the model's says, in order; for each call its name and values."""

    reasoning: str
    content: str
    calls: tuple[tuple[str, ...], ...]

    @property
    def parts(self) -> list[tuple[str, tuple[str, ...]]]:
        """The fields that hold anything: what they are, and their texts."""
        said = [("reasoning", self.reasoning), ("content", self.content)]
        return [*((name, (text,)) for name, text in said if text), *(("call", call) for call in self.calls)]


def fields(message: Message) -> Fields:
    """The fields of a message; inline thoughts count as reasoning."""
    content, reasoning = content_of(message), str(message.get("reasoning_content") or "")
    inline = INLINE.match(content)
    if inline:
        reasoning, content = inline[1].strip(), inline[2].strip()
    calls = (call["function"] for call in message.get("tool_calls") or ())
    return Fields(reasoning, content, tuple((call["name"], *_values(call["arguments"])) for call in calls))


def _values(arguments: Message) -> list[str]:
    """The values of arguments; how null is written, the template decides."""
    return [str(value) for value in arguments.values() if value is not None]


def content_of(message: Message) -> str:
    """The content of a message as text."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def find(text: str, wanted: str, start: int = 0) -> tuple[int, int] | None:
    """Where a text stands in another one, white space aside."""
    found = re.compile(r"\s+".join(map(re.escape, wanted.split()))).search(text, start)
    return found and found.span()


def unprinted(scene: Scene, messages: Sequence[int]) -> list[str]:
    """The texts of some messages that neither the conversation nor its part up to them or a later prompt prints."""
    missing = []
    for index in messages:
        asked = [scene.prompt(turn) for turn in scene.turns if turn > index]
        texts = [text for text, _ in filter(None, [scene.whole(len(scene.messages)), scene.whole(index + 1), *asked])]
        missing += [wanted for wanted in _own(scene.messages[index]) if not any(find(text, wanted) for text in texts)]
    return missing


def _own(message: Message) -> list[str]:
    if message["role"] != "assistant":
        return [content_of(message)]
    return [text for _, texts in fields(message).parts for text in texts]
