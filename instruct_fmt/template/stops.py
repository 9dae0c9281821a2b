"""What ends a turn: the stop strings of a template, found by rendering.

In: a template, probe conversations, the tokenizer's added tokens. Out: the stop strings, in the order of their origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from instruct_fmt.types import Added

# What an end-of-turn marker looks like where the tokenizer has no token of its own for it.
_MARKER = re.compile(r"<[|｜][^<>]{1,60}[|｜]>|</?[A-Za-z_][^<>\s]{0,60}>|\[/?[A-Z_]{2,30}\]")

_USER = {"role": "user", "content": "question"}
_CALL = {"name": "probe", "arguments": {"key": "value"}}
_TEXT_CALL = {"name": "probe", "arguments": '{"key": "value"}'}


def _call(function: dict[str, Any], **content: Any) -> dict[str, Any]:
    call = {"id": "probe0001", "type": "function", "function": function}
    return {"role": "assistant", **content, "tool_calls": [call]}


# Conversations whose last turn shows how a kind of turn ends. The first list: answers; the second: tool calls.
ANSWERS: tuple[list[dict[str, Any]], ...] = (
    [_USER, {"role": "assistant", "content": "answer"}],
    [{"role": "system", "content": "system"}, _USER, {"role": "assistant", "content": "answer"}],
    [
        {"role": "user", "content": [{"type": "text", "text": "question"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "answer"}]},
    ],
    [_USER, {"role": "assistant", "content": "answer", "reasoning_content": "thought", "thinking": "thought"}],
)
PARTS = ANSWERS[2]
CALLS: tuple[list[dict[str, Any]], ...] = (
    [_USER, _call(_CALL)],
    [_USER, _call(_TEXT_CALL)],
    [_USER, _call(_CALL, content="")],
    [_USER, _call(_TEXT_CALL, content="")],
    [_USER, _call(_TEXT_CALL, content=None)],
)
RESULT = {"role": "tool", "name": "probe", "tool_call_id": "probe0001", "content": "result"}
AFTER_CALLS = tuple([*call, RESULT, {"role": "assistant", "content": "answer"}] for call in CALLS)
PROBE_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "probe",
            "description": "probe",
            "parameters": {
                "type": "object",
                "properties": {"key": {"type": "string", "description": "key"}},
                "required": ["key"],
            },
        },
    }
]


class StopFinder:
    """Finds stop strings in the literal text that follows a turn's last own character.

    Args:
        declared: stop strings that are known before any probe: EOS, the generation configuration's, the user's.
        added: the tokenizer's added tokens.
    """

    def __init__(self, declared: Iterable[str], added: Sequence[Added]) -> None:
        self.declared = tuple(dict.fromkeys(text for text in declared if text))
        self.stops = list(self.declared)
        self._special = {token.content: token.special for token in added}
        by_length = sorted((token.content for token in added if token.content.strip()), key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, by_length)) or "(?!)")

    def learn(self, own: str, behind: str, *, answer: bool) -> None:
        """Add the stop that a probe shows.

        Args:
            own: the literal text that the probe's turn prints behind its last character.
            behind: the literal text that follows the turn.
            answer: whether the turn is an answer; what ends a tool call must be a special token.
        """
        if self.first(own, 0, len(own)) is not None:
            return
        if own.strip():
            special = [token for token in self.tokens_in(own) if self.is_special(token)]
            closing = [token for token in special if own.rstrip().endswith(token)]
            if closing:
                self.stops.append(closing[-1])
                return
            if answer:
                markers = special or self.tokens_in(own) or _MARKER.findall(own)
                self.stops.append(markers[0] if markers else own.strip())
                return
        special = [token for token in self.tokens_in(behind) if self.is_special(token)]
        markers = special or (_MARKER.findall(behind) if answer else [])
        if markers and self.first(behind, 0, len(behind)) is None:
            self.stops.append(markers[0])

    def tokens_in(self, text: str) -> list[str]:
        """The added tokens in a literal text, in order."""
        return [match[0] for match in self._added.finditer(text)]

    def is_special(self, token: str) -> bool:
        return self._special[token]

    def first(self, text: str, start: int, stop: int) -> tuple[int, int] | None:
        """The first stop in `text[start:stop]`, the longest where several begin there."""
        found = [(at, -len(marker)) for marker in self.stops if (at := text.find(marker, start, stop)) >= 0]
        if not found:
            return None
        at, size = min(found)
        return at, at - size

    def follows(self, text: str, at: int) -> int | None:
        """The end of a stop that `text` continues with at `at`, blanks aside."""
        begin = at
        while begin < len(text) and text[begin].isspace():
            begin += 1
        ends = [begin + len(marker) for marker in self.stops if text.startswith(marker, begin)]
        return max(ends, default=None)
