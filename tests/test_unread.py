"""What nothing read is listed, whichever road a row takes; columns that say what a row means are not ignored."""

from __future__ import annotations

from typing import Any

import datasets
import pyarrow as pa
import pytest

import instruct_fmt as ifmt
from instruct_fmt.adapt.columns.arrow import filled_nulls
from instruct_fmt.adapt.roles import Roles, added_roles, plain_name
from instruct_fmt.look.report import unread_lines
from instruct_fmt.types import Unread

Row = dict[str, Any]
USER = {"role": "user", "content": "Hi"}
SAYS_MORE = {"type": "text", "text": "7", "x": "lost"}


def chat(number: int = 0, **fields: Any) -> Row:
    return {"messages": [dict(USER), {"role": "assistant", "content": f"Answer {number}.", **fields}]}


def unread(fmt: ifmt.Formatter, rows: list[Row]) -> dict[str, Unread]:
    """What nothing read: the same by row, by plans of rows, and by plans of a table."""
    table = fmt.encode_batch(pa.Table.from_pylist(rows))
    by_rows = fmt.encode_rows(rows)
    found: dict[str, Unread] = {}
    for number, row in enumerate(rows):
        fresh = ifmt.compile(fmt.settings.template, "embedded")
        for path, one in fresh.encode_rows([row], number).unread.items():
            found[path] = found[path] + one if path in found else one
    assert dict(table.unread) == dict(by_rows.unread) == found
    return found


def test_fields_of_messages_and_columns() -> None:
    fmt = ifmt.compile("chatml", "embedded")
    rows = [{**chat(i, thought=f"Hm {i}" if i % 2 else ""), "source": "web" if i > 2 else None} for i in range(9)]
    assert unread(fmt, rows) == {
        "$.messages[assistant].thought": Unread(4, 1, "'Hm 1'"),
        "$.source": Unread(6, 3, "'web'"),
    }


def test_what_is_no_text_counts_as_read_where_the_template_names_it() -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if m.rank %}!{% endif %}<|im_end|>\n"
        "{% endfor %}"
    )
    template += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    found = unread(ifmt.compile(template, "embedded"), [chat(i, rank=0, score=i) for i in range(5)])
    assert found == {"$.messages[assistant].score": Unread(5, 0, "0")}


def test_tools_and_names_of_results() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {}}}
    rows: list[Row] = [
        {
            "messages": [
                USER,
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": "7", "name": "f", "tool_call_id": "c1"},
                {"role": "assistant", "content": f"It is {i}."},
            ],
            "tools": tools,
        }
        for i in range(5)
    ]
    fmt = ifmt.compile("qwen2_5", "embedded")
    # The name and the id of a result only say which call it answers.
    assert set(unread(fmt, rows)) == {"$.messages[assistant].tool_calls[].id"}
    silent = ifmt.compile("chatml", "embedded", allow_dropped=["tool_calls"])
    batch = silent.encode_batch(pa.Table.from_pylist(rows))
    assert {rejection.reason for rejection in batch.rejected} == {
        "field-dropped"
    }  # a turn that is nothing but its stop
    for row in rows:
        row["messages"][1]["content"] = "I look."
    batch = silent.encode_batch(pa.Table.from_pylist(rows))
    assert not batch.rejected
    assert "$.tools" in batch.unread


def test_paths_are_those_of_the_dataset() -> None:
    fmt = ifmt.compile("chatml", "embedded", field_map={"messages": "dialog", "role": "who", "content": "what"})
    row = {"dialog": [{"who": "user", "what": "Hi", "name": "Ann"}, {"who": "bot", "what": "Yes.", "mood": {"a": "b"}}]}
    assert set(fmt.encode_rows([row]).unread) == {"$.dialog[user].name", "$.dialog[assistant].mood.a"}


def test_messages_behind_the_last_turn_and_reasoning_of_history() -> None:
    row = {
        "messages": [
            USER,
            {"role": "assistant", "content": "One.", "reasoning_content": "Early."},
            USER,
            {"role": "assistant", "content": "Two.", "reasoning_content": "Late."},
        ]
    }
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    found = ifmt.compile(template, "embedded").encode_rows([row])
    assert found.unread == {"$.messages[assistant].reasoning_content": Unread(1, 0, "'Early.'")}
    # As a row of its own, each turn has its reasoning.
    assert not ifmt.compile(template, "embedded", history="expand").encode_rows([row]).unread


def test_variables_that_the_template_does_not_read() -> None:
    row = {**chat(), "chat_template_kwargs": {"enable_thinkng": False}}
    found = ifmt.compile("chatml", "embedded").encode_rows([row])
    assert set(found.unread) == {"$.chat_template_kwargs.enable_thinkng"}
    with pytest.raises(ifmt.UsageError, match=r"'bos_tokn' .did you mean|'bos_tokn', which"):
        ifmt.compile("chatml", "embedded", template_kwargs={"bos_tokn": "x"})
    with pytest.raises(ifmt.UsageError, match="which the formatter sets itself"):
        ifmt.compile("chatml", "embedded", template_kwargs={"messages": []})


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("label", False, "not-preferred"),
        ("label", "False", "not-preferred"),
        ("weight", 0.5, "bad-field"),
        ("weight", 0, "bad-field"),
        ("history", [["a", "b"]], "field-dropped"),
    ],
)
@pytest.mark.parametrize("template", ["chatml", "alpaca"])
def test_columns_that_change_a_row_are_refused(column: str, value: Any, reason: str, template: str) -> None:
    plain = chat() if template == "chatml" else {"instruction": "Hi", "input": "", "output": "Yes."}
    rows = [{**plain, column: value}, *({**plain, column: None} for _ in range(5))]
    fmt = ifmt.compile(template, "embedded", max_rejected=1)
    batch = fmt.encode_batch(pa.Table.from_pylist(rows))
    assert [(found.row, found.reason, found.path) for found in batch.rejected] == [(0, reason, f"$.{column}")]
    assert f"allow_dropped=['{column}']" in batch.rejected[0].fix
    lax = ifmt.compile(template, "embedded", allow_dropped=[column])
    found = lax.encode_batch(pa.Table.from_pylist(rows))
    assert not found.rejected
    assert f"$.{column}" in found.unread


@pytest.mark.parametrize("value", [True, "true", None])
def test_good_examples_are_read(value: Any) -> None:
    batch = ifmt.compile("chatml", "embedded").encode_batch(pa.Table.from_pylist([{**chat(), "label": value}]))
    assert not batch.rejected
    assert not batch.unread


def test_columns_of_meaning_beside_records() -> None:
    fmt = ifmt.compile("alpaca", "embedded")
    row = {"instruction": "Hi", "input": "", "output": "Yes."}
    for more in ({"tools": [{"name": "f"}]}, {"images": ["a.png"]}, {"documents": [{"text": "x"}]}):
        with pytest.raises(ifmt.RowError) as caught:
            fmt.encode({**row, **more})
        assert caught.value.path == f"$.{next(iter(more))}"
    assert fmt.encode({**row, "tools": [], "images": None})


def test_what_prepare_says(tmp_path: Any) -> None:
    rows = [chat(i, thought="Hm.") for i in range(20)]
    fmt = ifmt.compile("chatml", "embedded")
    data = datasets.Dataset.from_list(rows)
    found = fmt.prepare(data, output_dir=tmp_path / "a", progress=False)
    again = fmt.prepare(data, output_dir=tmp_path / "a", progress=False)
    assert again.report.cache == "cache hit"
    for report in (found.report, again.report):
        assert report.unread == {"$.messages[assistant].thought": Unread(20, 0, "'Hm.'")}
        assert "$.messages[assistant].thought (20 rows): such as 'Hm.' in row 0" in str(report)
        assert report.to_dict()["unread"]["$.messages[assistant].thought"]["rows"] == 20
    with pytest.raises(ifmt.UsageError, match="found 'reason', which no message of dataset has"):
        ifmt.compile("chatml", "embedded", field_map={"reasoning_content": "reason"}).prepare(data, progress=False)
    with pytest.raises(ifmt.UsageError, match=r"fix: field_map=\{'reasoning_content': 'thought'\}"):
        ifmt.compile("chatml", "embedded", field_map={"reasoning_content": "thougth"}).prepare(data, progress=False)


def test_the_list_is_sorted() -> None:
    assert unread_lines({}) == []
    lines = unread_lines({"$.b": Unread(1, 0, "1"), "$.a": Unread(1, 0, "1"), "$.c": Unread(3, 0, "1")})
    assert [line.split()[0] for line in lines[1:]] == ["$.c", "$.a", "$.b"]


def test_the_preview_names_what_nothing_read() -> None:
    fmt = ifmt.compile("chatml", "embedded")
    shown = fmt.preview({**chat(thought="<b>"), "source": "web"})
    for text in (str(shown), shown.plain(), shown.rich().plain):
        assert "read by nothing: $.messages[assistant].thought: '<b>'" in text
    assert "&lt;b&gt;" in shown._repr_html_()


def test_nulls_that_arrow_fills_in_are_told_once() -> None:
    def row(**arguments: Any) -> Row:
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        return {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [call]}]}

    template = "qwen2_5"
    fmt = ifmt.compile(template, "embedded")
    rows = [row(a=1, unit="m"), *(row(a=i) for i in range(5))]
    structs = pa.Table.from_pylist(rows)
    assert filled_nulls(structs) == {"messages[].tool_calls[].function.arguments.unit": 5}
    batch = fmt.encode_batch(structs)
    assert batch.counts["null:messages[].tool_calls[].function.arguments.unit"] == 5
    assert [fmt.encode(one)["input_ids"] for one in rows] == batch.table.column("input_ids").to_pylist()
    # A null that the source wrote is text like any other.
    written = fmt.encode(row(a=1, unit=None))["input_ids"]
    assert '"unit": null' in fmt.tokenizer.decode(written)
    assert written != fmt.encode(row(a=1))["input_ids"]


def test_the_table_of_roles() -> None:
    roles = Roles({"critic": "user", "stage": "stage"}, frozenset({"ipython", "environment", "model", "assistant"}))
    read = {name: roles.read(name) for name in ("Human", "GPT", "model", "ipython", "observation", "function-call")}
    assert read == {
        "Human": "user",
        "GPT": "assistant",
        "model": "assistant",  # the template has a branch for it, but one for the assistant, too
        "ipython": "ipython",
        "observation": "tool",
        "function-call": "(call)",
    }
    assert (roles.read("critic"), roles.read("stage"), roles.read("narrator")) == ("user", "stage", None)
    assert (roles.nearest("asistant"), roles.nearest("chatgptt"), roles.nearest("xyz")) == (
        "assistant",
        "chatgpt",
        None,
    )
    assert plain_name(" Tool Response ") == "tool_response"
    assert added_roles({"helper": "gpt", "stage": "stage"}) == {"helper": "assistant", "stage": "stage"}
    with pytest.raises(ifmt.UsageError, match=r"fix: roles=\{'critic': 'user'\}"):
        ifmt.compile("chatml", "embedded", roles={"critic": "usr"})


def test_a_role_that_the_template_has_a_branch_for_passes_as_it_is() -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'environment' %}<env>{{ m.content }}</env>"
        "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    row = {"messages": [USER, {"role": "environment", "content": "7"}, {"role": "assistant", "content": "Yes."}]}
    assert "<env>7</env>" in ifmt.compile(template, "embedded").render(row).text
    assert "<|im_start|>tool\n7" in ifmt.compile("chatml", "embedded").render(row).text


def test_roles_of_the_users_own() -> None:
    row = {"messages": [{"role": "critic", "content": "Hi"}, {"role": "helper", "content": "Yes."}]}
    fmt = ifmt.compile("chatml", "embedded", roles={"critic": "user", "helper": "assistant"})
    plain = {"messages": [USER, {"role": "assistant", "content": "Yes."}]}
    assert fmt.encode(row) == fmt.encode(plain)
    with pytest.raises(ifmt.RowError) as caught:
        ifmt.compile("chatml", "embedded").encode(row)
    assert (caught.value.reason, caught.value.path) == ("unknown-role", "$.messages[0].role")


def test_names_that_may_be_dropped_are_known() -> None:
    with pytest.raises(ifmt.UsageError, match=r"found 'sistem' .did you mean 'system'"):
        ifmt.compile("chatml", "embedded", allow_dropped=["sistem"])
    ifmt.compile("chatml", "embedded", allow_dropped=["Human", "citations"])


def test_trained_roles_have_the_same_names() -> None:
    row = {"messages": [dict(USER), {"role": "gpt", "content": "Yes."}]}
    plain = ifmt.compile("chatml", "embedded").encode(row)
    assert ifmt.compile("chatml", "embedded", train_on=["gpt"]).encode(row) == plain
    assert ifmt.compile("chatml", "embedded", train_on=["GPT", "function_call"]).encode(row) == plain
    assert ifmt.compile("chatml", "embedded", train_on=["human"]).encode(row) != plain
    with pytest.raises(ifmt.UsageError, match=r"train_on: found 'asistant'.*fix: train_on=\['assistant'\]"):
        ifmt.compile("chatml", "embedded", train_on=["asistant"])


def test_a_system_prompt_without_a_place_is_refused_before_any_row() -> None:
    with pytest.raises(ifmt.UsageError, match="a system prompt would vanish"):
        ifmt.compile("alpaca", "embedded", system="Be brief.")
    ifmt.compile("alpaca", "embedded", system="Be brief.", allow_dropped=["system"])
    ifmt.compile("orca", "embedded", system="Be brief.")


def test_preferences_are_read_as_the_error_says() -> None:
    row = {
        "conversations": [{"from": "human", "value": "Hi"}],
        "chosen": {"from": "gpt", "value": "Yes."},
        "rejected": {"from": "gpt", "value": "No."},
    }
    with pytest.raises(ifmt.UsageError, match=r"field_map=\{'prompt': 'conversations', 'completion': 'chosen'\}"):
        ifmt.compile("chatml", "embedded").encode(row)
    fmt = ifmt.compile("chatml", "embedded", field_map={"prompt": "conversations", "completion": "chosen"})
    assert fmt.encode(row) == ifmt.compile("chatml", "embedded").encode(
        {"messages": [dict(USER), {"role": "assistant", "content": "Yes."}]}
    )
    assert set(fmt.encode_rows([row]).unread) == {"$.rejected"}


@pytest.mark.parametrize(("value", "fate"), [(0, "not-preferred"), ("0", "not-preferred"), (1, ""), ("bad", "listed")])
def test_labels_of_other_kinds(value: Any, fate: str) -> None:
    fmt, rows = ifmt.compile("chatml", "embedded"), [{**chat(), "label": value}]
    for batch in (fmt.encode_batch(pa.Table.from_pylist(rows)), fmt.encode_rows(rows)):
        assert [found.reason for found in batch.rejected] == ([fate] if fate == "not-preferred" else [])
        assert ("$.label" in batch.unread) == (fate == "listed")


def test_a_slip_in_the_name_of_a_flag() -> None:
    row = chat(training=False)
    with pytest.raises(ifmt.UsageError, match="'trainin'"):
        ifmt.compile("chatml", "embedded", field_map={"train": "trainin"}).encode(row)
    with pytest.raises(ifmt.RowError, match="no-trained-turn"):
        ifmt.compile("chatml", "embedded", field_map={"train": "training"}).encode(row)


def test_two_reasonings_and_a_key_twice_are_refused() -> None:
    for row, path in (
        (chat(reasoning_content="a", thinking="b"), "$.messages[1].thinking"),
        (chat(tool_calls=[{"name": "f", "arguments": '{"a": 1, "a": 2}'}]), "$.messages[1].tool_calls[0].arguments"),
    ):
        with pytest.raises(ifmt.RowError) as caught:
            ifmt.compile("qwen2_5", "embedded").encode(row)
        assert (caught.value.reason, caught.value.path) == ("bad-field", path)


def test_media_may_be_let_go() -> None:
    row = {**chat(), "images": ["a.png"]}
    fmt = ifmt.compile("chatml", "embedded", allow_dropped=["images"])
    assert set(fmt.encode_rows([row]).unread) == {"$.images"}


def test_weights_of_any_width() -> None:
    table = pa.table({"messages": [chat()["messages"]] * 2, "weight": pa.array([1.0, 0.5], pa.float16())})
    batch = ifmt.compile("chatml", "embedded").encode_batch(table)
    assert [found.row for found in batch.rejected] == [1]


def test_inline_reasoning_that_history_loses_is_listed() -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content if loop.last else m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    first = {"role": "assistant", "content": "<think>Early.</think>One."}
    row = {"messages": [USER, first, USER, {"role": "assistant", "content": "Two."}]}
    fmt = ifmt.compile(template, "embedded")
    assert fmt.encode_rows([row]).unread == {"$.messages[assistant].content": Unread(1, 0, "'Early.'")}
    table = fmt.encode_batch(pa.Table.from_pylist([row] * 8))
    assert table.unread == {"$.messages[assistant].content": Unread(8, 0, "'Early.'")}


def test_what_is_no_text_is_listed_where_nothing_names_it() -> None:
    row = chat(scores=[1, 2], meta={"k": {"n": 5}}, empty=[])
    found = ifmt.compile("chatml", "embedded").encode_rows([row]).unread
    assert set(found) == {"$.messages[assistant].scores", "$.messages[assistant].meta"}


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ({"role": "tool", "content": [SAYS_MORE]}, "$.messages[tool].content[].x"),
        (
            {
                "role": "user",
                "content": [{"type": "tool_result", "content": [SAYS_MORE]}],
            },
            "$.messages[user].content[].content[].x",
        ),
        (
            {"role": "user", "content": SAYS_MORE},
            "$.messages[user].content.x",
        ),
        (
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}, "x": "lost"}]},
            "$.messages[assistant].content[].x",
        ),
        (
            {"role": "assistant", "content": "a", "reasoning_content": [{"type": "text", "text": "h", "x": "lost"}]},
            "$.messages[assistant].reasoning_content[].x",
        ),
    ],
)
def test_what_parts_say_beside_their_text(message: Row, path: str) -> None:
    row = {"messages": [dict(USER), message, {"role": "assistant", "content": "Yes."}]}
    if message["role"] == "assistant":
        row["messages"].insert(2, {"role": "tool", "content": "1"})
    batch = ifmt.compile("qwen2_5", "embedded").encode_rows([row])
    assert not batch.rejected
    assert path in batch.unread
    assert "lost" in batch.unread[path].example


def test_parts_of_a_system_prompt() -> None:
    row = {**chat(), "system": [{"type": "text", "text": "Be brief.", "cache_control": "lost"}]}
    assert set(ifmt.compile("chatml", "embedded").encode_rows([row]).unread) == {"$.system[].cache_control"}
