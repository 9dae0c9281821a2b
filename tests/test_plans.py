"""Plans give what the ordinary way gives: the same text, the same ids, the same labels, for any content."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import lru_cache
from itertools import count
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import instruct_fmt as ifmt
from instruct_fmt import Formatter
from instruct_fmt.template.plan.planning import EVERY_ROW_CHECKED, PLANS_OFF, Planning
from instruct_fmt.template.plan.recorder import recording
from instruct_fmt.template.plan.symbolic_marker import SymbolicMarker
from instruct_fmt.template.source.load import names, show
from instruct_fmt.types import Conversation, EncodedBatch, Example

PIECES = st.sampled_from(
    [
        "a",
        " ",
        "\n",
        "\t",
        "\xa0",
        "\u2003",
        "\x1c",
        "é",
        "é",
        "中",
        "😀",
        "<think>",
        "</think>",
        "<tool_response>",
        "{{ x }}",
        "{input}",
        "[INST]",
        "</s>",
        "\ue0f0\ue100\ue100\ue0f1",
        "\x00",
        "Answer",
        "ﬁ",
        "▁",
        "<|im_end|>",
    ]
)
TEXT = st.lists(PIECES, max_size=8).map("".join)


def _ordinary(fmt: Formatter, rows: list[dict[str, Any]]) -> EncodedBatch:
    return fmt.planned(PLANS_OFF).encode_rows(rows)


def _planned(fmt: Formatter, rows: list[dict[str, Any]]) -> EncodedBatch:
    return fmt.planned(Planning()).encode_rows(rows)


def _counted(batch: EncodedBatch) -> dict[str, int]:
    return {
        name: count
        for name, count in batch.counts.items()
        if not name.startswith(("path:", "plans:", "plan_refused:", "plan_missing:"))
    }


def check_same(fmt: Formatter, rows: list[dict[str, Any]]) -> EncodedBatch:
    planned, ordinary = _planned(fmt, rows), _ordinary(fmt, rows)
    assert planned.table.equals(ordinary.table)
    assert planned.rows.tolist() == ordinary.rows.tolist()
    assert planned.rejected == ordinary.rejected
    assert _counted(planned) == _counted(ordinary)
    assert planned.unread == ordinary.unread
    assert "plans:wrong" not in planned.counts
    return planned


def conversations(contents: list[tuple[str, str]]) -> list[dict[str, Any]]:
    rows = []
    for number, (question, answer) in enumerate(contents):
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if number % 3 == 1:
            turns = [{"role": "system", "content": question}, *turns]
        rows.append({"messages": turns * 2 if number % 2 and number % 3 != 1 else turns})
    return rows


CHAT = [name for name in names() if show(name).kind == "chat"]
PLAIN = [(f"Question {number}?", f"Answer {number}.") for number in range(24)]


@pytest.mark.parametrize("name", CHAT)
def test_chat_templates_of_the_library_run_on_plans(name: str) -> None:
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    fmt = ifmt.compile(name, "embedded", template_kwargs=tokens, max_rejected=1)
    batch = check_same(fmt, conversations(PLAIN))
    assert batch.counts["path:plan"] * 3 >= batch.counts["emitted"] * 2 > 0


@pytest.fixture(scope="module")
def formatters() -> dict[str, Formatter]:
    return {
        name: ifmt.compile(None if name == "own" else name, "embedded") for name in ("own", "llama2", "gemma", "phi3")
    }


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(st.tuples(TEXT, TEXT), min_size=12, max_size=24))
def test_any_chat_content(contents: list[tuple[str, str]], formatters: dict[str, Formatter]) -> None:
    for fmt in formatters.values():
        check_same(fmt, conversations(contents))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=8, max_size=16))
def test_any_record_content(contents: list[tuple[str, str, str]]) -> None:
    rows = [dict(zip(("instruction", "input", "output"), values, strict=True)) for values in contents]
    for name in ("alpaca", "user_assistant"):
        for train_on in ("assistant", "all"):
            check_same(_record(name, train_on), rows)


# Behind the answer stands what may be blank, so that a stop is the answer's in some rows and not in others.
BEHIND = (
    "{{ instruction }}\n{{ output }}{{ input }}",
    "{{ instruction }}\n{{ output }}{{ input }}<|im_end|>",
    "{{ instruction }}\n{{ output }} {{ input }}<|im_end|>{{ instruction }}",
    "{{ instruction }}\n{{ output }}<|im_end|>{{ input }}",
)


@pytest.mark.parametrize("train_on", ["assistant", "all"])
@settings(max_examples=25, deadline=None)
@given(contents=st.lists(st.tuples(*[st.sampled_from(["", " ", "\n", "a", "b "])] * 3), min_size=8, max_size=16))
def test_what_stands_behind_an_answer_may_be_blank(contents: list[tuple[str, str, str]], train_on: str) -> None:
    rows = [dict(zip(("instruction", "input", "output"), values, strict=True)) for values in contents]
    for template in BEHIND:
        check_same(_record(template, train_on), rows)


_RECORDS: dict[tuple[str, str], Formatter] = {}


def _record(template: str, train_on: str = "assistant") -> Formatter:
    if (template, train_on) not in _RECORDS:
        fmt = ifmt.compile(template, "embedded", train_on=train_on, max_rejected=1.0)
        _RECORDS[template, train_on] = fmt
    return _RECORDS[template, train_on]


# Leaves system messages out, and prints of a question what is left without its stars.
FORGETFUL = (
    "{% for m in messages %}{% if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{{ m.content.strip('*') if m.role == 'user' else m.content }}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OFTEN_BLANK = st.sampled_from(["", "", " ", "\n", "\xa0", "\u200b", "a", "*", "**"])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(st.tuples(OFTEN_BLANK, OFTEN_BLANK), min_size=8, max_size=24))
def test_messages_that_are_left_out(contents: list[tuple[str, str]]) -> None:
    rows = [
        {
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": question},
                {"role": "assistant", "content": "a"},
            ]
        }
        for system, question in contents
    ]
    check_same(_chat(FORGETFUL), rows)


_CHATS: dict[str, Formatter] = {}


def _chat(template: str) -> Formatter:
    if template not in _CHATS:
        _CHATS[template] = ifmt.compile(template, "embedded")
    return _CHATS[template]


def test_what_a_template_asks_becomes_a_guard() -> None:
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.content.startswith('!') %}{{ 'LOUD ' }}{% elif 'x' in m.content %}{{ 'crossed ' }}"
        "{% elif m.content == 'same' %}{{ 'equal ' }}{% endif %}{{ m.content | trim + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    fmt = ifmt.compile(template, "embedded", prompt_mismatch="as_rendered")
    contents = [(text, answer) for text in ("!a", "bxb", "same", "plain") for answer in ("one", "two", "six ", " ten")]
    batch = check_same(fmt, [{"messages": row["messages"][-2:]} for row in conversations(contents)])
    assert batch.counts["plans:made"] > 1


@pytest.mark.parametrize(
    "expression",
    [
        "m.content | length",
        "m.content[0]",
        "m.content | title",
        "m.content.count('a')",
        "m.content | tojson(indent=m.content)",
        "m.content | wordcount",
        "m.content < 'b'",
        "m.content in 'abcdef'",
        "{m.content: 1} | length",
        "m.content | list",
    ],
)
def test_what_is_not_modelled_is_refused(expression: str) -> None:
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}"
        "{% if m.role == 'user' %}{{ " + expression + " }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    fmt = ifmt.compile(template, "embedded")
    rows = [{"messages": row["messages"][:2]} for row in conversations([("abc", "d"), ("b", "cc")] * 4)]
    batch = check_same(fmt, [row for row in rows if row["messages"][0]["role"] == "user"])
    assert batch.counts["path:plan"] == 0


def test_a_wrong_plan_is_turned_off_loudly(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    fmt = ifmt.compile("chatml", "embedded")
    rows = [{"messages": row["messages"][:2]} for row in conversations(PLAIN[:1] * 6)]
    right = _planned(fmt, rows)
    fmt = fmt.planned(Planning())
    stages, asked = fmt.stages.of(list(rows[0])), count()
    right_way = stages.plain

    def plain(example: Example) -> str:
        return right_way(example) + ("!" if next(asked) else "")  # wrong from the second time on

    monkeypatch.setattr(stages, "plain", plain)
    stages.planner = stages.new_planner()
    with caplog.at_level(logging.WARNING, "instruct_fmt"):
        batch = fmt.encode_batch(pa.Table.from_pylist(rows))
    assert batch.table.equals(right.table)
    assert batch.counts["plans:wrong"] == 1
    assert "differs from Jinja" in caplog.text


# As history, reasoning is left out; `late` changes how a turn reads while it is the last, from the seventh turn on.
LONG = """{% for m in messages %}<|im_start|>{{ m.role }}
{% if loop.last and m.reasoning_content %}{{ m.reasoning_content }}{% endif %}{{ m.content }}
{%- if late and m.role == "assistant" and loop.last and loop.index > 12 %}{{ m.content }}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def _long(thinking: set[int]) -> dict[str, Any]:
    messages = []
    for turn in range(10):
        answer = {"role": "assistant", "content": f"Answer {turn}."}
        thought = {"reasoning_content": "Hm."} if turn in thinking else {}
        messages += [{"role": "user", "content": f"Question {turn}?"}, answer | thought]
    return {"messages": messages}


@pytest.mark.parametrize("late", [False, True])
def test_turns_of_long_conversations_are_proven_by_kind(late: bool) -> None:
    fmt = ifmt.compile(LONG, "embedded", template_kwargs={"late": late}, allow_dropped=["reasoning"])
    batch = check_same(fmt, [_long(set()), _long({2}), _long({3, 4, 9}), _long({0, 1, 6})] * 4)
    assert batch.counts["turns_skipped:history"] == (68 if late else 24)
    assert batch.counts["path:plan"] == (0 if late else 16)


@pytest.mark.parametrize("left_out", [0, -1])
def test_what_is_trained_of_a_long_conversation_is_compared(left_out: int) -> None:
    row = _long(set())
    stages = ifmt.compile(LONG, "embedded").stages.of(list(row))
    example = stages.read(row)
    assert isinstance(example, Conversation)
    with recording() as recorder:
        plan = SymbolicMarker(stages.stages.marker, stages.tokens, frozenset()).plan(example, recorder)
    assert plan is not None
    assert stages.planner.agrees(plan, example)
    trained = list(plan.trained)
    del trained[left_out]
    assert not stages.planner.agrees(replace(plan, trained=tuple(trained)), example)


def test_a_turn_that_is_stripped_while_it_is_the_last() -> None:
    """Whether it reads otherwise as history depends on the row, and is no question that a guard asks."""
    text = LONG.replace("{{ m.content }}\n", "{{ m.content.lstrip() if loop.last else m.content }}\n", 1)
    assert text != LONG
    fmt = ifmt.compile(text, "embedded")
    rows = [_long(set()) for _ in range(8)]
    for row in rows[::3]:
        row["messages"][5]["content"] = " Answer 2."
    batch = check_same(fmt, rows)
    assert batch.counts["turns_skipped:history"] == 3
    short = [{"messages": row["messages"][:8]} for row in rows]
    assert check_same(fmt, short).counts["turns_skipped:history"] == 3


def _tool_row(number: int, question: str, argument: str, result: str) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "look_up", "arguments": {"word": argument, "times": number}}}
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"word": {"type": "string"}}}}
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": "", "tool_calls": [call] * (1 + number % 2)},
        *[{"role": "tool", "name": "look_up", "content": result}] * (1 + number % 2),
        {"role": "assistant", "content": f"It is {number}."},
    ]
    return {"messages": messages, "tools": [tool] if number % 3 else None}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=24, max_size=32))
def test_any_tool_row(contents: list[tuple[str, str, str]], formatters: dict[str, Formatter]) -> None:
    rows = [_tool_row(number, *texts) for number, texts in enumerate(contents)]
    check_same(formatters["own"], rows)


def test_tool_rows_run_on_plans(formatters: dict[str, Formatter]) -> None:
    rows = [_tool_row(number, f"What is {number}?", f"word {number}", f"found {number}") for number in range(24)]
    batch = check_same(ifmt.compile("qwen2_5", "embedded"), rows)
    assert batch.counts["path:plan"] == batch.counts["emitted"] == 24


@pytest.mark.parametrize("overlength", ["drop", "truncate", "truncate_prompt"])
@pytest.mark.parametrize("template", ["chatml", "alpaca", "mistral"])
@settings(max_examples=40, deadline=None)
@given(
    contents=st.lists(st.tuples(TEXT, TEXT), min_size=6, max_size=10),
    max_length=st.integers(1, 60),
)
def test_long_rows_are_cut_where_the_ordinary_way_cuts_them(
    contents: list[tuple[str, str]], max_length: int, template: str, overlength: str
) -> None:
    options: dict[str, Any] = {"max_length": max_length, "overlength": overlength, "max_rejected": 1.0}
    fmt = _cutting(template, json.dumps(options))
    rows = [{"instruction": one, "input": "", "output": other} for one, other in contents]
    check_same(fmt, rows)
    table = pa.Table.from_pylist(rows)
    planned = fmt.planned(EVERY_ROW_CHECKED).encode_batch(table)
    ordinary = fmt.planned(PLANS_OFF).encode_batch(table)
    assert planned.table.equals(ordinary.table)
    assert (planned.rejected, _counted(planned)) == (ordinary.rejected, _counted(ordinary))


@lru_cache(maxsize=64)
def _cutting(template: str, options: str) -> Formatter:
    return ifmt.compile(template, "embedded", **json.loads(options))


def test_a_cut_falls_between_characters_and_runs_on_plans() -> None:
    turns = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "👩👧🏽é中" * 20}]
    rows = [{"messages": turns}] * 8
    for overlength in ("truncate", "truncate_prompt"):
        for size in range(20, 40):
            fmt = ifmt.compile("chatml", "embedded", max_length=size, overlength=overlength, max_rejected=1.0)
            batch = check_same(fmt, rows)
            if overlength == "truncate" and batch.table.num_rows:
                assert batch.counts["path:plan"] == batch.table.num_rows
                text = fmt.tokenizer.decode(batch.table["input_ids"][0].as_py())
                assert "\ufffd" not in text


THINKING = """{%- for m in messages -%}
<|im_start|>{{ m.role }}
{% if m.role == 'assistant' and m.reasoning_content and loop.last %}<think>
{{ m.reasoning_content }}
</think>

{% endif %}{{ m.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}"""


def _turns(contents: list[tuple[str, str]], number: int) -> dict[str, Any]:
    """A conversation, every second one with reasoning, every third with a system message, every fifth ends open."""
    turns: list[dict[str, str]] = [{"role": "system", "content": contents[0][1]}] if number % 3 == 0 else []
    for question, answer in contents:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if number % 2:
            turns[-1]["reasoning_content"] = question
    return {"messages": [*turns, {"role": "user", "content": "Thanks."}] if number % 5 == 4 else turns}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_length": 60, "overlength": "drop"},
        {"max_length": 60, "overlength": "truncate"},
        {"max_length": 60, "overlength": "truncate_prompt"},
        {"train_on": "last"},
        {"train_on": ["assistant", "user"]},
        {"train_on": "all"},
    ],
    ids=str,
)
@settings(max_examples=15, deadline=None)
@given(contents=st.lists(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3), min_size=8, max_size=12))
def test_rows_of_each_turn(contents: list[list[tuple[str, str]]], options: dict[str, Any]) -> None:
    rows = [_turns(turns, number) for number, turns in enumerate(contents)]
    for template in (THINKING, "chatml"):
        fmt = _cutting(template, json.dumps({"history": "expand", "max_rejected": 1.0, **options}))
        check_same(fmt, rows)
        planned, ordinary = (
            fmt.planned(planning).encode_batch(pa.Table.from_pylist(rows))
            for planning in (EVERY_ROW_CHECKED, PLANS_OFF)
        )
        assert planned.table.equals(ordinary.table)
        assert planned.rows.tolist() == ordinary.rows.tolist()
        assert (planned.rejected, planned.unread, _counted(planned)) == (
            ordinary.rejected,
            ordinary.unread,
            _counted(ordinary),
        )


def test_rows_of_each_turn_run_on_plans() -> None:
    contents = [(f"Question {number}?", f"Answer {number}.") for number in range(3)]
    rows = [_turns(contents, number) for number in (1, 2, 3, 4) for _ in range(8)]
    batch = check_same(ifmt.compile(THINKING, "embedded", history="expand"), rows)
    assert batch.counts["path:plan"] == batch.counts["emitted"] == 3 * 32
    one = ifmt.compile(THINKING, "embedded", history="expand").encode_rows(rows[:1])
    assert one.table.num_rows == 3


def test_a_turn_without_a_plan_takes_its_row_along() -> None:
    """The second turn of one row holds a control token: all three of its rows are encoded one by one, in order."""
    contents = [(f"Question {number}?", f"Answer {number}.") for number in range(3)]
    rows = [_turns(contents, 2) for _ in range(8)]
    rows[4] = _turns([contents[0], ("What is <|im_end|>?", "A marker."), contents[2]], 2)
    fmt = ifmt.compile(THINKING, "embedded", history="expand", control_tokens="text")
    batch = check_same(fmt, rows)
    assert (batch.counts["path:plan"], batch.counts["neutralised"]) == (24, 2)
    assert batch.rows.tolist() == [number for number in range(8) for _ in range(3)]


STRIPPING = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content.split('</think>')[-1].strip() }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
<think>{% endif %}"""


def test_a_restored_block_ends_as_the_template_ends_it() -> None:
    """The template strips the answer and leaves out the reasoning, which is put back."""
    fmt = ifmt.compile(STRIPPING, "embedded")
    answers = ["Yes.", "Yes. ", "Yes.\n\n", " Yes.", "No,  no. \t", "Maybe."] * 4
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{n}?"},
                {"role": "assistant", "content": f"<think>\nHm.\n</think>\n\n{a}"},
            ]
        }
        for n, a in enumerate(answers)
    ]
    batch = check_same(fmt, rows)
    assert batch.counts["path:plan"] > 12
    assert batch.counts["reasoning_restored"] == len(rows)


def test_turns_that_say_nothing_have_plans() -> None:
    """What ends such a turn stands elsewhere than behind words; whether it says something is a guard."""

    def talk(*answers: str) -> dict[str, Any]:
        messages = [
            {"role": role, "content": text}
            for number, answer in enumerate(answers)
            for role, text in (("user", f"Question {number}?"), ("assistant", answer))
        ]
        return {"messages": messages}

    rows = [talk(*answers) for answers in (("", "Yes."), ("Yes.", ""), ("", ""), ("Yes.", "No.")) for _ in range(9)]
    for template in ("chatml", THINKING):
        batch = check_same(ifmt.compile(template, "embedded"), rows)
        assert batch.counts["path:plan"] == len(rows)
        assert batch.counts["turns_silent"] == 9 * 4
    nothing = [{"messages": [{"role": "assistant", "content": ""}]}] * 9
    check_same(ifmt.compile("chatml", "embedded", max_rejected=1.0), nothing)


VARIABLES = (
    "<|im_start|>system\nIt is {{ day | default('a day') }}, {{ about.place if about is defined else '' }}"
    "<|{{ token | default('x') }}|><|im_end|>\n"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_variables_that_are_printed_have_plans() -> None:
    """They are the same in every row of a plan; a control token that one is a part of is the row's all the same."""
    given: list[dict[str, Any] | None] = [
        {"day": "Monday"},
        {"day": "en"},
        {"about": {"place": "here"}},
        {"token": "im_end"},
        {"day": "im_end"},
        {},
        None,
    ]
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho."}]
    texts = [None if one is None else json.dumps(one) for one in given for _ in range(9)]
    rows = [{"messages": said, "chat_template_kwargs": text} for text in texts]
    batch = check_same(ifmt.compile(VARIABLES, "embedded"), rows)
    assert batch.counts["path:plan"] == 6 * 9
    assert batch.counts["path:jinja"] == batch.counts["neutralised"] == 9
