"""Calls and their results, which ShareGPT's messages tell apart by their order alone, linked."""

from __future__ import annotations

from instruct_fmt.adapt.content import RESULT_ROLES
from instruct_fmt.types import Message


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
            if result["role"] not in RESULT_ROLES:
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
