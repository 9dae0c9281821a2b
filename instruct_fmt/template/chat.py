"""A chat template with everything around it: variables, clock, stops.

In: conversations. Out: traces of whole conversations, of their beginnings, and of their generation prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2

from instruct_fmt.errors import RowError, TemplateError, shown
from instruct_fmt.template.environment import BudgetExceeded, ClockRead, RaisedByTemplate
from instruct_fmt.template.provenance import (
    Trace,
    TracedTemplate,
    trace_message,
    traced_variables,
)
from instruct_fmt.template.spans import prompt_tail
from instruct_fmt.template.stops import AFTER_CALLS, ANSWERS, CALLS, PARTS, PROBE_TOOLS, RESULT, StopFinder
from instruct_fmt.template.structure import structural_tokens
from instruct_fmt.types import Added, Conversation

# What a template may raise besides Jinja's own errors: it runs Python's operators and methods on the row's values.
PYTHON_ERRORS = (
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    ZeroDivisionError,
    OverflowError,
    RecursionError,
    UnicodeError,
)


_PACKAGE = "instruct_fmt.template."
_CLASS_NAMES = (
    (_PACKAGE + "provenance.TracedMessages", "list"),
    (_PACKAGE + "provenance.TracedMessage", "dict"),
    (_PACKAGE + "traced.Traced", "str"),
    (_PACKAGE + "environment.TemplateDict", "dict"),
    ("'Traced'", "'str'"),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """One conversation, its values traced once, to be rendered as often as needed."""

    messages: Sequence[Any]
    variables: Mapping[str, Any]
    plain_messages: Sequence[Mapping[str, Any]]
    plain_variables: Mapping[str, Any]


class ChatTemplate:
    """A compiled chat template.

    Args:
        text: Jinja text.
        variables: the special tokens and the formatter's own template variables.
        now: the clock that templates see.
        parts: (attribute) whether the template prints content only as a list of parts.
        declared_stops: EOS and other stop strings known beforehand.
        added: the tokenizer's added tokens.

    Raises:
        TemplateError: the text does not compile, or reads a clock that is not pinned.
    """

    def __init__(
        self,
        text: str,
        variables: Mapping[str, Any],
        now: datetime | None,
        declared_stops: Iterable[str],
        added: Sequence[Added],
    ) -> None:
        self.template = compile_template(text)
        self.variables = dict(variables)
        self.now = now
        self.stops = StopFinder(declared_stops, added)
        self.parts = False
        self.parts = not self._prints(ANSWERS[0]) and self._prints(PARTS)
        self._learn_stops()
        self.structural = self._structural()

    def scene(self, conversation: Conversation, extra: Mapping[str, Any] | None = None) -> Scene:
        """Trace the conversation's values; `extra` overrides template variables."""
        own = {**self.variables, **(extra or {})}
        row = {key: value for key, value in conversation.template_kwargs.items() if key not in (extra or {})}
        messages, variables = self._values(conversation, extra or {})
        return Scene(
            [trace_message(message, index) for index, message in enumerate(messages)],
            traced_variables(conversation.tools, conversation.documents, row, own),
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
        try:
            return self.template.trace_chat(messages, {**scene.variables, "add_generation_prompt": prompt}, self.now)
        except (jinja2.TemplateError, *PYTHON_ERRORS) as error:
            raise row_error(error, "$.messages") from error

    def proven(self, scene: Scene) -> Trace:
        """The trace of the whole conversation, compared with the plain rendering.

        Raises:
            RowError: as `trace`, and where the two texts differ.
        """
        trace = self.trace(scene)
        plain = self._plain(scene.plain_messages, scene.plain_variables)
        if plain != trace.text:
            raise text_differs(plain, trace.text)
        return trace

    def plain(self, conversation: Conversation) -> str:
        """The conversation as plain Jinja renders it."""
        return self._plain(*self._values(conversation, {}))

    def _plain(self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
        values = {**variables, "messages": list(messages), "add_generation_prompt": False}
        return self.template.plain(values, self.now)

    def _values(
        self, conversation: Conversation, extra: Mapping[str, Any]
    ) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]:
        """Messages and variables as a template sees them."""
        messages = [_in_parts(message) for message in conversation.messages] if self.parts else conversation.messages
        own = {**self.variables, **conversation.template_kwargs, **extra}
        return messages, {**own, "tools": conversation.tools, "documents": conversation.documents}

    def _prints(self, messages: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the template prints the last message's content: some know only lists of parts."""
        try:
            trace = self.trace(self.scene(Conversation(list(map(dict, messages)))))
        except RowError:
            return False
        return any(run.field is not None and run.field.place == len(messages) - 1 for run in trace.runs)

    def _learn_stops(self) -> None:
        with_unowned = not self._always_prompts()
        for probes, answer in ((ANSWERS, True), (CALLS, False), (AFTER_CALLS, True)):
            for messages in probes:
                for tools in (None, PROBE_TOOLS):
                    for trace in self._probes(Conversation(messages, tools)):
                        self.stops.learn(*_tails(trace, len(messages) - 1, with_unowned=with_unowned), answer=answer)

    def _structural(self) -> set[str]:
        """The added tokens that structure a conversation."""
        conversations = [*ANSWERS, [*ANSWERS[0], *ANSWERS[0]], *CALLS, *([*call, RESULT] for call in CALLS)]
        probes = [(trace, messages) for messages in conversations for trace in self._probes(Conversation(messages))]
        question = Conversation(ANSWERS[0][:1])
        prompts = zip(self._probes(question, prompt=True), self._probes(question), strict=False)
        return structural_tokens(probes, [prompt_tail(prompt, plain) for prompt, plain in prompts], self.stops)

    def _probes(self, conversation: Conversation, *, prompt: bool = False) -> list[Trace]:
        """The rendered probe; nothing where the template refuses it."""
        try:
            return [self.trace(self.scene(conversation), prompt=prompt)]
        except RowError:
            return []

    def _always_prompts(self) -> bool:
        """Whether the template prints a generation prompt whether it is asked for or not."""
        scene = self.scene(Conversation(ANSWERS[0][:1]))
        try:
            plain, prompt = self.trace(scene), self.trace(scene, prompt=True)
        except RowError:
            return False
        last = plain.runs[-1] if plain.runs else None
        return plain.text == prompt.text and last is not None and last.owner is None


def _tails(trace: Trace, last: int, *, with_unowned: bool) -> tuple[str, str]:
    """The literal text behind the last character of message `last`: its own, and what follows; empty if it is not."""
    own, behind = "", ""
    for run, text in reversed(list(_pieces(trace))):
        if run.field is not None:
            return (own, behind) if run.field.place == last else ("", "")
        if run.owner is not None:
            own = text + own
        elif own:
            own = text + own  # text without an owner inside the turn
        elif with_unowned:
            behind = text + behind
    return "", ""


def _in_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else dict(message)


def _pieces(trace: Trace) -> Iterable[tuple[Any, str]]:
    return ((run, trace.text[start:end]) for start, end, run in trace.positions())


def compile_template(text: str) -> TracedTemplate:
    """Compile Jinja text.

    Raises:
        TemplateError: it does not compile; the message has the template's line.
    """
    try:
        return TracedTemplate(text)
    except jinja2.TemplateSyntaxError as error:
        lines = text.splitlines() or [""]
        line = lines[min(error.lineno, len(lines)) - 1].strip()
        raise TemplateError(
            f"template line {error.lineno}: {error.message}; found {shown(line)}; "
            "expected Jinja2 as transformers' chat templates use it; fix: correct the template"
        ) from error


def row_error(error: Exception, path: str) -> RowError | TemplateError:
    """What to raise for an error that came out of a template."""
    if isinstance(error, ClockRead):
        return TemplateError(f"{error.message}; found: no clock; expected: a fixed date, the same for every row")
    if isinstance(error, BudgetExceeded):
        return RowError(
            "template-budget", path, str(error), "a template that ends", "use another template for this row"
        )
    found = str(error) if isinstance(error, RaisedByTemplate) else f"{type(error).__name__}: {error}"
    for ours, plain in _CLASS_NAMES:
        found = found.replace(ours, plain)
    return RowError(
        "template-raised",
        path,
        shown(found, 200),
        "a row that the template accepts",
        "change the row, or use a template that supports it",
    )


def text_differs(plain: str, traced: str) -> RowError:
    at = next((i for i, (a, b) in enumerate(zip(plain, traced, strict=False)) if a != b), min(len(plain), len(traced)))
    return RowError(
        "text-differs",
        "$",
        f"{shown(traced[at : at + 30])} at character {at} of the traced text",
        f"{shown(plain[at : at + 30])}, as plain Jinja prints it",
        "the template uses a construct that cannot be followed; leave the row out or simplify the template",
    )
