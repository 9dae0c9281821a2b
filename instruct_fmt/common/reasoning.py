"""Where a conversation keeps its reasoning: inline in the content, or in a field of its own.

In: a canonical conversation. Out: the same with its reasoning as a field, or without any. A block counts where an
assistant's content begins with it: ``<think>…</think>``, ``<reasoning>…</reasoning>``, ``[THINK]…[/THINK]`` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from instruct_fmt.types import Conversation, Message

REASONING = ("reasoning_content", "thinking", "reasoning")
_STEMS = "|".join(f"{stem}|{stem.title()}|{stem.upper()}" for stem in ("think", "thought", "reason"))
_WORD = rf"(?:{_STEMS})\w*"
_OPENER = re.compile(rf"\s*(?:<(?P<tag>{_WORD})>|\[(?P<mark>{_WORD})\])")
BEGINS = rf"^[<\[](?:{_STEMS})"
"""What every content with such a block begins with, blanks aside; as Python and Arrow read it alike."""


def opener(content: str) -> str | None:
    """The marker with which a content opens a block of reasoning."""
    found = _OPENER.match(content)
    return found[0].strip() if found else None


def _closer(opener: re.Match[str]) -> str:
    return f"</{opener['tag']}>" if opener["tag"] else f"[/{opener['mark']}]"


def split_reasoning(content: str) -> tuple[str, int, str, int] | None:
    """The reasoning with which a content begins and what follows, each with its offset; None where there is none.

    >>> split_reasoning("<think>\\nWell.\\n</think>\\n\\nYes.")
    ('Well.', 8, 'Yes.', 24)
    """
    found = _OPENER.match(content)
    if found is None:
        return None
    closer = _closer(found)
    end = content.find(closer, found.end())
    if end < 0:
        return None
    inside, behind = content[found.end() : end], content[end + len(closer) :]
    start = found.end() + len(inside) - len(inside.lstrip("\n"))
    rest = len(content) - len(behind.lstrip("\n"))
    return inside.strip("\n"), start, content[rest:], rest


def parted(content: str) -> tuple[str, str, str, str] | None:
    """A content that begins with a block of reasoning, in four: up to the reasoning, that, up to the answer, that.

    Blanks belong to the first and the third, which most rows of a dataset share. None where there is no such block.

    >>> parted("<think>\\nWell.\\n</think>\\n\\nYes.")
    ('<think>\\n', 'Well.', '\\n</think>\\n\\n', 'Yes.')
    """
    found = _OPENER.match(content)
    if found is None:
        return None
    closer = _closer(found)
    end = content.find(closer, found.end())
    if end < 0:
        return None
    inside, behind = content[found.end() : end].lstrip(), content[end + len(closer) :].lstrip()
    lead = content[: end - len(inside)]
    inside = inside.rstrip()
    return lead, inside, content[len(lead) + len(inside) : len(content) - len(behind)], behind


def reasoned(conversation: Conversation, how: str) -> Conversation:
    """The conversation with its reasoning as it is (``keep``), left out (``strip``), or as a field (``field``)."""
    if how == "keep":
        return conversation
    change = _stripped if how == "strip" else _as_field
    messages = [change(message) if message.get("role") == "assistant" else message for message in conversation.messages]
    return replace(conversation, messages=messages)


def _stripped(message: Mapping[str, Any]) -> Message:
    kept = {name: value for name, value in message.items() if name not in REASONING}
    found = _inline(message)
    return kept if found is None else {**kept, "content": found[2]}


def _as_field(message: Mapping[str, Any]) -> Message:
    found = _inline(message)
    if found is None or any(message.get(name) for name in REASONING):
        return dict(message)
    return {**message, "content": found[2], "reasoning_content": found[0], "thinking": found[0]}


def _inline(message: Mapping[str, Any]) -> tuple[str, int, str, int] | None:
    content = message.get("content")
    return split_reasoning(content) if isinstance(content, str) else None
