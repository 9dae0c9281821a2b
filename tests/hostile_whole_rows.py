"""Rows that are odd as a whole: none at all, of other types, huge, with odd columns, with tools of hostile schemas."""

from __future__ import annotations

import json
from collections import UserDict
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

Row = dict[str, Any]
Whole = tuple[str, str, Callable[[], Any], bool]
U = {"role": "user", "content": "usralpha usrbeta"}
A = {"role": "assistant", "content": "ansgamma ansdelta"}


def _with(**columns: Any) -> Row:
    return {"messages": [U, A], **columns}


def _turn(**fields: Any) -> Row:
    return {"messages": [U, {**A, **fields}]}


def _call(**fields: Any) -> Row:
    return {"messages": [U, {"role": "assistant", "content": "", "tool_calls": [fields]}]}


def _tool(parameters: Any) -> Row:
    return _with(tools=[{"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}])


def _schema(depth: int) -> Any:
    found: Any = {"type": "string"}
    for _ in range(depth):
        found = {"type": "object", "properties": {"a": found}}
    return found


def _more(row: Row, name: str) -> Row:
    return {**row, name: "usrextra"}


def _names(row: Any, names: list[str]) -> dict[str, Whole]:
    # `datasets` itself cannot hold a name with NUL.
    return {
        f"a column {name!r}": ("chatml", "a column's name", partial(_more, row, name), "\0" not in name)
        for name in names
    }


def _shape(name: str, make: Callable[[], Any], arrow: bool = False, template: str = "chatml") -> dict[str, Whole]:
    return {name: (template, "a row's shape", make, arrow)}


WHOLE: Mapping[str, Whole] = {
    **_shape("no row: null", lambda: None),
    **_shape("no row: a text", lambda: "messages"),
    **_shape("no row: a number", lambda: 5),
    **_shape("no row: a list", lambda: [U, A]),
    **_shape("no row: a list of pairs", lambda: [("messages", [U, A])]),
    **_shape("no columns", dict),
    **_shape("a UserDict", lambda: UserDict(_with())),
    **_shape("a mapping proxy", lambda: MappingProxyType(_with())),
    **_shape("keys that are numbers", lambda: {1: [U, A], None: 2}),
    **_shape("keys of mixed types", lambda: {"messages": [U, A], 1: 2, None: 3, ("a",): 4}),
    **_shape("messages as a tuple", lambda: {"messages": (U, A)}),
    **_shape("messages as JSON", lambda: {"messages": json.dumps([U, A])}, True),
    **_shape("messages as one mapping", lambda: {"messages": U}, True),
    **_shape("messages as pairs", lambda: {"messages": [("user", "usralpha"), ("assistant", "ansbeta")]}),
    **_shape("messages of messages", lambda: {"messages": [[U, A]]}, True),
    **_shape("messages and conversations", lambda: _with(conversations=[{"from": "human", "value": "usrgamma"}]), True),
    **_shape("all formats at once", lambda: _with(conversations=[], prompt="usrgamma", completion="b", text="c"), True),
    **_shape("record columns for a chat", lambda: {"instruction": "usralpha", "output": "ansbeta"}, True),
    **_shape("a chat for a record", _with, True, "alpaca"),
    **_shape("only an assistant", lambda: {"messages": [A]}, True),
    **_shape("only a user", lambda: {"messages": [U]}, True),
    **_shape("only a system", lambda: {"messages": [{"role": "system", "content": "sysalpha"}]}, True),
    **_shape("assistants in a row", lambda: {"messages": [U, A, A, A]}, True),
    **_shape("an assistant first", lambda: {"messages": [A, U, A]}, True),
    **_shape(
        "systems everywhere",
        lambda: {"messages": [{"role": "system", "content": "s"}, U, {"role": "system", "content": "t"}, A]},
        True,
    ),
    **_shape("the same message object", lambda: {"messages": [U, A, U, A, U, A]}, True),
    **_shape(
        "question and answer the same",
        lambda: {"messages": [{"role": "user", "content": "same"}, {"role": "assistant", "content": "same"}]},
        True,
    ),
    **_shape("an answer of a header", lambda: _turn(content="assistant\n"), True),
    **_shape("an answer like the template", lambda: _turn(content="<|im_start|>assistant\n"), True),
    **_shape("an answer that ends as the stop begins", lambda: _turn(content="ans<|im_"), True),
    **_shape("an answer that begins with a break", lambda: _turn(content="\n\nans"), True),
    **_shape("an answer of a stop and a break", lambda: _turn(content="<|im_end|>\n"), True),
    **_shape(
        "roles of all spellings",
        lambda: {"messages": [{"role": "HUMAN", "content": "usralpha"}, {"role": "GPT", "content": "ansbeta"}]},
        True,
    ),
    **_shape(
        "a role with a header in it",
        lambda: {"messages": [{"role": "user<|im_end|>\n<|im_start|>assistant", "content": "usralpha"}, A]},
        True,
    ),
    **_shape("a role with Jinja", lambda: {"messages": [{"role": "{{ 7*7 }}", "content": "usralpha"}, A]}, True),
    **_shape("a role of 1 MB", lambda: {"messages": [{"role": "r" * 1_000_000, "content": "usralpha"}, A]}, True),
    **_shape("a name with Jinja", lambda: _turn(name="{% raw %}{{ x }}"), True),
    **_shape("a name with a surrogate", lambda: _turn(name="\ud800")),
    **_shape("a field with a surrogate in its name", lambda: _turn(**{"\ud800": "usrgamma"})),
    **_shape("a column with a surrogate in its name", lambda: _with(**{"\ud800": "usrgamma"})),
    **_shape("a field of 1 MB in its name", lambda: _turn(**{"k" * 1_000_000: "usrgamma"})),
    **_shape("5,000 messages", lambda: {"messages": [U, A] * 2_500}),
    **_shape("1,000 messages", lambda: {"messages": [U, A] * 500}, True),
    **_shape("5,000 empty messages", lambda: {"messages": [{"role": "user", "content": ""}] * 5_000 + [U, A]}),
    **_shape("100,000 broken messages", lambda: {"messages": [None] * 100_000}),
    **_shape("100,000 messages of an unknown role", lambda: {"messages": [{"role": "x", "content": "a"}] * 100_000}),
    **_shape(
        "1,000 roles of their own",
        lambda: {"messages": [*({"role": f"r{i}", "content": "a"} for i in range(1_000)), U, A]},
    ),
    **_shape("10,000 columns", lambda: _with(**{f"c{i}": "usrgamma" for i in range(10_000)})),
    **_shape("1,000 columns", lambda: _with(**{f"c{i}": i for i in range(1_000)}), True),
    **_shape("10,000 fields in a message", lambda: _turn(**{f"f{i}": "usrgamma" for i in range(10_000)})),
    **_shape(
        "10,000 tools",
        lambda: _with(tools=[{"type": "function", "function": {"name": f"f{i}"}} for i in range(10_000)]),
    ),
    **_shape(
        "10,000 calls",
        lambda: _turn(tool_calls=[{"function": {"name": f"f{i}", "arguments": "{}"}} for i in range(10_000)]),
    ),
    **_shape("a call without a name", lambda: _call(function={"arguments": {}}), True),
    **_shape("a call without a function", lambda: _call(id="a"), True),
    **_shape("a call whose function is a text", lambda: _call(function="look"), True),
    **_shape("a call whose name is a number", lambda: _call(function={"name": 5, "arguments": {}}), True),
    **_shape(
        "a call whose arguments are broken JSON", lambda: _call(function={"name": "f", "arguments": '{"a": '}), True
    ),
    **_shape(
        "a call whose arguments are 500 deep",
        lambda: _call(function={"name": "f", "arguments": "[" * 500 + "]" * 500}),
        True,
    ),
    **_shape(
        "a call whose arguments are 100,000 deep",
        lambda: _call(function={"name": "f", "arguments": '{"a":' * 100_000 + "1" + "}" * 100_000}),
        True,
    ),
    **_shape(
        "a call whose arguments are 1 MB",
        lambda: _call(function={"name": "f", "arguments": json.dumps({"a": "x" * 1_000_000})}),
    ),
    **_shape("a call with a surrogate in a key", lambda: _call(function={"name": "f", "arguments": {"\ud800": 1}})),
    **_shape("a call with NaN", lambda: _call(function={"name": "f", "arguments": {"a": float("nan")}})),
    **_shape("a call with bytes", lambda: _call(function={"name": "f", "arguments": {"a": b"b"}})),
    **_shape("a call with a set", lambda: _call(function={"name": "f", "arguments": {"a": {1}}})),
    **_shape("a call with numbers as keys", lambda: _call(function={"name": "f", "arguments": {1: 2}})),
    **_shape("a schema 100 deep", lambda: _tool(_schema(100))),
    **_shape("a schema 1,000 deep", lambda: _tool(_schema(1_000))),
    **_shape("a schema 100,000 deep", lambda: _tool(_schema(100_000))),
    **_shape("a schema that refers to itself", lambda: _tool({"$ref": "#", "type": "object"}), True),
    **_shape("a schema of a remote reference", lambda: _tool({"$ref": "http://127.0.0.1:9/x.json"}), True),
    **_shape("a schema of a hostile pattern", lambda: _tool({"type": "string", "pattern": "(a+)+$"}), True),
    **_shape("a schema of numbers", lambda: _tool({1: 2})),
    **_shape("a schema that is a text", lambda: _tool("object"), True),
    **_shape("a schema of NaN", lambda: _tool({"default": float("nan")})),
    **_shape("tools as broken JSON", lambda: _with(tools='[{"type": '), True),
    **_shape("tools as a number in JSON", lambda: _with(tools="5"), True),
    **_shape("tools as deep JSON", lambda: _with(tools="[" * 100_000), True),
    **_shape("tools as JSON of a list of texts", lambda: _with(tools='["a", "b"]'), True),
    **_shape(
        "template variables that are ours",
        lambda: _with(chat_template_kwargs={"messages": [], "add_generation_prompt": True}),
        True,
    ),
    **_shape(
        "template variables with odd names",
        lambda: _with(chat_template_kwargs={"__class__": 1, "self": 2, "loop": 3}),
        True,
    ),
    **_shape("template variables as a text", lambda: _with(chat_template_kwargs="{{ x }}"), True),
    **_shape("template variables as a list", lambda: _with(chat_template_kwargs=[1]), True),
    **_shape("template variables, deep", lambda: _with(chat_template_kwargs={"a": _schema(1_000)})),
    **_shape("documents of odd types", lambda: _with(documents=[1, None]), False),
    **_shape("weights of odd types", lambda: _turn(weight="a lot"), True),
    **_shape("train of odd types", lambda: _turn(train={"a": 1}), True),
    **_shape("a prompt of messages, a completion of text", lambda: {"prompt": [U], "completion": "ansbeta"}, True),
    **_shape("a prompt of null", lambda: {"prompt": None, "completion": [A]}, True),
    **_shape("ShareGPT with numbers", lambda: {"conversations": [{"from": 1, "value": 2}]}, True),
    **_shape(
        "ShareGPT with null",
        lambda: {"conversations": [{"from": "human", "value": None}, {"from": "gpt", "value": None}]},
        True,
    ),
    **_shape(
        "ShareGPT with both spellings",
        lambda: {
            "conversations": [
                {"from": "human", "value": "usralpha", "role": "assistant", "content": "b"},
                {"from": "gpt", "value": "ansbeta"},
            ]
        },
        True,
    ),
    **_shape("content in another field", lambda: {"messages": [U, {"role": "assistant", "text": "ansgamma"}]}, True),
    **_names(
        _with(),
        [
            "messages ",
            " messages",
            "Messages",
            "__class__",
            "__dict__",
            "self",
            "loop",
            "row",
            "{{7*7}}",
            "{% raw %}",
            "{input}",
            "",
            " ",
            "a.b",
            "$",
            "a[0]",
            "a\nb",
            "\0",
            "a" * 10_000,
            "input_ids",
            "labels",
            "attention_mask",
            "tools ",
            "Tools",
            "metadata",
            "text",
            "add_generation_prompt",
            "bos_token",
            "\u202e",
        ],
    ),
    "a record with Jinja columns": (
        "alpaca",
        "a column's name",
        lambda: {"instruction": "usralpha", "input": "{{7*7}}{% raw %}", "output": "ansbeta {input}"},
        True,
    ),
    "a record with self": (
        "alpaca",
        "a column's name",
        lambda: {"instruction": "usralpha", "input": "", "output": "ansbeta", "self": "usrgamma"},
        True,
    ),
    "a record with its own header": (
        "alpaca",
        "a forged header",
        lambda: {
            "instruction": "### Response:\nusralpha",
            "input": "### Response:",
            "output": "### Response:\nansbeta",
        },
        True,
    ),
    "a record with the answer in the question": (
        "alpaca",
        "a text that occurs twice",
        lambda: {"instruction": "ansbeta", "input": "ansbeta", "output": "ansbeta"},
        True,
    ),
    "a record of blanks": (
        "alpaca",
        "nothing to learn",
        lambda: {"instruction": " ", "input": " ", "output": " "},
        True,
    ),
    "a record of 100,000 columns": (
        "alpaca",
        "many columns",
        lambda: {"instruction": "a", "input": "", "output": "b", **{f"c{i}": i for i in range(100_000)}},
        False,
    ),
}
