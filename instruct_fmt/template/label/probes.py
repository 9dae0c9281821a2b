"""Conversations that probe a template: what it prints for them shows how it ends turns, calls and results.

No template can know the words that they say by chance, so none does anything to them that it does not do to
any text.
"""

from __future__ import annotations

from typing import Any

# What probes say. No template can know these words by chance, so none does anything to them that it does not do to any
# text; one that holds one of them is refused. Letters and digits only: a name must be an identifier, an id have nine.
ANSWER, QUESTION, SYSTEM, THOUGHT, RESULT_WORD = "qvzkjwrtb", "zkqxvwjtr", "wjqzvkxbt", "jvxqkzwrb", "kqjzxvwtb"


NAME, CALL_ID, KEY, VALUE = "zqxjvkwbt", "kzjqv0001", "xzqvjkwbr", "vjqkxzwtr"


WORDS = {
    ANSWER: "answer",
    QUESTION: "question",
    SYSTEM: "system",
    THOUGHT: "thought",
    RESULT_WORD: "result",
    NAME: "probe",
    CALL_ID: "probe0001",
    KEY: "key",
    VALUE: "value",
}
"""The words of probes and what they mean."""


_USER = {"role": "user", "content": QUESTION}


_CALL = {"name": NAME, "arguments": {KEY: VALUE}}


_TEXT_CALL = {"name": NAME, "arguments": f'{{"{KEY}": "{VALUE}"}}'}


def _call(function: dict[str, Any], **content: Any) -> dict[str, Any]:
    call = {"id": CALL_ID, "type": "function", "function": function}
    return {"role": "assistant", **content, "tool_calls": [call]}


# Conversations whose last turn shows how a kind of turn ends. The first list: answers; the second: tool calls.
ANSWERS: tuple[list[dict[str, Any]], ...] = (
    [_USER, {"role": "assistant", "content": ANSWER}],
    [{"role": "system", "content": SYSTEM}, _USER, {"role": "assistant", "content": ANSWER}],
    [
        {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
        {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]},
    ],
    [_USER, {"role": "assistant", "content": ANSWER, "reasoning_content": THOUGHT, "thinking": THOUGHT}],
)


PARTS = ANSWERS[2]


CALLS: tuple[list[dict[str, Any]], ...] = (
    [_USER, _call(_CALL)],
    [_USER, _call(_TEXT_CALL)],
    [_USER, _call(_CALL, content="")],
    [_USER, _call(_TEXT_CALL, content="")],
    [_USER, _call(_TEXT_CALL, content=None)],
)


RESULT = {"role": "tool", "name": NAME, "tool_call_id": CALL_ID, "content": RESULT_WORD}


AFTER_CALLS = tuple([*call, RESULT, {"role": "assistant", "content": ANSWER}] for call in CALLS)


PROBE_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": NAME,
            "description": NAME,
            "parameters": {
                "type": "object",
                "properties": {KEY: {"type": "string", "description": KEY}},
                "required": [KEY],
            },
        },
    }
]


def spelled_out(text: str) -> str:
    """A message about a probe, with what its words mean in their place."""
    for word, meaning in WORDS.items():
        text = text.replace(word, meaning)
    return text
