"""Planned rows under real tokenizers, which merge: each last turn stands behind the ids that transformers sends."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import corpus_rows
import pytest
from served_rows import KINDS
from transformers import AutoTokenizer

import instruct_fmt as ifmt

pytestmark = [pytest.mark.real, pytest.mark.corpus]
TEMPLATES = {
    "google-gemma-4-31B-it-interleaved": "gemma3",
    "DeSTA-ntu-Llama-3.1-8B-Instruct": "llama3_1",
    "deepseek-ai-DeepSeek-V3.1": "deepseek_v3",
    "Qwen3.5-4B": "qwen3",
    "GLM-4.6": "qwen3",
    "LFM2.5-8B-A1B": "qwen3",
}


@cache
def _engine(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("kind", ["three turns", "system", "tools", "parallel calls"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_planned_rows_stand_behind_what_is_sent(template: str, kind: str, real_tokenizers: Path) -> None:
    text = corpus_rows.public_templates()[template]
    folder = real_tokenizers / TEMPLATES[template]
    engine = _engine(folder)
    fmt = ifmt.compile(text, str(folder), max_rejected=1.0, now=corpus_rows.NOW)
    batch = fmt.encode_rows([KINDS[kind].row()] * 8)
    if not batch.table.num_rows:
        pytest.skip(f"the template refuses such rows: {batch.rejected[0].reason}")
    assert batch.counts["path:plan"] == 8
    row = copy.deepcopy(KINDS[kind].row())
    sent = engine.apply_chat_template(
        row["messages"][:-1],
        tools=row.get("tools"),
        chat_template=text,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )
    ids, labels = (batch.table[name][7].as_py() for name in ("input_ids", "labels"))
    assert ids[: len(sent)] == sent
    assert labels[len(sent)] == ids[len(sent)]
