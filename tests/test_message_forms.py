"""Messages, calls and tools in the forms of other APIs: the same ids as in OpenAI's form, and fixes that work."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import oracles
import pyarrow as pa
import pytest

import instruct_fmt as ifmt
from instruct_fmt.adapt.adapter import make_adapter
from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.canonical import with_dataset_path
from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.adapt.parts import read
from instruct_fmt.adapt.values import root
from instruct_fmt.errors import RowError
from instruct_fmt.types import Conversation, TemplateSource

Row = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "get", "description": "Gets.", "parameters": SCHEMA}}]
ASK = {"role": "user", "content": "Weather?"}
SAY = {"role": "assistant", "content": "Sunny."}


def text(value: str) -> Row:
    return {"type": "text", "text": value}


def call(city: str, id: str | None = None) -> Row:
    """A call in the canonical form."""
    made = {"type": "function", "function": {"name": "get", "arguments": {"city": city}}}
    return made if id is None else {"id": id, **made}


def turns(*calls: Row, content: str = "", reasoning: str | None = None) -> list[Row]:
    """A conversation with calls and their results in the canonical form."""
    answer: Row = {"role": "assistant", "content": content, "tool_calls": list(calls)}
    if reasoning is not None:
        answer["reasoning_content"] = reasoning
    results = [{"role": "tool", "content": "18 °C"} for _ in calls]
    return [ASK, answer, *results, SAY]


def openai(*calls: Row, **fields: Any) -> list[Row]:
    """The same with the calls of a dataset."""
    answer = {"role": "assistant", "content": None, "tool_calls": list(calls), **fields}
    return [ASK, answer, *({"role": "tool", "content": "18 °C"} for _ in calls), SAY]


def anthropic(*parts: Row) -> list[Row]:
    """The same as Anthropic writes it."""
    ids = [part["id"] for part in parts if part["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": id, "content": [text("18 "), text("°C")]} for id in ids]
    return [ASK, {"role": "assistant", "content": list(parts)}, {"role": "user", "content": results}, SAY]


def use(city: str, id: str) -> Row:
    return {"type": "tool_use", "id": id, "name": "get", "input": {"city": city}}


def part(city: str, **more: Any) -> Row:
    return {"type": "tool_call", "value": json.dumps({"name": "get", "arguments": {"city": city}}, **more)}


ENCODED = json.dumps({"city": "Paris"})
FLAT = {"name": "get", "arguments": {"city": "Paris"}}
SAME: dict[str, tuple[list[Row], Any, list[Row]]] = {
    "anthropic": (
        anthropic({"type": "thinking", "thinking": "Hm."}, text("Let me see."), use("Paris", "a"), use("Rome", "b")),
        [{"name": "get", "description": "Gets.", "input_schema": SCHEMA}],
        turns(call("Paris"), call("Rome"), content="Let me see.", reasoning="Hm."),
    ),
    "anthropic, text behind the results": (
        [
            *anthropic(use("Paris", "a"))[:2],
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "a", "content": "18 °C"}, text("And?")],
            },
            SAY,
        ],
        TOOLS,
        [*turns(call("Paris"))[:3], {"role": "user", "content": "And?"}, SAY],
    ),
    "llama factory": (
        [
            {"role": "user", "content": [{"type": "text", "value": "Weather?"}]},
            {"role": "assistant", "content": [{"type": "reasoning", "value": "Hm."}, part("Paris"), part("Rome")]},
            {"role": "tool", "content": [{"type": "text", "value": "18 °C"}]},
            {"role": "tool", "content": [{"type": "text", "value": "18 °C"}]},
            {"role": "assistant", "content": [{"type": "text", "value": "Sunny."}]},
        ],
        json.dumps([TOOLS[0]["function"]]),
        turns(call("Paris"), call("Rome"), reasoning="Hm."),
    ),
    "mistral": (
        [ASK, {"role": "assistant", "content": [{"type": "thinking", "thinking": [text("Hm.")]}, text("Sunny.")]}],
        None,
        [ASK, {**SAY, "reasoning_content": "Hm."}],
    ),
    "reasoning as text": (
        [ASK, {"role": "assistant", "content": [{"type": "reasoning", "text": "Hm."}, text("Sunny.")]}],
        None,
        [ASK, {**SAY, "reasoning_content": "Hm."}],
    ),
    "encoded twice": (
        openai({"type": "function", "function": {"name": "get", "arguments": json.dumps(ENCODED)}}),
        [TOOLS[0]["function"]],
        turns(call("Paris")),
    ),
    "encoded three times": (
        openai({"name": "get", "arguments": json.dumps(json.dumps(ENCODED))}),
        json.dumps(TOOLS),
        turns(call("Paris")),
    ),
    "llama": (openai({"name": "get", "parameters": {"city": "Paris"}}), TOOLS, turns(call("Paris"))),
    "legacy": (
        [
            ASK,
            {"role": "assistant", "content": None, "function_call": {"name": "get", "arguments": ENCODED}},
            {"role": "tool", "content": "18 °C"},
            SAY,
        ],
        [{"type": "function", **TOOLS[0]["function"]}],
        turns(call("Paris")),
    ),
    "no arguments": (
        openai({"type": "function", "function": {"name": "get"}}, {"name": "get", "arguments": "null"}),
        TOOLS,
        turns(*[{"type": "function", "function": {"name": "get", "arguments": {}}}] * 2),
    ),
}


@pytest.mark.real
@pytest.mark.parametrize("name", SAME)
def test_ids_are_those_of_the_form_of_chat_apis(name: str, real_tokenizers: Path) -> None:
    messages, tools, canonical = SAME[name]
    fmt = ifmt.compile(None, str(real_tokenizers / "qwen3"))
    row = {"messages": messages} if tools is None else {"messages": messages, "tools": tools}
    template = fmt.tokenizer.chat_template
    assert isinstance(template, str)
    wanted = oracles.chat_ids(fmt.tokenizer, template, canonical, TOOLS if tools else None)
    assert fmt.encode(row)["input_ids"] == wanted


def adapted(row: Row) -> Conversation:
    chat = TemplateSource("", "chat", "demo")
    example = make_adapter(list(row), row, chat, Asked())(row)
    assert isinstance(example, Conversation)
    return example


def test_anthropic_tables_are_read_as_their_rows_are() -> None:
    messages = [
        {"role": "user", "content": [text("Weather?")]},
        *SAME["anthropic"][0][1:-1],
        {"role": "assistant", "content": [text("Sunny.")]},
    ]
    row = {"messages": messages, "system": [text("Be "), text("brief.")]}
    (found,) = table_rows(pa.Table.from_pylist([row]))
    assert adapted(found) == adapted(row)
    assert adapted(found).messages[0] == {"role": "system", "content": "Be brief."}


def answer(*parts: Row, **fields: Any) -> Row:
    return {"messages": [ASK, {"role": "assistant", "content": list(parts), **fields}]}


def called(**function: Any) -> Row:
    return {"messages": [ASK, {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]}]}


def tooled(*tools: Row) -> Row:
    return {"messages": [ASK, SAY], "tools": list(tools)}


THOUGHT = {"type": "thinking", "thinking": "Hm."}
RESULT = {"type": "tool_result", "tool_use_id": "a", "content": "18 °C"}
REDACTED = {"type": "redacted_thinking", "data": "…"}
# A row, the reason and the path of its error, and the row with the fix applied.
FIXES: dict[str, tuple[Row, str, str, Row]] = {
    "redacted": (
        answer(REDACTED, text("b")),
        "bad-field",
        "$.messages[1].content[0]",
        answer(text("b")),
    ),
    "reasoning behind text: in order": (
        answer(text("b"), THOUGHT),
        "bad-field",
        "$.messages[1].content[1]",
        answer(THOUGHT, text("b")),
    ),
    "text behind a call: another message": (
        answer(use("Paris", "a"), text("b")),
        "bad-field",
        "$.messages[1].content[1]",
        {"messages": [*answer(use("Paris", "a"))["messages"], answer(text("b"))["messages"][1]]},
    ),
    "reasoning of a user: taken out": (
        {"messages": [{"role": "user", "content": [THOUGHT, text("a")]}, SAY]},
        "bad-field",
        "$.messages[0].content[0]",
        {"messages": [{"role": "user", "content": [text("a")]}, SAY]},
    ),
    "a call of a user: a message of its own": (
        {"messages": [{"role": "user", "content": [text("a"), use("Paris", "a")]}, SAY]},
        "bad-field",
        "$.messages[0].content[1]",
        {"messages": [ASK, {"role": "assistant", "content": [use("Paris", "a")]}, SAY]},
    ),
    "a result of an assistant: a message of its own": (
        answer(text("b"), RESULT),
        "bad-field",
        "$.messages[1].content[1]",
        {"messages": [*answer(text("b"))["messages"], {"role": "user", "content": [RESULT]}]},
    ),
    "two reasonings: without the field": (
        answer(THOUGHT, text("b"), reasoning_content="Ha."),
        "bad-field",
        "$.messages[1].content[0]",
        answer(THOUGHT, text("b")),
    ),
    "two reasonings: without the part": (
        answer(THOUGHT, text("b"), reasoning="Ha."),
        "bad-field",
        "$.messages[1].content[0]",
        answer(text("b"), reasoning="Ha."),
    ),
    "two lists of calls: without the field": (
        answer(use("Paris", "a"), tool_calls=[call("Rome")]),
        "bad-field",
        "$.messages[1].content[0]",
        answer(use("Paris", "a")),
    ),
    "a name beside results: removed": (
        {"messages": [ASK, {"role": "user", "name": "bob", "content": [RESULT]}, SAY]},
        "bad-field",
        "$.messages[1].name",
        {"messages": [ASK, {"role": "user", "content": [RESULT]}, SAY]},
    ),
    "an unknown part: as text": (
        answer({"type": "odd", "text": "b"}),
        "bad-field",
        "$.messages[1].content[0]",
        answer({"type": "text", "text": "b"}),
    ),
    "schemas as a part: in the column": (
        {"messages": [{"role": "system", "content": [{"type": "tools", "value": json.dumps(TOOLS)}]}, ASK, SAY]},
        "bad-field",
        "$.messages[0].content[0]",
        {"messages": [ASK, SAY], "tools": json.dumps(TOOLS)},
    ),
    "a call's JSON: repaired": (
        answer({"type": "tool_call", "value": '{"name": "get"'}),
        "bad-tools",
        "$.messages[1].content[0].value",
        answer({"type": "tool_call", "value": '{"name": "get"}'}),
    ),
    "a call's JSON without a name: as text": (
        answer({"type": "tool_call", "value": '{"x": 1}'}),
        "bad-tools",
        "$.messages[1].content[0].value",
        answer({"type": "text", "value": '{"x": 1}'}),
    ),
    "text as arguments": (
        called(name="get", arguments="Paris"),
        "bad-field",
        "$.messages[1].tool_calls[0].function.arguments",
        called(name="get", arguments={"city": "Paris"}),
    ),
    "a list as arguments": (
        called(name="get", arguments='["Paris"]'),
        "bad-field",
        "$.messages[1].tool_calls[0].function.arguments",
        called(name="get", arguments='{"cities": ["Paris"]}'),
    ),
    "a number as arguments": (
        called(name="get", arguments=5),
        "bad-field",
        "$.messages[1].tool_calls[0].function.arguments",
        called(name="get", arguments={"city": 5}),
    ),
    "two fields of arguments": (
        called(name="get", arguments={"city": "Paris"}, parameters=SCHEMA),
        "bad-field",
        "$.messages[1].tool_calls[0].function.parameters",
        called(name="get", arguments={"city": "Paris"}),
    ),
    "arguments under another name": (
        called(name="get", kwargs={"city": "Paris"}),
        "bad-tools",
        "$.messages[1].tool_calls[0].function.kwargs",
        called(name="get", arguments={"city": "Paris"}),
    ),
    "no arguments, but something else": (
        called(name="get", note="x"),
        "bad-tools",
        "$.messages[1].tool_calls[0].function.note",
        called(name="get", note="x", arguments={}),
    ),
    "no name": (
        called(arguments={"city": "Paris"}),
        "bad-tools",
        "$.messages[1].tool_calls[0].function.name",
        called(name="get", arguments={"city": "Paris"}),
    ),
    "a call of another kind": (
        {"messages": [ASK, {**SAY, "tool_calls": [{"type": "custom", "custom": {"name": "get", "input": "x"}}]}]},
        "bad-tools",
        "$.messages[1].tool_calls[0]",
        {"messages": [ASK, {**SAY, "tool_calls": [{"name": "get", "arguments": {"input": "x"}}]}]},
    ),
    "a tool without a form": (
        tooled({"title": "get"}),
        "bad-tools",
        "$.tools[0]",
        tooled({"name": "get", "parameters": {}}),
    ),
    "a tool with two schemas": (
        tooled({"name": "get", "parameters": {}, "input_schema": {}}),
        "bad-tools",
        "$.tools[0].input_schema",
        tooled({"name": "get", "parameters": {}}),
    ),
    "reasoning in the column of the system": (
        {"messages": [ASK, SAY], "system": [text("Be brief."), THOUGHT]},
        "bad-field",
        "$.system[1]",
        {"messages": [ASK, SAY], "system": [text("Be brief.")]},
    ),
}


@pytest.mark.parametrize("name", FIXES)
def test_fixes_work(name: str) -> None:
    row, reason, path, fixed = FIXES[name]
    before = copy.deepcopy(row)
    with pytest.raises(RowError) as raised:
        adapted(row)
    assert (raised.value.reason, raised.value.path) == (reason, path)
    assert row == before, "the adapter changed the row"
    adapted(fixed)


def test_pieces_know_the_names_of_their_fields() -> None:
    """The message of a part has its content and its id under the names of the part."""
    found = read([RESULT, text("a"), "b", RESULT], root("content"), "user")
    assert found is not None
    assert [dict(fragment.names) for fragment in found.fragments] == [
        {"tool_call_id": "tool_use_id"},
        {"content": "text"},
        {"tool_call_id": "tool_use_id"},
    ]
    assert [fragment.message["content"] for fragment in found.fragments] == ["18 °C", "ab", "18 °C"]


def test_errors_of_templates_name_the_part() -> None:
    """What later stages say of a canonical field comes with the path of the part that says it."""
    parts = [THOUGHT, text("b"), use("Paris", "a"), use("Rome", "b")]
    messages = [ASK, {"role": "assistant", "content": parts}, {"role": "user", "content": [RESULT, text("So?")]}, SAY]
    example = adapted({"messages": messages})
    paths = {
        ".messages[1].reasoning_content": ".messages[1].content[0]",
        ".messages[1].content": ".messages[1].content",
        ".messages[1].tool_calls[1].function.arguments.city": ".messages[1].content[3]",
        ".messages[2].content": ".messages[2].content[0].content",
        ".messages[2].tool_call_id": ".messages[2].content[0].tool_use_id",
        ".messages[3].content": ".messages[2].content[1].text",
        ".messages[4].content": ".messages[3].content",
    }
    for ours, theirs in paths.items():
        error = RowError("field-dropped", f"${ours}", "", "", "")
        assert with_dataset_path(error, example).path == f"${theirs}"
