"""Tables give what their rows give one by one: reading columns is only a faster way to read rows."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_plans import THINKING

import instruct_fmt as ifmt
from instruct_fmt import Formatter
from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.common import threads
from instruct_fmt.encode import composed
from instruct_fmt.errors import RowError
from instruct_fmt.pipeline import table_blocks
from instruct_fmt.template.plan.planning import EVERY_ROW_CHECKED, PLANS_OFF
from instruct_fmt.types import EncodedBatch

SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.sampled_from(["", " ", "a", "Hello.", " x ", "é", "e\u0301", "<|im_end|>", "{{ x }}", "line\nline", "中文"])
CALL = st.fixed_dictionaries(
    {"name": st.sampled_from(["find", "say"]), "arguments": st.dictionaries(st.sampled_from("ab"), TEXT, max_size=2)}
)
TOOL = {"name": "find", "description": "Finds.", "parameters": {"type": "object", "properties": {}}}
ANTHROPIC = {"name": "find", "description": "Finds.", "input_schema": {"type": "object", "properties": {}}}
# Arguments as text: of an object, encoded once or again; of none; and of no object.
TIMES: dict[str, Callable[[Any], str]] = {
    "once": json.dumps,
    "twice": lambda value: json.dumps(json.dumps(value)),
    "null": lambda _: "null",
    "empty": lambda _: "",
    "no object": lambda _: "x",
}
ENCODED = st.sampled_from(["once", "once", *TIMES])


def _rows(fmt: Formatter, rows: list[dict[str, Any]]) -> EncodedBatch:
    """The rows one by one, the ordinary way."""
    return fmt.encode_rows(rows)


def check_columns(fmt: Formatter, table: pa.Table) -> EncodedBatch:
    """The table through columns and plans, against its rows through Jinja."""
    rows = table_rows(table)
    wanted = _rows(fmt.planned(PLANS_OFF), rows)
    found = fmt.planned(EVERY_ROW_CHECKED).encode_batch(table)
    assert found.table.to_pylist() == wanted.table.to_pylist()
    assert found.rows.tolist() == wanted.rows.tolist()
    assert found.rejected == wanted.rejected
    assert found.unread == wanted.unread
    assert _counted(found) == _counted(wanted)
    assert "plans:wrong" not in found.counts
    if fmt.settings.history == "expand":
        return found
    one_by_one = fmt.planned(EVERY_ROW_CHECKED)
    assert [row for row in map(partial(_alone, one_by_one), rows) if row] == wanted.table.to_pylist()
    return found


def _counted(batch: EncodedBatch) -> dict[str, int]:
    """What was counted, but for the ways that rows took, and the nulls that only a table has."""
    ways = ("path:", "plans:", "plan_refused:", "plan_missing:", "null:", "encoded_apart")
    return {name: count for name, count in batch.counts.items() if not name.startswith(ways)}


def _alone(fmt: Formatter, row: dict[str, Any]) -> dict[str, list[int]] | None:
    try:
        return fmt.encode(row)
    except RowError:
        return None


@pytest.fixture(scope="module")
def own() -> Formatter:
    return ifmt.compile(None, "embedded", max_rejected=1.0)


@pytest.fixture(scope="module")
def with_tools() -> Formatter:
    return ifmt.compile("qwen2_5", "embedded", max_rejected=1.0)


def _sharegpt(draw: st.DrawFn) -> dict[str, Any]:
    said: list[dict[str, Any]] = []
    if draw(st.booleans()):
        said.append({"from": "system", "value": draw(TEXT)})
    for _ in range(draw(st.integers(1, 2))):
        said.append({"from": draw(st.sampled_from(["human", "Human", "user"])), "value": draw(TEXT)})
        if draw(st.booleans()):
            calls = draw(st.lists(CALL, min_size=1, max_size=2))
            if draw(st.booleans()):
                encode = TIMES[draw(ENCODED)]
                calls = [{"name": call["name"], "parameters": encode(call["arguments"])} for call in calls]
            as_text = json.dumps(calls[0] if len(calls) == 1 else calls)
            said.append({"from": "function_call", "value": draw(st.sampled_from([as_text, as_text, "no JSON", None]))})
            said += [{"from": "observation", "value": draw(TEXT)}] * draw(st.integers(0, 2))
        said.append({"from": draw(st.sampled_from(["gpt", "assistant", "somebody"])), "value": draw(TEXT)})
    tools = draw(
        st.sampled_from([None, "", "[]", json.dumps([TOOL]), json.dumps([TOOL, ANTHROPIC]), json.dumps(TOOL), "no"])
    )
    return {"conversations": said, "tools": tools}


@SETTINGS
@given(rows=st.lists(st.composite(_sharegpt)(), min_size=1, max_size=8))
def test_sharegpt_tables(rows: list[dict[str, Any]], with_tools: Formatter) -> None:
    said = pa.list_(pa.struct({"from": pa.string(), "value": pa.string()}))
    table = pa.Table.from_pylist(rows, schema=pa.schema({"conversations": said, "tools": pa.string()}))
    check_columns(with_tools, table)


def _openai(draw: st.DrawFn) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 2))):
        messages.append({"role": draw(st.sampled_from(["user", "user", "User", None])), "content": draw(TEXT)})
        answer: dict[str, Any] = {"role": "assistant", "content": draw(st.one_of(TEXT, st.none()))}
        if draw(st.booleans()):
            calls = draw(st.lists(CALL, max_size=2))
            encode = TIMES[draw(ENCODED)]
            answer["tool_calls"] = [
                {"id": "1", "type": "function", "function": {**call, "arguments": encode(call["arguments"])}}
                for call in calls
            ]
            messages.append(answer)
            messages += [
                {"role": "tool", "content": draw(TEXT), "name": draw(st.sampled_from([None, "find"]))} for _ in calls
            ]
            answer = {"role": "assistant", "content": draw(TEXT)}
        if draw(st.booleans()):
            answer["reasoning_content"] = draw(TEXT)
        messages.append(answer)
    return {
        "messages": messages,
        "tools": draw(st.sampled_from([None, [], [json.dumps(TOOL)], [json.dumps(ANTHROPIC)], ["{}"]])),
    }


@SETTINGS
@given(rows=st.lists(st.composite(_openai)(), min_size=1, max_size=8))
def test_tables_of_messages(rows: list[dict[str, Any]], own: Formatter, with_tools: Formatter) -> None:
    function = pa.struct({"name": pa.string(), "arguments": pa.string()})
    call = pa.struct({"id": pa.string(), "type": pa.string(), "function": function})
    texts = dict.fromkeys(("role", "content", "name", "reasoning_content"), pa.string())
    message = pa.struct({**texts, "tool_calls": pa.list_(call)})
    schema = pa.schema({"messages": pa.list_(message), "tools": pa.list_(pa.string())})
    table = pa.Table.from_pylist(rows, schema=schema)
    check_columns(own, table)
    check_columns(with_tools, table)


THOUGHT = st.sampled_from(
    [
        "",
        "Yes.",
        "<think>\nHm.\n</think>\n\nYes.",
        " <think>Hm.",
        "[THINK]Hm.[/THINK]",
        "<Thought>\n</Thought>\nNo.",
        "\x1c<think>a</think>b",
    ]
)


@pytest.mark.parametrize("how", ["strip", "field"])
@SETTINGS
@given(contents=st.lists(st.tuples(THOUGHT, THOUGHT, st.sampled_from([None, "", "Well."])), min_size=1, max_size=8))
def test_reasoning_in_columns(
    contents: list[tuple[str, str, str | None]], how: str, reasoning: dict[str, Formatter]
) -> None:
    texts = dict.fromkeys(("role", "content", "reasoning_content"), pa.string())
    rows = [
        {
            "messages": [
                {"role": "user", "content": first},
                {"role": "assistant", "content": first, "reasoning_content": thought},
                {"role": "user", "content": "<think>I</think>do."},
                {"role": "assistant", "content": second},
            ]
        }
        for first, second, thought in contents
    ]
    check_columns(reasoning[how], pa.Table.from_pylist(rows, pa.schema({"messages": pa.list_(pa.struct(texts))})))


@pytest.fixture(scope="module")
def reasoning() -> dict[str, Formatter]:
    options: dict[str, Any] = {"max_rejected": 1.0, "allow_dropped": ["reasoning_content"]}
    return {how: ifmt.compile(THINKING, "embedded", reasoning=how, **options) for how in ("strip", "field")}


def _chat(number: int) -> dict[str, Any]:
    say = [{"from": "human", "value": f"Say {number}."}, {"from": "gpt", "value": f"{number}, said."}]
    call = {"name": "find", "arguments": {"number": number}}
    ask = [{"from": "function_call", "value": json.dumps(call)}, {"from": "observation", "value": str(number)}]
    return {"conversations": [say[0], *ask, say[1]] if number % 2 else say, "tools": json.dumps([TOOL])}


def test_tool_tables_run_on_plans(with_tools: Formatter) -> None:
    batch = check_columns(with_tools, pa.Table.from_pylist([_chat(number) for number in range(40)]))
    assert batch.counts["path:plan"] == batch.counts["emitted"] == 40


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_blocks_and_threads_change_nothing(size: int, own: Formatter, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = ["plain", "<|im_end|>", "", "e\u0301", "x" * 50]
    rows = [
        {"messages": [{"role": "user", "content": f"{number}"}, {"role": "assistant", "content": contents[number % 5]}]}
        for number in range(60)
    ]
    table = pa.Table.from_pylist(rows)
    wanted = check_columns(own, table)
    monkeypatch.setattr(table_blocks, "rows_at_a_time", lambda rows, bytes: size)
    monkeypatch.setattr(threads, "cores", lambda: 3)
    found = check_columns(own, table)
    assert found.table.to_pylist() == wanted.table.to_pylist()
    assert found.rejected == wanted.rejected


def test_too_long_rows_of_a_plan_are_counted_apart() -> None:
    rows = [{"instruction": "Say.", "input": "", "output": "word " * (number % 7)} for number in range(1, 50)]
    limit = len(ifmt.compile("alpaca", "embedded").encode(rows[3])["input_ids"])
    fmt = ifmt.compile("alpaca", "embedded", max_length=limit, max_rejected=1.0)
    batch = check_columns(fmt, pa.Table.from_pylist(rows))
    assert batch.counts["rejected:over-length"] > 0
    assert batch.counts["path:plan"] > 0


def test_cores_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    monkeypatch.setenv("RAYON_NUM_THREADS", "3")
    assert threads.cores() == 3
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert threads.cores() == 1
    monkeypatch.delenv("RAYON_NUM_THREADS")
    monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    assert 1 <= threads.cores() <= (os.cpu_count() or 1)


@given(st.lists(st.text(st.sampled_from(["a", " ", "é", "\u0301", "\u0327", "ᄒ", "ᅡ", "中", "\u0958", "—", "\u2adc"]))))
def test_rows_that_a_normaliser_changes_are_found(texts: list[str]) -> None:
    changed = [unicodedata.normalize("NFC", text) != text for text in texts]
    assert composed.composed(pa.array(texts, pa.large_string())).tolist() == changed


def test_punctuation_has_no_longer_form() -> None:
    """What the check of normalised texts relies on: no character from U+2000 to U+2FFF grows, but the one named."""
    grows = [
        code
        for code in range(0x2000, 0x3000)
        if len(unicodedata.normalize("NFC", chr(code)).encode()) > len(chr(code).encode())
    ]
    assert {chr(code).encode()[:2] for code in grows} <= {bytes([composed._PUNCTUATION, composed._FORKING])}
    below = "".join(map(chr, range(0x300)))
    assert unicodedata.normalize("NFC", below) == below
    assert not np.any(np.frombuffer(below.encode(), np.uint8) >= composed._COMBINING)
