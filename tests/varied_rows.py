"""The fifteen kinds of conversation with other words in them: rows that ask a plan whether it holds for any row."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from served_rows import Kind

# What templates look for, cut, strip and escape, and what breaks a naive join.
TEXTS = (
    *("", " ", "\n", "\n\n", "  two \n", "plain words here", "é🙂 中文 ﬁ", 'a "quoted" \\ text', "<b>bold</b> & more"),
    *("a</think>b", "</think>", "<think>", "<think>\nwhy\n</think>\n\nso", "<think>\n\n</think>\n\nso", "<think>open"),
    *("x</think>y</think>z", "<think>a</think>", " <think>\nw \n</think> v", "<|im_end|>", "[INST] x [/INST]"),
    *("<tool_call>\n{}\n</tool_call>", "{{ x }}", "line one\nline two\n", "/no_think", "tail <think", "/think>", "0"),
)
WORDS = ("rain", "quay", "Ömer", "zero 0", "<q>", "two\nlines", "", " pad ", "“”", 'say "so"')


def varied(kind: Kind, seed: int) -> dict[str, Any]:
    """A row of the kind; the same for the same seed."""
    chance = random.Random(seed)
    row = kind.row()
    messages = [_message(message, chance) for message in row["messages"]]
    tools = [_tool(tool, chance) for tool in row.get("tools", ())]
    return {"messages": messages, "tools": tools} if tools else {"messages": messages}


def _message(message: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    found = dict(message)
    for name in ("content", "reasoning_content"):
        if isinstance(found.get(name), str) and chance.random() < 0.7:
            found[name] = _text(found[name], chance)
    if "tool_calls" in found:
        found["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _arguments(chance)}} for call in found["tool_calls"]
        ]
    return found


def _text(text: str, chance: random.Random) -> str:
    other = chance.choice(TEXTS)
    return chance.choice((other, text + other, other + text, f"{text} {other} {text}"))


def _arguments(chance: random.Random) -> dict[str, Any]:
    names = chance.sample(("place", "when", "unit", "a b", "items"), chance.randint(0, 3))
    return {name: _value(chance, 2) for name in names}


def _value(chance: random.Random, depth: int) -> Any:
    simple: tuple[Any, ...] = (chance.choice(WORDS), chance.choice(WORDS), 3, -1.5, True, None, [], {})
    if not depth or chance.random() < 0.7:
        return chance.choice(simple)
    if chance.random() < 0.5:
        return [_value(chance, depth - 1) for _ in range(chance.randint(1, 3))]
    return {chance.choice(("x", "y")): _value(chance, depth - 1)}


def _tool(tool: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    function = dict(tool["function"])
    if chance.random() < 0.3:
        function.pop("description")
    properties = {name: _schema(chance, 2) for name in chance.sample(("place", "when", "unit"), chance.randint(0, 3))}
    parameters = {"type": "object", "properties": properties, "required": list(properties)[:1]}
    if chance.random() < 0.2:
        parameters.pop("required")
    if chance.random() < 0.9:
        function["parameters"] = parameters
    return {**tool, "function": function}


def _schema(chance: random.Random, depth: int) -> dict[str, Any]:
    kind = chance.choice(("string", "integer", "boolean", "array", "object") if depth else ("string", "number"))
    found: dict[str, Any] = {"type": kind}
    if chance.random() < 0.6:
        found["description"] = chance.choice(("a place", "how “much”", "two\nlines"))
    if kind == "string" and chance.random() < 0.3:
        found["enum"] = ["one", "two"]
    if kind == "array":
        found["items"] = _schema(chance, depth - 1)
    if kind == "object":
        found["properties"] = {"x": _schema(chance, depth - 1)}
    if chance.random() < 0.2:
        found["default"] = chance.choice(("one", 1, None, False))
    return found
