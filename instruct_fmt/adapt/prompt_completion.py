"""Rows with a prompt and a completion in; text becomes `Text`, messages become a `Conversation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from instruct_fmt.adapt.canonical import canonical_messages, message_list, message_paths
from instruct_fmt.adapt.extras import Extras
from instruct_fmt.adapt.fields import Fields
from instruct_fmt.adapt.messages import dialects, is_sharegpt
from instruct_fmt.adapt.sharegpt import link_results
from instruct_fmt.adapt.values import bad_field, root, text
from instruct_fmt.types import Conversation, Text


def adapter(fields: Fields, extras: Extras) -> Callable[[Mapping[str, Any]], Conversation | Text]:
    """Make the adapter. Messages of the prompt are never trained; the completion is as the formatter says.

    Raises:
        UsageError: the prompt or the completion has no column.
    """
    prompt = fields.need("prompt", "prompt_completion")
    completion = fields.need("completion", "prompt_completion")

    def adapt(row: Mapping[str, Any]) -> Conversation | Text:
        first, second = row.get(prompt), row.get(completion)
        first_text, second_text = _is_text(first), _is_text(second)
        if first_text and second_text:
            return Text(text(first, root(prompt)), text(second, root(completion)))
        if first_text or second_text:
            column, value = (completion, second) if first_text else (prompt, first)
            other = "text" if first_text else "messages"
            raise bad_field(root(column), value, "prompt and completion alike", f"make both {other}")
        return conversation(row)

    openai, sharegpt = dialects(fields)

    def conversation(row: Mapping[str, Any]) -> Conversation:
        values = message_list(row.get(prompt), root(prompt))
        dialect = sharegpt if is_sharegpt(values[0]) else openai
        before, _ = canonical_messages(values, root(prompt), dialect)
        after, flags = canonical_messages(
            message_list(row.get(completion), root(completion)), root(completion), dialect
        )
        messages = before + after
        if dialect.any_case:
            link_results(messages)
        paths = message_paths(prompt, len(before)) + message_paths(completion, len(after))
        return extras.conversation(messages, (False,) * len(before) + flags, paths, row)

    return adapt


def _is_text(value: object) -> bool:
    """Null counts as text: the error about it says so."""
    return value is None or isinstance(value, str)
