"""ShareGPT's speakers in, roles out; and the results of calls, linked to their calls."""

from __future__ import annotations

from instruct_fmt.adapt.canonical import CALL
from instruct_fmt.types import Message

# The speakers of public ShareGPT-like datasets, in lower case.
ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "system": "system",
    "function_call": CALL,
    "tool_call": CALL,
    "observation": "tool",
    "tool": "tool",
    "function": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}


def link_results(messages: list[Message]) -> None:
    """Give results the name of the function, and the id of the call where it has one; changes the messages.

    Only where as many results follow as there were calls: one result for several calls belongs to none of
    them. No id is made up: a template would print it, and the model would learn it.
    """
    for i, message in enumerate(messages):
        calls = message.get("tool_calls")
        if not calls:
            continue
        results = []
        for result in messages[i + 1 :]:
            if result["role"] != "tool":
                break
            results.append(result)
        if len(results) == len(calls):
            for call, result in zip(calls, results, strict=True):
                _link(call, result)


def _link(call: Message, result: Message) -> None:
    function = call.get("function")
    if isinstance(function, dict) and "name" in function:
        result.setdefault("name", function["name"])
    if "id" in call:
        result.setdefault("tool_call_id", call["id"])
