"""Where prompt and completion meet: ids stand behind exactly those of the prompt, in rows and in columns alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import oracles
import pyarrow as pa
import pytest
import small_tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_columns import check_columns
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import instruct_fmt as ifmt

SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
OPENS = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
TEMPLATES = {
    "chatml": small_tokenizers.CHATML,
    # The prompt opens a block that the last turn closes: a token crosses the seam in every row.
    "thinking": "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' }}"
    "{% endif %}{{ m.content + '<|im_end|>\\n' }}{% endfor %}" + OPENS,
    # No marker is a token of these tokenizers.
    "foreign": small_tokenizers.LLAMA3.replace("| trim", ""),
    "words": "{% for m in messages %}{{ m.role | upper + ': ' + m.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
    "unstopped": "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}",
}
CONTENT = st.one_of(
    st.sampled_from(["\nA", "\n\nB", " x", " ", "x</q9>", "é", "1.", "中文", "> y", "\r\nC", "e\u0301", "\n", "\t"]),
    st.text("ab \n>:1é", min_size=1, max_size=6),
)
SMALL = ("chatml_lines", "chatml_nfc", "sentencepiece", "many")
REAL = ("qwen3", "gemma3", "llama2", "llama3_1")


def _conversation(draw: st.DrawFn) -> dict[str, Any]:
    turns = draw(st.integers(1, 3))
    messages = []
    for _ in range(turns):
        messages += [{"role": "user", "content": draw(CONTENT)}, {"role": "assistant", "content": draw(CONTENT)}]
    return {"messages": messages}


ROWS = st.lists(st.composite(_conversation)(), min_size=1, max_size=6)


@cache
def _formatter(tokenizer: str, template: str, history: str) -> ifmt.Formatter:
    folder = os.environ.get("INSTRUCT_FMT_TOKENIZERS", "")
    made: Any = str(Path(folder) / tokenizer) if tokenizer in REAL else small_tokenizers.build(tokenizer)
    return ifmt.compile(TEMPLATES[template], made, history=history, max_rejected=1.0)  # type: ignore[arg-type]


@cache
def _tokenizer(name: str) -> PreTrainedTokenizerFast:
    if name in REAL:
        return AutoTokenizer.from_pretrained(str(Path(os.environ["INSTRUCT_FMT_TOKENIZERS"]) / name))
    return small_tokenizers.build(name)


def _check(tokenizer: str, template: str, history: str, rows: list[dict[str, Any]]) -> None:
    """Columns give what rows give, and every trained run stands behind the ids of a prompt, the last at the end."""
    fmt, table = _formatter(tokenizer, template, history), pa.Table.from_pylist(rows)
    batch = fmt.encode_batch(table) if history == "expand" else check_columns(fmt, table)
    emitted = zip(batch.rows.tolist(), batch.table.to_pylist(), strict=True)
    for number, row in emitted:
        prompts = list(_prompts(_tokenizer(tokenizer), TEMPLATES[template], rows[number]["messages"]))
        starts = [start for start, _ in oracles.runs(row["labels"])]
        asked = [next((turn for turn, ids in prompts if row["input_ids"][:start] == ids), None) for start in starts]
        assert None not in asked, (rows[number], starts)
        assert asked == sorted(set(asked)), asked  # type: ignore[type-var]
        if history == "auto":
            assert asked[-1] == prompts[-1][0]


def _prompts(
    tokenizer: PreTrainedTokenizerFast, template: str, messages: list[dict[str, Any]]
) -> Iterator[tuple[int, list[int]]]:
    for turn, message in enumerate(messages):
        if message["role"] == "assistant":
            yield turn, oracles.chat_ids(tokenizer, template, messages[:turn], add_generation_prompt=True)


@pytest.mark.parametrize("history", ["auto", "expand"])
@pytest.mark.parametrize("template", list(TEMPLATES))
@pytest.mark.parametrize("tokenizer", SMALL)
@SETTINGS
@given(rows=ROWS)
def test_turns_stand_behind_their_prompts(
    tokenizer: str, template: str, history: str, rows: list[dict[str, Any]]
) -> None:
    _check(tokenizer, template, history, rows)


@pytest.mark.real
@pytest.mark.parametrize("template", list(TEMPLATES))
@pytest.mark.parametrize("tokenizer", REAL)
@SETTINGS
@given(rows=ROWS)
def test_real_turns_stand_behind_their_prompts(tokenizer: str, template: str, rows: list[dict[str, Any]]) -> None:
    _check(tokenizer, template, "auto", rows)


def test_a_token_that_crosses_is_cut_and_counted() -> None:
    """An answer that begins with a line break, which this tokenizer joins to the header's."""
    fmt = _formatter("chatml_lines", "chatml", "auto")
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "\nhello"}]
    batch = fmt.encode_batch(pa.Table.from_pylist([{"messages": messages}]))
    row, prompt = batch.table.to_pylist()[0], fmt.prompt({"messages": messages}).input_ids
    assert row["input_ids"][: len(prompt)] == prompt
    assert batch.counts["encoded_apart"] == 1
    joint = ifmt.compile(TEMPLATES["chatml"], small_tokenizers.build("chatml_lines"), boundary="joint")
    theirs = oracles.chat_ids(small_tokenizers.build("chatml_lines"), TEMPLATES["chatml"], messages)
    assert joint.encode({"messages": messages})["input_ids"] == theirs
    assert theirs != row["input_ids"]
    assert theirs[: len(prompt)] != prompt
