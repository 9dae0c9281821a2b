"""The embedded default: the sample is whole, and the tokenizer is what its script makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from instruct_fmt.embedded import records_path, sample_path, tokenizer_path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "train_embedded_tokenizer"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_script_gives_the_committed_tokenizer() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_special_tokens() -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_path())
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.bos_token is None
    assert len(tokenizer("<|im_start|>user<|im_end|>")["input_ids"]) <= 4
    text = "Grüße, 世界 🪆\n\tcafé\u0301 ‮x"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_sample_is_varied() -> None:
    chats = rows(sample_path())
    roles = [[message["role"] for message in row["messages"]] for row in chats]
    assert len(chats) >= 60
    assert sum("system" in row for row in roles) >= 5
    assert sum("tool" in row for row in roles) >= 5
    assert sum(row.count("assistant") > 1 for row in roles) >= 10
    assert all(row[-1] == "assistant" for row in roles)
    assert all(set(row) == {"instruction", "input", "output"} for row in rows(records_path()))


@pytest.mark.parametrize("row", rows(sample_path()), ids=lambda row: row["messages"][-1]["content"][:20])
def test_the_template_writes_every_message_the_same_way(row: dict[str, Any]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_path())
    tools = json.loads(row["tools"]) if "tools" in row else None
    whole = tokenizer.apply_chat_template(row["messages"], tools=tools, tokenize=False)
    for count in range(1, len(row["messages"])):
        prompt = row["messages"][count]["role"] == "assistant"
        part = tokenizer.apply_chat_template(
            row["messages"][:count], tools=tools, tokenize=False, add_generation_prompt=prompt
        )
        assert whole.startswith(part)
    for message in row["messages"]:
        assert message["content"] in whole
