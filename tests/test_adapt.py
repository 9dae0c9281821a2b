"""Rows of every format against golden files, and properties that hold for all of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_fmt.adapt.adapter import Adapter, make_adapter
from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.adapt.values import at, root
from instruct_fmt.errors import RowError, UsageError
from instruct_fmt.types import Conversation, TemplateSource, Text

GOLDEN = sorted((Path(__file__).parent / "golden" / "adapt").glob("*.json"))
CHAT = TemplateSource("", "chat", "demo")


def build(case: dict[str, Any]) -> Adapter:
    """The adapter of a case.

    A golden file holds `row`; where needed `columns`, `template` (of a record), `chat` (``given`` or ``own``: a chat
    template that the user or the tokenizer has; without it there is none), `options`, and `arrow` (false where Arrow
    cannot hold the row); and `expect`: the format with the example or the error, or the text of a `UsageError`.
    """
    row = case["row"]
    source = TemplateSource("{{ messages }}", "chat", "demo", own=case["chat"] == "own") if "chat" in case else CHAT
    if "template" in case:
        names = case["template"]
        source = TemplateSource(
            "",
            "record",
            "demo",
            columns=tuple(names["columns"]),
            optional=frozenset(names.get("optional", ())),
        )
    options = dict(case.get("options", {}))
    options["allow_dropped"] = frozenset(options.get("allow_dropped", ()))
    return make_adapter(case.get("columns", list(row)), row, source, Asked(**options))


def outcome(case: dict[str, Any]) -> dict[str, Any]:
    """What comes out of a case, in the words of the golden files."""
    try:
        adapter = build(case)
        example = adapter(case["row"])
    except UsageError as error:
        return {"usage": str(error)}
    except RowError as error:
        fields = ("reason", "path", "found", "expected", "fix")
        return {"format": adapter.format, "error": {field: getattr(error, field) for field in fields}}
    values = dataclasses.asdict(example)
    if isinstance(example, Text):
        values.pop("path")
    return {
        "format": adapter.format,
        type(example).__name__.lower(): {
            k: v for k, v in values.items() if v not in (None, {}) and k not in ("names", "columns", "unread")
        },
    }


def plain_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    before = json.dumps(case["row"])
    found = plain_json(outcome(case))
    assert found == case["expect"]
    assert json.dumps(found) == json.dumps(case["expect"]), "the order of keys differs"
    assert json.dumps(case["row"]) == before, "the adapter changed the row"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_through_arrow(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    if not case.get("arrow", True):  # lists of mixed types, lone surrogates
        with pytest.raises((pa.ArrowException, UnicodeEncodeError)):
            pa.Table.from_pylist([case["row"]])
        return
    table = pa.Table.from_pylist([case["row"]])
    found = outcome({**case, "row": table_rows(table)[0], "columns": case.get("columns", list(case["row"]))})
    # A struct cannot hold a null apart from a member that is not there.
    assert without_nulls(plain_json(found)) == without_nulls(case["expect"])


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def strings(value: Any) -> list[str]:
    """All non-empty strings of a value."""
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, dict):
        value = list(value.values())
    return [text for item in value for text in strings(item)] if isinstance(value, list) else []


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
parts = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": texts}), min_size=1, max_size=3)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": texts | parts},
    optional={"name": texts, "reasoning_content": texts, "mood": texts, "tool_call_id": st.none()},
)


@settings(deadline=None)
@given(st.lists(messages, min_size=1, max_size=5))
def test_no_text_of_a_message_is_lost(rows: list[dict[str, Any]]) -> None:
    row = {"messages": rows}
    example = build({"row": row})(row)
    assert isinstance(example, Conversation)
    assert len(example.messages) == len(example.train) == len(example.paths) == len(rows)
    for before, after in zip(rows, example.messages, strict=True):
        out = strings(after)
        content = before["content"]
        joined = content if isinstance(content, str) else "".join(part["text"] for part in content)
        kept = strings({**before, "content": joined})
        assert set(kept) <= set(out)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(texts, json_values, max_size=4))
def test_arguments_keep_their_nulls_as_an_object_and_as_text(arguments: dict[str, Any]) -> None:
    def adapted(value: Any) -> Any:
        call = {"type": "function", "function": {"name": "f", "arguments": value}}
        row = {"messages": [{"role": "assistant", "tool_calls": [call]}]}
        example = build({"row": row})(row)
        assert isinstance(example, Conversation)
        return example.messages[0]["tool_calls"][0]["function"]["arguments"]

    assert adapted(arguments) == arguments
    assert adapted(json.dumps(arguments)) == arguments


@settings(deadline=None)
@given(json_values)
def test_any_value_is_adapted_or_rejected(value: Any) -> None:
    for row in (
        {"messages": value},
        {"messages": [value]},
        {"messages": [{"role": "user", "content": value}]},
    ):
        found = outcome({"row": row})
        assert "conversation" in found or found["error"]["path"].startswith("$.messages")


@pytest.mark.parametrize("sample", [None, {"messages": []}, {"messages": None}, {"messages": "…"}])
def test_the_adapter_does_not_depend_on_the_sample(sample: dict[str, Any] | None) -> None:
    adapt = make_adapter(["messages"], sample, CHAT, Asked())
    openai = adapt({"messages": [{"role": "user", "content": "a"}]})
    sharegpt = adapt({"messages": [{"from": "human", "value": "a"}]})
    assert isinstance(openai, Conversation)
    assert isinstance(sharegpt, Conversation)
    assert dataclasses.replace(openai, names=()) == dataclasses.replace(sharegpt, names=())


def test_values_of_numpy_are_plain_data() -> None:
    message = {"role": np.str_("user"), "content": "a", "weight": np.float32(0), "n": np.int64(3)}
    row = {"messages": np.array([message])}
    example = build({"row": row})(row)
    assert isinstance(example, Conversation)
    assert example.messages == [{"role": "user", "content": "a", "n": 3}]
    assert {type(value) for value in example.messages[0].values()} == {str, int}
    assert example.train == (False,)


def test_what_is_no_data_is_refused() -> None:
    row = {"messages": [{"role": "user", "content": "a", "at": object()}]}
    with pytest.raises(RowError, match=r"\$\.messages\[0\]\.at: bad-field"):
        build({"row": row})(row)


def test_data_nested_too_deep_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    row = {"messages": [{"role": "user", "content": "a", "deep": deep}]}
    with pytest.raises(RowError, match="levels deep"):
        build({"row": row})(row)


def test_json_columns_are_decoded_by_their_type() -> None:
    kind = pa.json_(pa.string())
    message = pa.struct([("role", pa.string()), ("content", kind)])
    rows = [[{"role": "user", "content": '"\\"quoted\\""'}], [{"role": "user", "content": None}], None]
    storage = pa.array(rows, pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))
    table = pa.table({"messages": storage.cast(pa.list_(message)), "n": [1, 2, 3]})
    assert table_rows(table) == [
        {"messages": [{"role": "user", "content": '"quoted"'}], "n": 1},
        {"messages": [{"role": "user"}], "n": 2},
        {"messages": None, "n": 3},
    ]


def test_paths_are_json_paths() -> None:
    assert at(((root("a"), 0), "odd key")) == "$.a[0]['odd key']"
