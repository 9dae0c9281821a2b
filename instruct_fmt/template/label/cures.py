"""Fixes that were tried.

In: a row that was refused, and why. Out: the same refusal, its fix made of the options and switches with which this
very row comes out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from instruct_fmt.common.reasoning import reasoned, split_reasoning
from instruct_fmt.errors import RowError, TemplateError
from instruct_fmt.template.label.forms import switches_of
from instruct_fmt.template.label.policy import UNSERVED
from instruct_fmt.types import Conversation, Marked

if TYPE_CHECKING:
    from instruct_fmt.template.label.chat_template import ChatTemplate
    from instruct_fmt.template.label.marker import Marker
    from instruct_fmt.template.label.policy import Policy

_SWITCHED = UNSERVED - {"guard"}
_FORMED = frozenset(["block-twice", "field-dropped", "field-order", "guard", "prefill-unknown"])
Known = Callable[[Conversation], Sequence[Marked] | None]
MOST = 3
"""So many cures are named: the first that work on the row, whatever worked on others."""


@dataclass(frozen=True, slots=True)
class Cure:
    """One change of the call.

    Attributes:
        code: the change as Python writes it.
        about: what it does.
        options: changed policies.
        variables: changed template variables.
        reasoning: what is done to the row's reasoning.
        named_ids: whether calls get ids that hold their names.
    """

    code: str
    about: str
    options: tuple[tuple[str, Any], ...] = ()
    variables: tuple[tuple[str, Any], ...] = ()
    reasoning: str = "keep"
    named_ids: bool = False

    def works(self, marker: Marker, conversation: Conversation, known: Known) -> bool:
        """Whether the row comes out with it; `known` marks rows by what was proven of others, under the same policy."""
        changed = reasoned(_with_named_ids(conversation) if self.named_ids else conversation, self.reasoning)
        changed = replace(changed, template_kwargs={**changed.template_kwargs, **dict(self.variables)})
        if not self.options and changed == conversation:  # nothing of this row changes
            return False
        policy = replace(marker.policy, **dict(self.options))
        try:
            rows = None if self.options else known(changed)
            rows = rows or marker.with_policy(policy).mark_plainly(changed)
        except (RowError, TemplateError):
            return False
        return all(row.eos or any(start < end for start, end in row.trained) for row in rows)


class Cures:
    """Looks for cures under one template and one policy."""

    def __init__(self, template: ChatTemplate, policy: Policy) -> None:
        self._template, self._policy = template, policy

    def with_fix(self, error: RowError, conversation: Conversation, marker: Marker, known: Known) -> RowError:
        """The error with a fix that was tried on the row; as it is where none was found."""
        found: list[Cure] = []
        for cure in dict.fromkeys(self._candidates(error, conversation)):
            if cure.works(marker, conversation, known):
                found.append(cure)
            if len(found) == MOST:
                break
        if not found:
            return error
        fix = "; or ".join(f"{cure.code} {cure.about}" for cure in found)
        return RowError(error.reason, error.path, error.found, error.expected, fix, changes=error.changes)

    def _candidates(self, error: RowError, conversation: Conversation) -> Iterator[Cure]:
        reason = error.reason
        of_reasoning = reason != "field-dropped" or _drops_reasoning(error, conversation)
        if reason == "empty-reasoning":
            yield Cure('empty_reasoning="close"', "closes the block", (("empty_reasoning", "close"),))
        if reason == "start-unknown" and self._policy.prompt_mismatch == "as_rendered":
            about = "makes the row of the prompt and what the model writes behind it"
            yield Cure('prompt_mismatch="as_served"', about, (("prompt_mismatch", "as_served"),))
        if reason == "start-unknown" and self._policy.history == "as_rendered":
            yield Cure('history="auto"', "leaves such turns out", (("history", "auto"),))
        if reason in _SWITCHED and of_reasoning:
            for name, value in switches_of(self._template.text):
                code = f"template_kwargs={{{name!r}: {value!r}}}"
                yield Cure(code, "makes prompt and row agree", variables=((name, value),))
        if reason == "block-twice":
            about = "hands the reasoning to the template as a field"
            yield Cure('reasoning="field"', about, reasoning="field")
        if reason == "field-dropped" and re.search(r"tool_calls\[\d+\](\.function)?\.name$", error.path):
            named = (
                call["id"]
                for message in _with_named_ids(conversation).messages
                for call in message.get("tool_calls", ())
            )
            code = f"ids that hold the names of calls, {next(named)!r} here,"
            yield Cure(code, "are what this template prints", named_ids=True)
        yield from self._formed(reason, of_reasoning=of_reasoning)
        if reason in ("reasoning-closed", "block-twice", "field-order") or (reason == "field-dropped" and of_reasoning):
            yield Cure('reasoning="strip"', "leaves the reasoning out", reasoning="strip")

    def _formed(self, reason: str, *, of_reasoning: bool) -> Iterator[Cure]:
        """Cures by a stated form, written as the template's prompts open their blocks, or as most models do."""
        opener, closer, behind = self._template.block or ("<think>\n", "</think>", "\n\n")
        blank = "\n" if opener.endswith("\n") else ""
        full = f"{opener.rstrip()}{blank}{{reasoning}}{blank}{closer}{behind}{{content}}"
        if reason == "empty-reasoning":
            code = f'empty_reasoning="close" and completion_format={_quoted(full)}'
            options = (("empty_reasoning", "close"), ("completion_format", full))
            yield Cure(code, "closes the block as stated", options)
        elif reason in _FORMED and of_reasoning:
            for form in ("{content}", full) if reason in ("guard", "prefill-unknown") else (full,):
                yield Cure(f"completion_format={_quoted(form)}", "states it", (("completion_format", form),))


def _drops_reasoning(error: RowError, conversation: Conversation) -> bool:
    """Whether what the template leaves out is reasoning, in its field or inline."""
    if re.search(r"\.(reasoning\w*|thinking)$", error.path):
        return True
    inline = re.fullmatch(r"\$\.messages\[(\d+)\]\.content", error.path)
    content = conversation.messages[int(inline[1])].get("content") if inline else None
    return isinstance(content, str) and split_reasoning(content) is not None


def _with_named_ids(conversation: Conversation) -> Conversation:
    """The conversation with an id for each call that holds its name and its number, in its result too."""
    ids: dict[object, str] = {}
    messages = []
    for message in conversation.messages:
        calls = []
        for call in message.get("tool_calls") or ():
            name = call.get("function", call).get("name")
            ids[call.get("id")] = f"functions.{name}:{len(ids)}"
            calls.append({**call, "id": ids[call.get("id")]})
        changed = {**message, "tool_calls": calls} if calls else dict(message)
        if "tool_call_id" in message and message["tool_call_id"] in ids:
            changed["tool_call_id"] = ids[message["tool_call_id"]]
        messages.append(changed)
    return replace(conversation, messages=messages)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
