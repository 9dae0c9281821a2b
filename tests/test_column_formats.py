"""Each input format, as columns: what the rows give one by one, whatever is in them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pytest
import small_tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from test_columns import TEXT, TOOL, check_columns

import instruct_fmt as ifmt
from instruct_fmt import Formatter

MAYBE = st.one_of(TEXT, TEXT, st.none())
TOOLS = st.sampled_from([None, "", json.dumps([TOOL]), "no"])
SYSTEM = st.sampled_from([None, None, "", " ", "Be brief.", "Be kind."])
FLAG = st.sampled_from([None, None, True, False])
WEIGHT = st.sampled_from([None, None, 0.0, 1.0, 0.5])
ROLE = st.sampled_from(["user", "assistant", "assistant", "system"])
S = pa.string()


@lru_cache(maxsize=64)
def _formatter(template: str | None, options: str) -> Formatter:
    return ifmt.compile(template, "embedded", max_rejected=1.0, **json.loads(options))


def _check(rows: list[dict[str, Any]], schema: pa.Schema, template: str | None, **options: Any) -> None:
    check_columns(_formatter(template, json.dumps(options)), pa.Table.from_pylist(rows, schema=schema))


def _rows(**columns: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=8)


PAIR = pa.schema({"prompt": S, "completion": S, "system": S, "tools": S})


@settings(max_examples=40, deadline=None)
@given(rows=_rows(prompt=MAYBE, completion=MAYBE, system=SYSTEM, tools=TOOLS))
@pytest.mark.parametrize(
    ("template", "options"),
    [
        ("chatml", {}),
        ("qwen2_5", {"system": "Be good.", "format": "instruction"}),
        (None, {"format": "instruction"}),
        (None, {"format": "prompt_completion", "allow_dropped": ["system"]}),
        (None, {"format": "prompt_completion", "control_tokens": "allow", "allow_dropped": ["system"]}),
        (None, {"format": "prompt_completion", "max_length": 12, "allow_dropped": ["system", "tools"]}),
        (None, {"format": "prompt_completion", "max_length": 12, "overlength": "truncate_prompt"}),
    ],
    ids=str,
)
def test_prompts_and_completions(rows: list[dict[str, Any]], template: str | None, options: dict[str, Any]) -> None:
    if "allow_dropped" not in options and options.get("format") == "prompt_completion":
        rows = [{**row, "system": None} for row in rows]
    _check(rows, PAIR, template, **options)


@settings(max_examples=40, deadline=None)
@given(rows=_rows(text=st.one_of(MAYBE, TEXT.map(lambda text: f"{text}<|im_end|>\n"))))
@pytest.mark.parametrize("control", ["allow", "error", "text"])
def test_texts(rows: list[dict[str, Any]], control: str) -> None:
    for template in (None, "alpaca"):
        _check(rows, pa.schema({"text": S}), template, format="text", control_tokens=control)


@settings(max_examples=40, deadline=None)
@given(
    rows=_rows(
        instruction=MAYBE,
        input=MAYBE,
        output=MAYBE,
        system=SYSTEM,
        history=st.sampled_from([None, None, [], [["a", "b"]]]),
    )
)
def test_records_for_chat_templates(rows: list[dict[str, Any]]) -> None:
    schema = pa.schema({"instruction": S, "input": S, "output": S, "system": S, "history": pa.list_(pa.list_(S))})
    _check(rows, schema, "chatml")
    _check(rows, schema, "qwen2_5", system="Be good.")
    _check(rows, schema, "chatml", field_map={"instruction": "input", "input": "instruction"})


MESSAGES = st.lists(st.fixed_dictionaries({"role": ROLE, "content": MAYBE}), max_size=3)


@settings(max_examples=40, deadline=None)
@given(rows=_rows(prompt=st.one_of(MESSAGES, st.none()), completion=MESSAGES, system=SYSTEM))
def test_prompts_of_messages(rows: list[dict[str, Any]]) -> None:
    said = pa.list_(pa.struct({"role": S, "content": S}))
    schema = pa.schema({"prompt": said, "completion": said, "system": S})
    _check(rows, schema, "chatml")
    _check(rows, schema, None, history="expand", system="Be good.")


PART = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": MAYBE}),
    st.fixed_dictionaries({"type": st.sampled_from(["text", "input_text", "image", "reasoning", None]), "text": TEXT}),
)


@settings(max_examples=40, deadline=None)
@given(
    rows=_rows(
        messages=st.lists(
            st.fixed_dictionaries({"role": ROLE, "content": st.one_of(st.lists(PART, max_size=3), st.none())}),
            min_size=1,
            max_size=3,
        )
    )
)
def test_parts(rows: list[dict[str, Any]]) -> None:
    part = pa.struct({"type": S, "text": S})
    said = pa.list_(pa.struct({"role": S, "content": pa.list_(part)}))
    _check(rows, pa.schema({"messages": said}), "chatml")


CALL = st.sampled_from([None, {"name": "find", "arguments": '{"a": 1}'}, {"name": "find", "arguments": "x"}])


@settings(max_examples=60, deadline=None)
@given(
    rows=_rows(
        said=st.lists(
            st.fixed_dictionaries(
                {
                    "who": st.sampled_from(["user", "assistant", "bot", "system"]),
                    "words": MAYBE,
                    "train": FLAG,
                    "weight": WEIGHT,
                    "thinking": MAYBE,
                    "why": st.sampled_from([None, None, "Because."]),
                    "function_call": CALL,
                }
            ),
            min_size=1,
            max_size=3,
        ),
        system=SYSTEM,
    )
)
def test_fields_under_other_names(rows: list[dict[str, Any]]) -> None:
    call = pa.struct({"name": S, "arguments": S})
    message = {"who": S, "words": S, "train": pa.bool_(), "weight": pa.float64(), "thinking": S, "why": S}
    schema = pa.schema({"said": pa.list_(pa.struct({**message, "function_call": call})), "system": S})
    names = {"messages": "said", "role": "who", "content": "words"}
    _check(rows, schema, "qwen2_5", field_map=names, roles={"bot": "assistant"})
    _check(rows, schema, "chatml", field_map={**names, "reasoning_content": "why"}, allow_dropped=["reasoning_content"])


ASIDE = {
    "id": pa.int64(),
    "when": pa.float64(),
    "hidden": pa.bool_(),
    "tags": pa.list_(S),
    "about": pa.struct({"by": S, "age": pa.int64()}),
    "language": S,
}
LOOKING = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{{ LOOK }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LOOKS = [
    "",
    "m.id",
    "m.about | tojson",
    "m.about.by",
    "m.tags | join(', ')",
    "'x' if m.id is number else 'y'",
    "'x' if m.hidden else 'y'",
    "'x' if m.hidden is true else 'y'",
    "'x' if m.when > 1 else 'y'",
    "'x' if m.tags is iterable and m.tags is not string else 'y'",
    "'x' if m.id is defined and m.id is not none else 'y'",
    "(m.id or 0) + 1",
    "range(m.id or 0) | list | length",
    "m | tojson",
    "m | length",
    "m.values() | list | last",
    "'%s' % m.when",
    "mode",
    "'x' if mode is defined and mode else 'y'",
    "deep.a if deep else ''",
]
VARIABLES = pa.struct({"mode": S, "level": pa.int64(), "deep": pa.struct({"a": S})})


@pytest.mark.parametrize("look", LOOKS, ids=str)
@settings(max_examples=8, deadline=None)
@given(
    rows=_rows(
        messages=st.tuples(
            *(
                st.fixed_dictionaries(
                    {
                        "role": st.just(role),
                        "content": st.sampled_from(["Hello.", "Yes."]),
                        "id": st.sampled_from([None, 0, 1, 3]),
                        "when": st.sampled_from([None, 0.5, 2.0]),
                        "hidden": st.sampled_from([None, True, False]),
                        "tags": st.sampled_from([None, [], ["a"], ["a", " "]]),
                        "about": st.sampled_from([None, {"by": "me", "age": None}, {"by": None, "age": 3}]),
                        "language": st.sampled_from([None, "", "en"]),
                    }
                )
                for role in ("user", "assistant")
            )
        ).map(list),
        chat_template_kwargs=st.sampled_from(
            [
                None,
                {"mode": "fast", "level": None, "deep": None},
                {"mode": "<|im_end|>", "level": 1, "deep": None},
                {"mode": None, "level": 1, "deep": {"a": "b"}},
            ]
        ),
    ).map(lambda rows: rows * 3)
)
def test_what_is_no_text_beside_messages(look: str, rows: list[dict[str, Any]]) -> None:
    schema = {"messages": pa.list_(pa.struct({"role": S, "content": S, **ASIDE})), "chat_template_kwargs": VARIABLES}
    _check(rows, pa.schema(schema), LOOKING.replace("LOOK", look or "''"), stop="<|im_end|>")


def _plain(number: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"Say {number}."}, {"role": "assistant", "content": f"It is {number}."}]


_PARTS = [{"role": message["role"], "content": [{"type": "text", "text": message["content"]}]} for message in _plain(1)]


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({"prompt": "Say it.", "completion": "It."}, {"format": "instruction"}),
        ({"prompt": "Say it.", "completion": "It."}, {"format": "prompt_completion"}),
        ({"text": "Some text."}, {"format": "text"}),
        ({"instruction": "Say it.", "input": "Now.", "output": "It."}, {}),
        ({"prompt": _plain(1)[:1], "completion": _plain(1)[1:]}, {}),
        ({"messages": _plain(1)}, {"system": "Be good."}),
        ({"messages": _plain(1), "system": "Be brief."}, {}),
        ({"messages": _PARTS}, {}),
        ({"messages": [{**message, "train": True} for message in _plain(1)]}, {}),
        ({"messages": [{**message, "weight": 1} for message in _plain(1)[1:]]}, {}),
        ({"said": _plain(1)}, {"field_map": {"messages": "said"}}),
        (
            {"messages": [{"who": m["role"], "is": m["content"]} for m in _plain(1)]},
            {"field_map": {"role": "who", "content": "is"}},
        ),
        ({"messages": _plain(1)}, {"history": "expand"}),
        ({"messages": [{**message, "id": 1, "hidden": False, "tags": ["a"]} for message in _plain(1)]}, {}),
        ({"messages": _plain(1), "chat_template_kwargs": {"level": 1, "mode": "fast"}}, {}),
    ],
    ids=str,
)
def test_every_format_runs_on_plans(row: dict[str, Any], options: dict[str, Any]) -> None:
    fmt = ifmt.compile(None, "embedded", **options)
    batch = check_columns(fmt, pa.Table.from_pylist([row] * 12))
    assert batch.counts["path:plan"] == batch.counts["emitted"] == 12


def test_ready_text_needs_no_template() -> None:
    fmt = ifmt.compile(None, small_tokenizers.build("sentencepiece"), format="prompt_completion")
    rows = [{"prompt": f"Question {number}?", "completion": f" Answer {number}."} for number in range(12)]
    batch = check_columns(fmt, pa.Table.from_pylist(rows))
    assert batch.counts["path:plan"] == 12


def test_named_fields_are_counted_once() -> None:
    rows = [{"messages": [{"who": "user", "content": "Hi."}, {"who": "assistant", "content": "Yes."}]}] * 12
    fmt = ifmt.compile("chatml", "embedded", field_map={"role": "who"})
    table, by_rows = fmt.encode_batch(pa.Table.from_pylist(rows)), fmt.encode_rows(rows)
    assert table.counts["path:plan"] == 12
    assert {name: count for name, count in table.counts.items() if name.startswith("named:")} == {
        name: count for name, count in by_rows.counts.items() if name.startswith("named:")
    }
