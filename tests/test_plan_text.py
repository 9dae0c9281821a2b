"""What templates do with text, in plans: for any content, the bytes, labels and counts of the ordinary way."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pytest
import small_tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from test_plans import TEXT, check_same

import instruct_fmt as ifmt
from instruct_fmt import Formatter
from instruct_fmt.template.plan import made, unprinted
from instruct_fmt.template.plan.json_form import JsonForm, rewritten
from instruct_fmt.template.plan.steps import Step, answer, answers, stepped, stepped_column

TEMPLATE = """{%- for m in messages -%}
<|im_start|>{{ m.role }}
{% set c = m.content %}{% if m.role == 'user' and CONDITION %}{{ ONE }}{% else %}{{ OTHER }}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}"""
CONSTANTS = st.sampled_from(["</think>", "<think>", "\n", " ", "a", "Answer", "<|im_end|>", "a\n", "x<"]).map(repr)
BLANKS = st.sampled_from(["''", "'\\n'", "' a'"])


def _one_more(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A text of a text."""
    return st.one_of(
        st.tuples(texts, st.sampled_from(["strip", "lstrip", "rstrip"]), st.sampled_from(["", "'\\n'", "' a'"])).map(
            lambda of: f"({of[0]}).{of[1]}({of[2]})"
        ),
        st.tuples(texts, CONSTANTS, st.sampled_from(["0", "-1", "1:", "0:1"])).map(
            lambda of: (
                f"(({of[0]}).split({of[1]})[{of[2]}] | join('-'))"
                if ":" in of[2]
                else f"({of[0]}).split({of[1]})[{of[2]}]"
            )
        ),
        st.tuples(texts, CONSTANTS).map(lambda of: f"({of[0]}).rsplit({of[1]}, 1)[-1]"),
        st.tuples(texts, CONSTANTS, st.integers(0, 2)).map(lambda of: f"({of[0]}).partition({of[1]})[{of[2]}]"),
        st.tuples(texts, CONSTANTS, st.integers(0, 2)).map(lambda of: f"({of[0]}).rpartition({of[1]})[{of[2]}]"),
        st.tuples(texts, CONSTANTS, BLANKS).map(lambda of: f"({of[0]}).replace({of[1]}, {of[2]})"),
        st.tuples(texts, CONSTANTS).map(lambda of: f"({of[0]}).removeprefix({of[1]})"),
        st.tuples(texts, CONSTANTS).map(lambda of: f"({of[0]}).removesuffix({of[1]})"),
        st.tuples(texts, st.sampled_from(["trim", "upper", "lower", "capitalize", "string"])).map(
            lambda of: f"(({of[0]}) | {of[1]})"
        ),
        st.tuples(CONSTANTS, texts, CONSTANTS).map(lambda of: f"({of[0]} ~ {of[1]} + {of[2]})"),
        st.tuples(texts, texts).map(lambda of: f"({of[0]} ~ {of[1]})"),
        st.tuples(texts).map(lambda of: f"('ab' ~ {of[0]})[1:]"),
        st.tuples(texts).map(lambda of: f"({{'k': {of[0]}, 'n': [1]}} | tojson)"),
    )


TEXTS = st.recursive(st.just("c"), _one_more, max_leaves=4)
CONDITIONS = st.one_of(
    st.tuples(CONSTANTS, TEXTS).map(lambda of: f"{of[0]} in {of[1]}"),
    st.tuples(TEXTS, st.sampled_from(["startswith", "endswith"]), CONSTANTS).map(
        lambda of: f"({of[0]}).{of[1]}({of[2]})"
    ),
    st.tuples(TEXTS, CONSTANTS).map(lambda of: f"({of[0]}) == {of[1]}"),
    st.tuples(TEXTS, st.integers(0, 9)).map(lambda of: f"({of[0]}) | length > {of[1]}"),
    TEXTS.map(lambda of: f"({of})"),
    st.tuples(TEXTS, st.sampled_from([":1", ":3", "-2:", "1:", "0", "-1"]), CONSTANTS).map(
        lambda of: f"({of[0]})[{of[1]}] == {of[2]}"
    ),
    st.tuples(st.integers(0, 9), CONSTANTS).map(lambda of: f"c[(c | length) - {of[0]}:] == {of[1]}"),
    TEXTS.map(lambda of: f"({of}) == messages[-1].content"),
    st.just("c is string and c.isdigit()"),
)


@lru_cache(maxsize=32)
def _formatter(condition: str, one: str, other: str) -> Formatter:
    text = TEMPLATE.replace("CONDITION", condition).replace("ONE", one).replace("OTHER", other)
    return ifmt.compile(text, "embedded", max_rejected=1.0)


def _rows(contents: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": one}, {"role": "assistant", "content": other}]}
        for one, other in contents
    ]


CONTENTS = st.lists(st.tuples(TEXT, TEXT), min_size=10, max_size=16)


@settings(max_examples=150, deadline=None)
@given(contents=CONTENTS, condition=CONDITIONS, one=TEXTS, other=st.sampled_from(["c", "c | trim", "c.strip('\\n')"]))
def test_any_expression_of_a_prompt(contents: list[tuple[str, str]], condition: str, one: str, other: str) -> None:
    check_same(_formatter(condition, one, other), _rows(contents))


@settings(max_examples=100, deadline=None)
@given(contents=CONTENTS, other=TEXTS)
def test_any_expression_of_an_answer(contents: list[tuple[str, str]], other: str) -> None:
    check_same(_formatter("true", "c", other), _rows(contents))


PLAIN = [(f"Question {number}?", f"It is {number}.") for number in range(12)]
THOUGHT = [(f"Question {number}?", f"<think>\nHm {number}.\n</think>\n\nIt is {number}.") for number in range(12)]


@pytest.mark.parametrize("contents", [PLAIN, THOUGHT], ids=["plain", "thoughts"])
@pytest.mark.parametrize(
    "expression",
    [
        "c.split('</think>')[-1]",
        "c.split('</think>')[-1].lstrip('\\n')",
        "(c ~ '\\n').rstrip()",
        "('<b>' ~ c ~ '</b>').startswith('<b>') ~ c",
        "c.replace('Hm', 'Oh')",
        "c.partition('</think>')[2] or c",
        "c if c | length > 3 else ''",
        "c | lower",
        "{'text': c.split('</think>')[-1] | trim, 'n': [1, true]} | tojson",
        "('ab' ~ c)[1:]",
        "c | upper | trim",
        "c if not c.isdigit() else 'n'",
        "c if c[0] != '$' and c[-1] == '.' else c",
        "c if c[:3] == 'Que' and c[(c | length) - 1:] == '?' else c ~ '!'",
    ],
)
def test_what_templates_do_with_text_has_plans(expression: str, contents: list[tuple[str, str]]) -> None:
    fmt = _formatter("true", expression, "c")
    batch = check_same(fmt, _rows(contents))
    assert batch.counts["path:plan"] == batch.counts["emitted"] == len(contents)


# columns


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(TEXT, min_size=1, max_size=6),
    step=st.one_of(
        st.tuples(st.sampled_from(["both", "left", "right"]), st.sampled_from(["\n", " a", "<", "é中"])).map(
            lambda args: Step("strip", args)
        ),
        st.tuples(st.sampled_from(["a", "</think>", "\n", "é"]), st.integers(0, 3)).map(
            lambda args: Step("piece", args)
        ),
        st.tuples(st.sampled_from(["a", "</think>", "\n"]), st.sampled_from(["", "b", "中"])).map(
            lambda args: Step("replace", args)
        ),
        st.sampled_from(["upper", "lower", "title", "capitalize"]).map(lambda name: Step("method", (name,))),
        st.sampled_from([1, 3]).map(lambda number: Step("in_block", (number,))),
    ),
)
def test_a_step_of_a_column_is_that_of_its_texts(texts: list[str], step: Step) -> None:
    column = pa.array(texts, pa.large_string())
    assert stepped_column(column, step).to_pylist() == [stepped(text, step) for text in texts]


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(TEXT, min_size=1, max_size=6),
    asked=st.one_of(
        st.tuples(
            st.sampled_from(["contains", "starts", "ends", "equals"]), st.sampled_from(["a", "</think>", "", "é", "中"])
        ),
        st.tuples(st.just("longer"), st.integers(0, 9)),
        st.tuples(st.just("pieces"), st.tuples(st.sampled_from(["a", "<think>"]), st.integers(0, 3))),
        st.tuples(st.just("matches"), st.sampled_from([r'["\\\x00-\x1f]', r"[^\x00-\x7f]"])),
        st.tuples(st.just("says"), st.sampled_from([("isdigit",), ("isupper",), ("isspace",)])),
        st.just(("filled", "")),
    ),
)
def test_a_question_of_a_column_is_that_of_its_texts(texts: list[str], asked: tuple[str, Any]) -> None:
    question, value = asked
    column = pa.array(texts, pa.large_string())
    assert answers(question, column, value).tolist() == [answer(question, text, value) for text in texts]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(
    value=st.dictionaries(TEXT, JSON, max_size=3),
    form=st.builds(
        JsonForm,
        ensure_ascii=st.booleans(),
        indent=st.none() | st.integers(0, 4),
        separators=st.none() | st.just((",", ":")),
        sort_keys=st.booleans(),
    ),
)
def test_a_form_of_json_is_that_of_the_standard_library(value: dict[str, Any], form: JsonForm) -> None:
    own = json.dumps(value, ensure_ascii=False)
    assert rewritten(own, form.key) == json.dumps(
        value,
        ensure_ascii=form.ensure_ascii,
        indent=form.indent,
        separators=form.separators,
        sort_keys=form.sort_keys,
    )


# objects


CALLS = """{%- for m in messages -%}
<|im_start|>{{ m.role }}
{{ m.content or '' }}{% for call in m.tool_calls or [] %}<tool_call>{{ call.function.name }}:
LOOP
</tool_call>{% endfor %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}"""
LOOPS = {
    "items": "{% for k, v in call.function.arguments | items %}<{{ k }}>{{ v }}</{{ k }}>{% endfor %}",
    "method": "{% for k, v in call.function.arguments.items() %}"
    "{{ k }}={{ v if v is string else v | tojson }};{% endfor %}",
    "json": '{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}',
    "indented": "{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson(indent=2) }}",
    "first": "{% set n = namespace(first=true) %}{% for k, v in call.function.arguments | dictsort %}"
    "{{ '' if n.first else ',' }}{% set n.first = false %}{{ k }}={{ v | string }}{% endfor %}"
    "{{ ' none' if n.first else '' }}",
    "gathered": "{% set n = namespace(all=[]) %}{% for k, v in call.function.arguments.items() %}"
    "{% set n.all = n.all + [k ~ '=' ~ v | string] %}{% endfor %}({{ n.all | join(', ') }})",
    "printed": "{{ call.function.arguments }}",
    "macro": "{% macro show(a) %}{% for k in a | dictsort %}{{ k[0] }}:{{ k[1] | string }},{% endfor %}{% endmacro %}"
    "{{ show(call.function.arguments) }}",
}
ARGUMENTS = st.dictionaries(st.sampled_from(["place", "when", "a b"]), JSON, max_size=3)


def _calling(arguments: Any, content: str) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "look", "arguments": arguments}}
    return {
        "messages": [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": content, "tool_calls": [call]},
            {"role": "tool", "content": "Seen."},
            {"role": "assistant", "content": "It is so."},
        ]
    }


@lru_cache(maxsize=8)
def _caller(loop: str) -> Formatter:
    return ifmt.compile(CALLS.replace("LOOP", LOOPS[loop]), "embedded", max_rejected=1.0)


@pytest.mark.parametrize("loop", LOOPS)
@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.tuples(ARGUMENTS, TEXT), min_size=6, max_size=10))
def test_any_arguments_of_calls(loop: str, rows: list[tuple[dict[str, Any], str]]) -> None:
    check_same(_caller(loop), [_calling(arguments, content) for arguments, content in rows])


@pytest.mark.parametrize("loop", LOOPS)
def test_what_goes_over_arguments_has_plans(loop: str) -> None:
    rows = [_calling({"place": f"town {number}", "days": [number, None]}, "Well.") for number in range(12)]
    batch = check_same(_caller(loop), rows)
    assert batch.counts["path:plan"] == batch.counts["emitted"] == 12


TOOLS = """{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool.function.name }}: {{ tool.function.description or '-' }}
{% for name, one in tool.function.parameters.properties.items() %}{{ name }} ({{ one.type }}){% endfor %}
{% if tool.function.parameters.required %}needs {{ tool.function.parameters.required | join(', ') }}{% endif %}
{% endfor %}<|im_end|>
{% endif -%}""" + CALLS.replace("LOOP", LOOPS["json"])


def _tool(name: str, description: str | None, properties: dict[str, Any], required: list[str] | None) -> dict[str, Any]:
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required is not None:
        parameters["required"] = required
    function: dict[str, Any] = {"name": name, "parameters": parameters}
    if description is not None:
        function["description"] = description
    return {"type": "function", "function": function}


@settings(max_examples=30, deadline=None)
@given(
    tools=st.lists(
        st.lists(
            st.builds(
                _tool,
                st.sampled_from(["look", "find"]),
                st.none() | TEXT,
                st.dictionaries(st.sampled_from(["x", "y"]), st.fixed_dictionaries({"type": TEXT}), max_size=2),
                st.none() | st.lists(st.sampled_from(["x", "y"]), max_size=2),
            ),
            min_size=1,
            max_size=2,
        ),
        min_size=6,
        max_size=10,
    )
)
def test_any_tools(tools: list[list[dict[str, Any]]]) -> None:
    check_same(_tooled(), [{**_calling({"x": 1}, "Well."), "tools": one} for one in tools])


@lru_cache(maxsize=1)
def _tooled() -> Formatter:
    return ifmt.compile(TOOLS, "embedded", max_rejected=1.0)


def test_members_of_tools_have_plans() -> None:
    tools = [[_tool("look", f"Looks {number}.", {"x": {"type": "string"}}, ["x"])] for number in range(12)]
    batch = check_same(_tooled(), [{**_calling({"x": 1}, "Well."), "tools": one} for one in tools])
    assert batch.counts["path:plan"] == batch.counts["emitted"] == 12


ANSWERED = """{%- for m in messages -%}
<|im_start|>{{ m.role }}
{% if m.role == 'tool' %}{% for call in messages[loop.index0 - 1].tool_calls %}
{%- if call.id == m.tool_call_id %}{{ call.function.name }}: {% endif %}{% endfor %}{% endif %}
{{- m.content or '' }}{% for call in m.tool_calls or [] %}{{ call | tojson }}{% endfor %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}"""


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from(["1", "2", ""]), st.sampled_from(["1", "2"])), min_size=6, max_size=10))
def test_two_texts_of_a_row_compared(rows: list[tuple[str, str]]) -> None:
    check_same(_comparing(), _answered(rows))


def test_two_texts_of_a_row_compared_have_plans() -> None:
    batch = check_same(_comparing(), _answered([("1", "1"), ("1", "2")] * 6))
    assert batch.counts["path:plan"] == batch.counts["emitted"] == 12


def _answered(rows: list[tuple[str, str]]) -> list[dict[str, Any]]:
    given = [_calling({"x": number}, "Well.") for number in range(len(rows))]
    for row, (asked, answered) in zip(given, rows, strict=True):
        row["messages"][1]["tool_calls"][0]["id"] = asked
        row["messages"][2]["tool_call_id"] = answered
    return given


@lru_cache(maxsize=1)
def _comparing() -> Formatter:
    return ifmt.compile(ANSWERED, "embedded", max_rejected=1.0)


def test_threads_that_forget_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """More different objects than are remembered, while other threads look at theirs."""
    for module in (made, unprinted):
        monkeypatch.setattr(module, "REMEMBERED", 3)
    fmt = ifmt.compile(TOOLS, "embedded", max_rejected=1.0)

    def rows(seed: int) -> list[dict[str, Any]]:
        tools = [_tool("look", f"Looks {seed + number}.", {"x": {"type": "string"}}, ["x"]) for number in range(20)]
        return [{**_calling({"x": seed + place}, "Well."), "tools": [tool]} for place, tool in enumerate(tools)]

    wanted = [fmt.encode_rows(rows(seed)).table for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: fmt.encode_rows(rows(seed)).table, [*range(8)] * 4))
    assert all(table.equals(wanted[place % 8]) for place, table in enumerate(found))


# refusals and counts


def test_another_row_is_tried_where_one_is_refused() -> None:
    """The first row has a quote in it, which JSON escapes; the others go by a plan all the same."""
    fmt = _formatter("true", "{'k': c} | tojson", "c")
    rows = _rows([('say "so"', "Yes."), *PLAIN])
    for _ in range(3):
        check_same(fmt, rows)
    again = fmt.encode_rows(rows * 4)
    assert again.counts["path:plan"] >= 4 * len(PLAIN)


def test_what_is_refused_is_counted_by_name() -> None:
    fmt = _formatter("true", "c | title", "c")
    batch = fmt.encode_rows(_rows(PLAIN))
    assert [name for name in batch.counts if name.startswith("plan_refused:")] == ["plan_refused:filter title"]


# tokenizers that put a blank in front


@settings(max_examples=40, deadline=None)
@given(contents=CONTENTS)
@pytest.mark.parametrize("name", ["llama2", "mistral"])
def test_sentencepiece_rows_on_plans(name: str, contents: list[tuple[str, str]]) -> None:
    check_same(_llama(name), _rows(contents))


@lru_cache(maxsize=4)
def _llama(name: str) -> Formatter:
    return ifmt.compile(name, small_tokenizers.build("sentencepiece"), max_rejected=1.0)
