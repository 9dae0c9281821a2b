"""Rows as their users write them: what they become, or where, why and with which fix they are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import corpus_rows
import datasets
import inputs_cells
import oracles
import pyarrow as pa
import pytest
import small_tokenizers
from inputs_rows import FOUND, ID, INPUTS, NAME, TOOLS, USE, WHERE, Row, answer, call, turns, user
from served_cells import Bench
from served_fixes import alternatives
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import instruct_fmt as ifmt
from instruct_fmt.errors import NothingToLearn, RowError, TooManyRejected, UsageError

EVERY = 30
PARTS = 4
SLIPS = ["`from: chatgptt`", "`role: asistant`"]


@cache
def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(folder)


@cache
def _small(**options: Any) -> ifmt.Formatter:
    return ifmt.compile("chatml", small_tokenizers.build("chatml"), **options)


def _own(folder: Path, name: str, **options: Any) -> ifmt.Formatter:
    return ifmt.compile(None, str(folder / name), **options)


def _refused(fmt: ifmt.Formatter, row: Row) -> RowError:
    with pytest.raises(RowError) as raised:
        fmt.encode(row)
    return raised.value


def _theirs(fmt: ifmt.Formatter, messages: list[Row], tools: list[Row] | None = None, **more: Any) -> list[int]:
    template = fmt.tokenizer.chat_template
    assert isinstance(template, str)
    return oracles.chat_ids(fmt.tokenizer, template, messages, tools, **more)


# every kind under whole templates


@pytest.mark.corpus
@pytest.mark.real
@pytest.mark.parametrize("part", range(PARTS))
def test_no_row_is_wrong(part: int, real_tokenizers: Path) -> None:
    """A sample of what `scripts/inputs_table` judges."""
    folder = real_tokenizers / "qwen3"
    names = sorted(corpus_rows.public_templates())[::EVERY][part::PARTS]
    benches = [Bench(each, corpus_rows.public_templates()[each], _tokenizer(folder), str(folder)) for each in names]
    verdicts = [inputs_cells.judge(b, kind, "qwen3") for b in benches for kind in inputs_cells.kinds_for(b)]
    wrong = [f"{v.template} / {v.kind}: {v.problems}" for v in verdicts if v.problems]
    assert not wrong, "\n".join(wrong)
    assert {v.state for v in verdicts} == {"emitted", "refused"}


@pytest.mark.real
@pytest.mark.parametrize("name", ["qwen3", "llama3_1"])
def test_no_row_is_wrong_under_their_own_templates(name: str, real_tokenizers: Path) -> None:
    """Every kind comes out with Qwen 3, but for those that never may."""
    tokenizer = _tokenizer(real_tokenizers / name)
    template = tokenizer.chat_template
    assert isinstance(template, str)
    bench = Bench(name, template, tokenizer, str(real_tokenizers / name))
    verdicts = [inputs_cells.judge(bench, kind, name) for kind in INPUTS]
    assert not [(v.kind, v.problems) for v in verdicts if v.problems]
    if name == "qwen3":
        assert [v.kind for v in verdicts if v.state == "refused"] == [kind for kind in INPUTS if INPUTS[kind].always]


# slips in roles


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_in_a_role_names_what_was_meant(name: str) -> None:
    kind = INPUTS[name]
    error = _refused(_small(), kind.row)
    assert (error.reason, error.path) == ("unknown-role", kind.path)
    assert kind.meant in error.found
    wanted = _small().encode(kind.canonical)
    assert kind.cured is not None
    assert _small().encode(kind.cured) == wanted
    meant, as_it_is = alternatives(error.fix)
    assert ifmt.compile("chatml", small_tokenizers.build("chatml"), **meant).encode(kind.row) == wanted
    assert ifmt.compile("chatml", small_tokenizers.build("chatml"), **as_it_is).encode(kind.row) != wanted


# fields that are named and are not there

THOUGHT = {"messages": [user("Why?"), answer("So.", thought="Hm.")]}
NAMED = {"reasoning_content": "thougth"}


def test_a_slip_in_field_map_names_the_field() -> None:
    """By row, by map in all its forms, and when a dataset is prepared."""
    fmt = ifmt.compile("chatml", small_tokenizers.build("chatml"), field_map=NAMED)
    dataset = datasets.Dataset.from_list([THOUGHT] * 3)
    ways: list[Callable[[], object]] = [
        lambda: fmt.encode(THOUGHT),
        lambda: dataset.map(fmt),
        lambda: dataset.map(fmt, batched=True, remove_columns=dataset.column_names),
        lambda: list(dataset.to_iterable_dataset().map(fmt, batched=True, remove_columns=dataset.column_names)),
        lambda: fmt.prepare(dataset),
    ]
    for way in ways:
        with pytest.raises(UsageError, match=r"'thougth'.*fix: field_map=\{'reasoning_content': 'thought'\}"):
            way()


def test_a_field_that_no_row_has_is_an_error_of_prepare() -> None:
    fmt = ifmt.compile("chatml", small_tokenizers.build("chatml"), field_map=NAMED)
    with pytest.raises(UsageError, match=r"field_map\['reasoning_content'\]: found 'thougth', which no message"):
        fmt.prepare(datasets.Dataset.from_list([{"messages": [user("Why?"), answer("So.")]}] * 3))


def test_words_in_an_unread_field_are_named_before_what_they_lead_to() -> None:
    """A prompt that opens a block that only an unread field would fill: the field is the fault."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n"
        "{{ m.reasoning_content }}\n</think>\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    fmt = ifmt.compile(template, small_tokenizers.build("chatml"))
    assert _refused(fmt, {"messages": [user("Why?"), answer("So.", thought="Hm.")]}).reason == "empty-reasoning"
    row = {"messages": [user("Why?"), answer("", thought="Hm.")]}
    error = _refused(fmt, row)
    assert (error.reason, error.path) == ("field-dropped", "$.messages[1].thought")
    options = next(alternatives(error.fix))
    assert options == {"field_map": {"reasoning_content": "thought"}}
    named = ifmt.compile(template, small_tokenizers.build("chatml"), **options)
    assert named.encode(row) == fmt.encode({"messages": [user("Why?"), answer("", reasoning_content="Hm.")]})


# what nothing reads, in the dataset's words


def test_unread_fields_of_calls_in_parts_have_the_paths_of_the_parts() -> None:
    fmt = ifmt.compile(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        small_tokenizers.build("chatml"),
    )
    results = [{"type": "tool_result", "tool_use_id": "other", "content": [{"type": "text", "text": FOUND}]}]
    text = [{"type": "text", "text": "Certainly"}]
    messages = [answer([*text, USE]), {"role": "user", "content": results}, answer(text)]
    rows = [{"messages": [{"role": "user", "content": text}, *messages]}]
    wanted = {"$.messages[assistant].content[].id", "$.messages[tool].content[].tool_use_id"}
    assert set(fmt.encode_batch(pa.Table.from_pylist(rows)).unread) == wanted
    plain = fmt.encode_batch(
        pa.Table.from_pylist([{"messages": turns(call(WHERE, id=ID), {"role": "tool", "content": FOUND})}])
    )
    assert set(plain.unread) == {"$.messages[assistant].tool_calls[].id"}


def test_an_empty_object_is_the_rows_own() -> None:
    """Arguments that are empty end a call as others do, whether or not a plan was made of those before."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
        '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}{% endfor %}\n'
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    empty = {"messages": turns(call({}), {"role": "tool", "content": FOUND})}
    filled = {"messages": turns(call(WHERE), {"role": "tool", "content": FOUND})}
    alone = ifmt.compile(template, small_tokenizers.build("chatml"))
    behind = ifmt.compile(template, small_tokenizers.build("chatml"))
    behind.encode_table(pa.Table.from_pylist([filled] * 40))
    wanted = alone.encode(empty)
    assert behind.encode(empty) == wanted
    first, _ = oracles.trained_texts(alone.tokenizer, wanted["input_ids"], wanted["labels"])
    assert first.startswith('{"name": "look_up_sky", "arguments": {}}')


@pytest.mark.parametrize("value", [True, None, 3, 1.5, [1, False, None], {"deep": True}])
def test_values_that_are_no_text_end_a_call(value: object) -> None:
    """A template that writes arguments one by one, and no stop behind a call."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
        "<tool_call>{{ c.function.name }}{% for name, value in c.function.arguments.items() %}<key>{{ name }}</key>"
        "<value>{{ value | tojson }}</value>{% endfor %}</tool_call>{% endfor %}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    fmt = ifmt.compile(template, small_tokenizers.build("chatml"))
    encoded = fmt.encode({"messages": turns(call({**WHERE, "last": value}), {"role": "tool", "content": FOUND})})
    first, _ = oracles.trained_texts(fmt.tokenizer, encoded["input_ids"], encoded["labels"])
    assert first.endswith(f"<key>last</key><value>{json.dumps(value)}</value></tool_call>")


# beginnings and ends


@pytest.mark.real
@pytest.mark.parametrize("count", [2, 4])
def test_a_call_beside_null_is_as_served(count: int, real_tokenizers: Path) -> None:
    """Qwen 3's template fails on a message without content; a server is sent empty text."""
    fmt = _own(real_tokenizers, "qwen3")
    null, empty = (
        turns(call(WHERE), {"role": "tool", "content": FOUND}, content=content)[:count] for content in (None, "")
    )
    with pytest.raises(oracles.PLAIN_FAILURES):
        _theirs(fmt, null, TOOLS)
    encoded = fmt.encode({"messages": null, "tools": TOOLS})
    assert encoded["input_ids"] == _theirs(fmt, empty, TOOLS)
    prompt = fmt.prompt({"messages": null, "tools": TOOLS}).input_ids
    assert prompt == _theirs(fmt, empty[: count - 1], TOOLS, add_generation_prompt=True)
    *_, (start, _) = oracles.runs(encoded["labels"])
    assert encoded["input_ids"][:start] == prompt
    said = oracles.trained_texts(fmt.tokenizer, encoded["input_ids"], encoded["labels"])
    assert all(text.endswith("<|im_end|>") for text in said)
    assert count == 4 or NAME in said[-1]


@pytest.mark.real
def test_a_first_message_of_the_assistants(real_tokenizers: Path) -> None:
    """Llama 3.1's prompt for it lacks the BOS that the text has: left out for that reason, the others are trained."""
    fmt = _own(real_tokenizers, "llama3_1")
    messages = [answer("Hello, I am here."), user("Hi"), answer("What now?")]
    batch = fmt.encode_batch(pa.Table.from_pylist([{"messages": messages}]))
    (row,) = batch.table.to_pylist()
    assert row["input_ids"] == _theirs(fmt, messages)
    assert oracles.trained_texts(fmt.tokenizer, row["input_ids"], row["labels"]) == ["What now?<|eot_id|>"]
    assert batch.counts["turns_skipped:prefill-unknown"] == 1
    error = _refused(fmt, {"messages": messages[:1]})
    assert (error.reason, error.path) == ("prefill-unknown", "$.messages[0]")
    assert "<|begin_of_text|>" in error.found
    options = next(alternatives(error.fix))
    assert _own(real_tokenizers, "llama3_1", **options).encode({"messages": messages[:1]})["input_ids"][0] != 128000


@pytest.mark.real
@pytest.mark.parametrize(
    ("speakers", "fault", "mended"),
    [
        (["human", "gpt", "gpt", "human", "gpt"], 2, [0, 1, 3, 4]),
        (["human", "gpt", "human", "human", "gpt"], 3, [0, 1, 2, 4]),
    ],
)
def test_roles_that_do_not_alternate(speakers: list[str], fault: int, mended: list[int], real_tokenizers: Path) -> None:
    """Gemma 3's own words, at the message whose turn it was not."""
    fmt = _own(real_tokenizers, "gemma3")
    said = [{"from": speaker, "value": f"word {number}"} for number, speaker in enumerate(speakers)]
    error = _refused(fmt, {"conversations": said})
    assert (error.reason, error.path) == ("template-raised", f"$.conversations[{fault}]")
    assert "alternate" in error.found
    assert fmt.encode({"conversations": [said[number] for number in mended]})


# null in arguments


@pytest.mark.parametrize("taken", ["row", "json"])
def test_null_in_arguments_stays(taken: str) -> None:
    """Only a null that Arrow made goes."""
    messages = [user("Weather?"), answer("", tool_calls=[call({"a": 1, "unit": None})])]
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    fmt = ifmt.compile(template, small_tokenizers.build("chatml"))
    if taken == "row":
        ids = fmt.encode({"messages": messages})["input_ids"]
    else:
        table = inputs_cells.json_table({"messages": messages, "tools": []})
        (ids,) = fmt.encode_table(table).column("input_ids").to_pylist()
    assert ids == oracles.chat_ids(fmt.tokenizer, template, messages)
    assert '{"a": 1, "unit": null}' in oracles.text_of(fmt.tokenizer, ids)


# one bad row among many


def _with_one_bad(rows: int) -> datasets.Dataset:
    good = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}
    bad = {"messages": [{"role": "user", "content": "Why?"}, {"role": "asistant", "content": "So."}]}
    return datasets.Dataset.from_list([*[good] * (rows - 2), bad, good])


@pytest.mark.parametrize(("rows", "share", "comes"), [(51, 0.01, False), (51, 0.02, True), (101, 0.01, True)])
def test_one_bad_row_of_many(rows: int, share: float, comes: bool) -> None:
    """Counted, and an error where it is more than `max_rejected` of the rows."""
    fmt = ifmt.compile("chatml", small_tokenizers.build("chatml"), max_rejected=share)
    dataset = _with_one_bad(rows)
    mapped = partial(dataset.map, fmt, batched=True, remove_columns=dataset.column_names)
    if not comes:
        with pytest.raises(TooManyRejected, match=f"1 of {rows} rows.*unknown-role.*'asistant'.*did you mean"):
            mapped()
        with pytest.raises(TooManyRejected, match=f"1 of {rows} rows rejected"):
            fmt.prepare(dataset)
        return
    assert mapped().num_rows == rows - 1
    prepared = fmt.prepare(dataset)
    assert prepared.dataset.num_rows == rows - 1
    assert [(rejection.row, rejection.reason) for rejection in prepared.rejected] == [(rows - 2, "unknown-role")]


def test_a_dataset_of_what_not_to_write_is_an_error() -> None:
    rows = [{"messages": [user("Why?"), answer("So.")], "label": False}] * 3
    with pytest.raises((TooManyRejected, NothingToLearn), match="not-preferred"):
        _small().prepare(datasets.Dataset.from_list(rows))
    error = _refused(_small(), rows[0])
    assert (error.reason, error.path) == ("not-preferred", "$.label")
