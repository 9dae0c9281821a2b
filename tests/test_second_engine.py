"""A second template engine, in another language, renders the same text."""

from __future__ import annotations

from typing import Any

import pytest
import small_tokenizers

import instruct_fmt as ifmt

minijinja = pytest.importorskip("minijinja", reason="not installed: minijinja")

RECORDS = [
    {"instruction": "Add", "input": "1 and 2", "output": "hello"},
    {"instruction": "{input} {{ x }}", "input": "", "output": " {output}\n"},
]
CHAT = {
    "messages": [
        {"role": "user", "content": "hi <there>"},
        {"role": "assistant", "content": "hello & welcome"},
        {"role": "user", "content": "more"},
        {"role": "assistant", "content": "ok"},
    ]
}
RECORD_NAMES = ("alpaca", "alpaca_short", "user_assistant")
CHAT_NAMES = ("chatml", "zephyr", "llama3", "phi3", "gemma")


def _render(text: str, names: dict[str, Any]) -> str:
    # `-%}` and friends mean the same; trimming of blocks is the environment's.
    engine = minijinja.Environment(trim_blocks=True, lstrip_blocks=True)
    engine.pycompat = True
    return str(engine.render_str(text, **names))


@pytest.mark.parametrize("name", RECORD_NAMES)
@pytest.mark.parametrize("row", RECORDS)
def test_record(name: str, row: dict[str, str]) -> None:
    fmt = ifmt.compile(name, small_tokenizers.build("many"))
    assert fmt.render(row).text == _render(fmt.source.text, row)


@pytest.mark.parametrize("name", CHAT_NAMES)
def test_chat(name: str) -> None:
    tokenizer = small_tokenizers.build("many")
    fmt = ifmt.compile(name, tokenizer, history="as_rendered")
    tokens = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    theirs = _render(fmt.source.text, {**CHAT, **tokens, "add_generation_prompt": False})
    assert fmt.render(CHAT).text == theirs
