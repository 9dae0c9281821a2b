"""Properties that hold for any row: checked by hypothesis on small tokenizers and nasty text."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import oracles
import pyarrow as pa
import pytest
import small_tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import instruct_fmt as ifmt

TEMPLATES = Path(__file__).parent / "golden" / "templates"
NASTY = [
    *("", " ", "\n", "\r\n", "\t", "\0", "\0" + "12,34\0", "a", "Z9", "1.", "x \n", " y"),
    *("😀", "🦜", "👩‍👩‍👧", "e\u0301", "\u0301", "\u200d", "\ufeff", "你好", "中文", "語", "ﷺ", "\u2028"),
    *(
        "\ue000",
        "\uf8ff",
        "\U000f0000",
        "{",
        "}",
        "{{",
        "}}",
        "{input}",
        "{{ output }}",
        "{% if x %}",
        "{0}",
        "%s",
    ),
    *(
        "<|im_end|>",
        "<|im_start|>",
        "<|im_start|>assistant\n",
        "<|endoftext|>",
        "<think>",
        "</think>",
        "<tool_call>",
    ),
    *(
        "<|eot_id|>",
        "<|begin_of_text|>",
        "</s>",
        "<s>",
        "[INST]",
        "[/INST]",
        "<|user|>",
        "<|end|>",
        "<unk>",
        "<0x0A>",
    ),
    *("<|im_", "end|>", "### Response:", "USER:", "ASSISTANT:", "[[", "]]", "▁", "Ġ", "Ċ"),
]
TEXT = st.lists(
    st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=4)),
    max_size=6,
).map("".join)
WORDS = TEXT.map(lambda text: "w" + text + "w")
SIMPLE = st.sampled_from(["sea", "the sea ", " \nblue", "a\n", "é🦜", "<think>\nx\n</think>\n\ny"]) | TEXT
SETTINGS = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
CHATS: dict[str, tuple[str | None, str]] = {
    "chatml": (None, "chatml"),
    "llama3": (None, "llama3"),
    "qwen3": ("qwen3_like.jinja", "chatml"),
    "glm": ("glm_like.jinja", "many"),
    "phi3": ("phi3_like.jinja", "many"),
    "falcon": ("falcon_like.jinja", "many"),
    "sentencepiece": ("trims.jinja", "sentencepiece"),
}
RECORDS: dict[str, tuple[str, str]] = {
    "user_assistant": ("USER: {instruction}\n{input}\nASSISTANT: {output}", "many"),
    "line_break": ("### Instruction:\n{instruction}\n{input}\n### Response:\n{output}", "chatml"),
    "bos": ("{instruction}{input}{output}", "llama3"),
    "sentencepiece": ("Q: {instruction} {input}\nA: {output}", "sentencepiece"),
}
each_chat = pytest.mark.parametrize("name", CHATS)
each_record = pytest.mark.parametrize("name", RECORDS)


@cache
def chat(name: str, **options: Any) -> ifmt.Formatter:
    file, tokenizer = CHATS[name]
    template = file if file is None else (TEMPLATES / file).read_text(encoding="utf-8")
    return ifmt.compile(template, small_tokenizers.build(tokenizer), **options)


@cache
def record(name: str, **options: Any) -> ifmt.Formatter:
    template, tokenizer = RECORDS[name]
    return ifmt.compile(template, small_tokenizers.build(tokenizer), **options)


@st.composite
def conversations(draw: st.DrawFn, text: st.SearchStrategy[str] = TEXT) -> dict[str, Any]:
    turns = draw(st.integers(1, 3))
    roles = ["user", "assistant"] * turns
    if draw(st.booleans()):
        roles = roles[:-1] if turns > 1 else roles
    return {"messages": [{"role": role, "content": draw(text)} for role in roles]}


def alike(turns: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Several conversations of one shape."""
    roles = ["user", "assistant"] * turns
    row = st.tuples(*(SIMPLE for _ in roles)).map(
        lambda texts: {"messages": [{"role": r, "content": t} for r, t in zip(roles, texts, strict=True)]}
    )
    return st.lists(row, min_size=5, max_size=7)


ROWS = st.fixed_dictionaries({"instruction": TEXT, "input": TEXT, "output": TEXT})


def encode(fmt: ifmt.Formatter, row: dict[str, Any]) -> dict[str, Any] | None:
    """The encoded row, or None where it is refused."""
    try:
        return fmt.encode(row)
    except ifmt.errors.RowError:
        return None


def _check_batch(reference: ifmt.Formatter, fmt: ifmt.Formatter, rows: list[dict[str, Any]]) -> None:
    """A row's output does not depend on its neighbours, and not on a faster path that many rows may take.

    The reference sees single rows only; another formatter, which remembers what it has seen, the batches.
    """
    alone = [encode(reference, row) for row in rows]
    batch = fmt.encode_batch(pa.Table.from_pylist(rows), first_row=5)
    assert batch.table.to_pylist() == [
        {"input_ids": list(one["input_ids"]), "labels": list(one["labels"])} for one in alone if one is not None
    ]
    assert list(batch.rows) == [5 + i for i, one in enumerate(alone) if one is not None]
    assert [r.row for r in batch.rejected] == [5 + i for i, one in enumerate(alone) if one is None]
    assert batch.counts["rows"] == len(rows)
    assert batch.counts["emitted"] + len(batch.rejected) == len(rows)


@each_chat
@SETTINGS
@given(rows=st.lists(conversations(), min_size=1, max_size=4) | st.integers(1, 2).flatmap(alike))
def test_chat_rows_do_not_depend_on_neighbours(name: str, rows: list[dict[str, Any]]) -> None:
    _check_batch(chat(name), chat(name, max_rejected=1.0), rows)


@each_record
@SETTINGS
@given(rows=st.lists(ROWS, min_size=1, max_size=8))
def test_record_rows_do_not_depend_on_neighbours(name: str, rows: list[dict[str, Any]]) -> None:
    _check_batch(record(name), record(name, max_rejected=1.0), rows)


@each_chat
@SETTINGS
@given(row=conversations())
def test_expanded_rows_are_the_turns_as_they_are_generated(name: str, row: dict[str, Any]) -> None:
    """One row for each turn: the row that ends with it."""
    turns = [i for i, message in enumerate(row["messages"]) if message["role"] == "assistant"]
    alone = [encode(chat(name, train_on="last"), {"messages": row["messages"][: i + 1]}) for i in turns]
    batch = chat(name, history="expand").encode_batch(pa.Table.from_pylist([row]))
    if None not in alone and not batch.rejected:
        assert batch.table.to_pylist() == [
            {key: list(one[key]) for key in ("input_ids", "labels")} for one in alone if one is not None
        ]


@each_chat
@SETTINGS
@given(row=conversations(WORDS))
def test_each_turn_has_the_prompt_that_a_server_would_send(name: str, row: dict[str, Any]) -> None:
    """It is the plain generation prompt of the messages before the turn."""
    fmt = chat(name)
    if encode(fmt, row) is None:
        return
    render = oracles.plain(fmt.source.text, fmt.tokenizer)
    turns = [i for i, message in enumerate(row["messages"]) if message["role"] == "assistant"]
    for number, i in enumerate(turns):
        assert fmt.prompt(row, turn=number).text == render(row["messages"][:i], prompt=True)


def _check_spans(fmt: ifmt.Formatter, row: dict[str, Any]) -> None:
    """Labels are ids or -100, the ids are the rendered text, the trained ids are the rendered spans."""
    encoded = encode(fmt, row)
    if encoded is None:
        return
    ids, labels = list(encoded["input_ids"]), list(encoded["labels"])
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    rendered = fmt.render(row)
    eos = fmt.tokenizer.eos_token
    spans = "".join(rendered.text[start:end] for start, end in rendered.trained)
    trained = "".join(oracles.trained_texts(fmt.tokenizer, ids, labels))
    # A normaliser makes `▁` a space and puts spaces behind special tokens: ids are not quite the text.
    exact = fmt.tokenizer.backend_tokenizer.normalizer is None
    spans = spans if exact else spans.replace("▁", " ")
    assert trained in (spans, spans + eos)
    if exact:
        assert _without_bos(fmt, oracles.text_of(fmt.tokenizer, ids)) in (rendered.text, rendered.text + eos)


def _without_bos(fmt: ifmt.Formatter, text: str) -> str:
    return text.removeprefix(fmt.tokenizer.bos_token or "") if fmt.source.kind == "record" else text


@each_chat
@SETTINGS
@given(row=conversations())
def test_trained_chat_text_is_the_rendered_span(name: str, row: dict[str, Any]) -> None:
    _check_spans(chat(name), row)


@each_record
@SETTINGS
@given(row=ROWS)
def test_trained_record_text_is_the_rendered_span(name: str, row: dict[str, Any]) -> None:
    _check_spans(record(name), row)


@each_chat
@SETTINGS
@given(row=conversations(WORDS))
def test_content_never_becomes_a_control_token(name: str, row: dict[str, Any]) -> None:
    """Tokens that the template writes, BOS, EOS and padding occur as often as with harmless content."""
    fmt = chat(name)
    encoded = encode(fmt, row)
    harmless = copy.deepcopy(row)
    for message in harmless["messages"]:
        message["content"] = "ww"
    plain = encode(fmt, harmless)
    if encoded is None or plain is None:
        return
    free = {"<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"}
    for token, number in fmt.tokenizer.get_added_vocab().items():
        structural = number in plain["input_ids"] or token in fmt.tokenizer.special_tokens_map.values()
        if structural and token not in (*free, fmt.tokenizer.unk_token):
            assert list(encoded["input_ids"]).count(number) == list(plain["input_ids"]).count(number), token


@each_chat
@SETTINGS
@given(user=TEXT)
def test_user_content_never_becomes_any_added_token(name: str, user: str) -> None:
    fmt = chat(name)
    encoded, plain = (
        encode(fmt, {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "ok"}]})
        for text in (user + "x", "x")
    )
    if encoded is None or plain is None:
        return
    for token, number in fmt.tokenizer.get_added_vocab().items():
        if token != fmt.tokenizer.unk_token:
            assert list(encoded["input_ids"]).count(number) == list(plain["input_ids"]).count(number), token


def _check_prompt(fmt: ifmt.Formatter, row: dict[str, Any], slack: int) -> None:
    """What inference must send is the start of the ids, and does not know the answer."""
    encoded = encode(fmt, row)
    if encoded is None:
        return
    prompt = fmt.prompt(row)
    ids = list(encoded["input_ids"])
    same = len(prompt.input_ids)
    while ids[:same] != prompt.input_ids[:same]:
        same -= 1
    assert same >= len(prompt.input_ids) - slack
    assert fmt.render(row).text.startswith(prompt.text)


@each_chat
@SETTINGS
@given(row=conversations())
def test_a_chat_prompt_starts_the_ids(name: str, row: dict[str, Any]) -> None:
    _check_prompt(chat(name), row, slack=1)


@each_record
@SETTINGS
@given(row=ROWS, other=TEXT)
def test_a_record_prompt_starts_the_ids(name: str, row: dict[str, Any], other: str) -> None:
    fmt = record(name)
    _check_prompt(fmt, row, slack=0)
    if encode(fmt, row) is not None:
        assert fmt.prompt({**row, "output": other + "x"}) == fmt.prompt({**row, "output": "y"})


@SETTINGS
@given(row=ROWS)
def test_values_are_inserted_once(row: dict[str, Any]) -> None:
    """Braces, Jinja and markers in a row are text."""
    fmt = record("user_assistant")
    expected = f"USER: {row['instruction']}\n{row['input']}\nASSISTANT: {row['output']}"
    encoded = encode(fmt, row)
    assert encoded is None or oracles.text_of(fmt.tokenizer, encoded["input_ids"]) == expected + "</s>"
    if row["output"]:
        assert encoded is not None


@SETTINGS
@given(row=conversations(WORDS))
def test_chat_ids_equal_apply_chat_template(row: dict[str, Any]) -> None:
    """With `allow`, token for token."""
    for name in ("chatml", "llama3", "qwen3"):
        if name == "qwen3" and row["messages"][-1]["role"] != "assistant":
            continue  # history reads otherwise than the turn, which stands alone behind its prompt
        fmt = _allowing(name)
        encoded = encode(fmt, row)
        if encoded is not None:
            assert list(encoded["input_ids"]) == oracles.chat_ids(fmt.tokenizer, fmt.source.text, row["messages"])


@cache
def _allowing(name: str) -> ifmt.Formatter:
    file, tokenizer = CHATS[name]
    template = file if file is None else (TEMPLATES / file).read_text(encoding="utf-8")
    return ifmt.compile(template, small_tokenizers.build(tokenizer), control_tokens="allow")


@pytest.mark.parametrize("max_length", [8, 20, 40])
@SETTINGS
@given(row=ROWS)
def test_a_cut_answer_has_no_end(max_length: int, row: dict[str, Any]) -> None:
    """Every way to shorten a row keeps a terminator only behind a whole answer."""
    whole = encode(record("user_assistant"), row)
    for policy in ("truncate", "truncate_prompt"):
        cut = encode(_cutting(max_length, policy), row)
        if whole is None or cut is None:
            continue
        ids, labels, eos = list(cut["input_ids"]), list(cut["labels"]), 0
        eos = record("user_assistant").tokenizer.eos_token_id
        assert len(ids) <= max_length
        answer = [label for label in whole["labels"] if label != -100]
        kept = [label for label in labels if label != -100]
        assert kept == answer[: len(kept)]
        assert (eos in ids) == (kept == answer)


@cache
def _cutting(max_length: int, policy: Any) -> ifmt.Formatter:
    template, tokenizer = RECORDS["user_assistant"]
    return ifmt.compile(template, small_tokenizers.build(tokenizer), max_length=max_length, overlength=policy)


@pytest.mark.parametrize("make", [lambda: chat("chatml"), lambda: record("bos")], ids=["chat", "record"])
def test_no_rows(make: Callable[[], ifmt.Formatter]) -> None:
    """Zero rows are a table with the same columns and types."""
    fmt = make()
    names = ["messages"] if fmt.source.kind == "chat" else ["instruction", "input", "output"]
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    empty = pa.table({name: pa.array([], kind if name == "messages" else pa.string()) for name in names})
    table = fmt.encode_table(empty)
    assert table.num_rows == 0
    assert table.column_names == ["input_ids", "labels"]
    assert {table.schema.field(name).type.value_type for name in table.column_names} == {pa.int32()}


def test_output_columns_already_there() -> None:
    """Columns of the data that are called like the output's do no harm."""
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}]}
    busy = {**row, "labels": 1, "input_ids": "x", "text": "y", "attention_mask": None}
    fmt = chat("chatml")
    assert fmt.encode_table(pa.Table.from_pylist([busy])) == fmt.encode_table(pa.Table.from_pylist([row]))


def test_fingerprint_survives_use() -> None:
    """A tokenizer that changes its state when it is called does not change the fingerprint."""
    tokenizer = small_tokenizers.fresh("chatml_truncating")
    fmt = ifmt.compile(None, tokenizer)
    before = fmt.fingerprint
    fmt.encode({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}]})
    tokenizer("some text", truncation=True, max_length=3)
    tokenizer("some text")
    assert fmt.fingerprint == before == ifmt.compile(None, tokenizer).fingerprint
    assert ifmt.compile(None, tokenizer, history="last").fingerprint != before
