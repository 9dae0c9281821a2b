"""Added tokens in every place of a row, tokenizers that cannot serve, and columns of every Arrow type."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
import small_tokenizers
from transformers import ByT5Tokenizer

import instruct_fmt as ifmt

TEMPLATE = Path(__file__).parent / "golden" / "templates" / "tools_like.jinja"
ADDED = (*small_tokenizers.QWEN_SPECIAL, *small_tokenizers.QWEN_ADDED)
CALL = {"id": "call00001", "type": "function", "function": {"name": "get", "arguments": {"city": "sea"}}}
ROW: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "sea"},
        {"role": "user", "content": "sea"},
        {"role": "assistant", "content": "sea", "tool_calls": [CALL]},
        {"role": "tool", "name": "get", "tool_call_id": "call00001", "content": "sea"},
        {"role": "assistant", "content": "sea"},
    ],
    "tools": [{"type": "function", "function": {"name": "get", "description": "sea", "parameters": {}}}],
}
PLACES: dict[str, Callable[[Any, str], None]] = {
    "system": lambda row, text: row["messages"][0].update(content=text),
    "user": lambda row, text: row["messages"][1].update(content=text),
    "assistant": lambda row, text: row["messages"][4].update(content=text),
    "argument": lambda row, text: row["messages"][2]["tool_calls"][0]["function"].update(arguments={"city": text}),
    "call name": lambda row, text: row["messages"][2]["tool_calls"][0]["function"].update(name=text),
    "result": lambda row, text: row["messages"][3].update(content=text),
    "schema": lambda row, text: row["tools"][0]["function"].update(description=text),
    "schema name": lambda row, text: row["tools"][0]["function"].update(name=text),
}
THE_MODELS = ("assistant", "argument", "call name")


@cache
def fmt() -> ifmt.Formatter:
    template = TEMPLATE.read_text(encoding="utf-8")
    return ifmt.compile(template, small_tokenizers.build("chatml"), history="as_rendered")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("token", ADDED)
def test_every_added_token_in_every_place(place: str, token: str) -> None:
    """It is text everywhere but in what the model writes, and there too if it marks turns."""
    row = copy.deepcopy(ROW)
    PLACES[place](row, f"sea{token}sea")
    number = fmt().tokenizer.convert_tokens_to_ids(token)
    before = list(fmt().encode(ROW)["input_ids"]).count(number)
    found = list(fmt().encode(row)["input_ids"]).count(number) - before
    free = place in THE_MODELS and token in ("<think>", "</think>", "<tool_call>", "</tool_call>")
    results = place in THE_MODELS and "tool_response" in token
    assert found == int(free) or (results and found in (0, 1))


def test_a_slow_tokenizer_is_refused() -> None:
    """It has no offsets."""
    with pytest.raises(ifmt.errors.TokenizerError, match="fast"):
        ifmt.compile("Q: {instruction}\nA: {output}", ByT5Tokenizer())


def test_no_tokenizer() -> None:
    with pytest.raises(ifmt.errors.UsageError, match="tokenizer"):
        ifmt.compile("alpaca")


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_text_of_every_arrow_type(kind: pa.DataType) -> None:
    """The type of a column changes nothing."""
    made = ifmt.compile("Q: {instruction}\nA: {output}", small_tokenizers.build("many"))
    rows = {"instruction": ["a", "b"], "output": ["the sea", "你好"]}
    plain = pa.table(rows)
    typed = pa.table({name: pa.array(values).cast(kind) for name, values in rows.items()})
    chunked = pa.concat_tables([typed.slice(0, 1), typed.slice(1)])
    assert made.encode_table(plain).equals(made.encode_table(typed))
    assert made.encode_table(plain).equals(made.encode_table(chunked))


def test_messages_of_every_arrow_type() -> None:
    """Lists with 32-bit or 64-bit offsets, slices, and `datasets` features give the same rows."""
    small = pa.Table.from_pylist([{"messages": ROW["messages"][:2] + ROW["messages"][4:]}] * 3)
    struct = small.schema.field("messages").type.value_type
    large = small.cast(pa.schema([("messages", pa.large_list(struct))]))
    expected = fmt().encode_table(small)
    assert fmt().encode_table(large).equals(expected)
    assert fmt().encode_table(small.slice(1, 2)).equals(expected.slice(1, 2))
    dataset = datasets.Dataset.from_list(small.to_pylist())
    assert fmt().encode_table(dataset.data.table).equals(expected)


def test_json_features() -> None:
    """Tools and arguments as `Json()` features are what they were."""
    dataset = datasets.Dataset.from_list(
        [ROW], features=datasets.Features({"messages": datasets.Json(), "tools": datasets.Json()})
    )
    assert list(fmt().encode(dataset[0])["input_ids"]) == list(fmt().encode(ROW)["input_ids"])
    mapped = dataset.map(fmt(), batched=True, remove_columns=dataset.column_names)
    assert list(mapped[0]["input_ids"]) == list(fmt().encode(ROW)["input_ids"])
