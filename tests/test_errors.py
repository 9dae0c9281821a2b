"""Errors that no other test raises, each through a public door, and the fixes that they name, applied.

What a fix names as options is parsed out of the message and applied to the row.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
from ast import literal_eval
from datetime import datetime
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest

import instruct_fmt as ifmt
from instruct_fmt.embedded import tokenizer_path
from instruct_fmt.run.read.dataset import open_dataset
from instruct_fmt.template.source.load import show
from instruct_fmt.template.trace import budget
from instruct_fmt.template.trace.traced_template import TracedTemplate

Row = dict[str, Any]
HEAD = "<|im_start|>assistant\n"
TAIL = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
USER = {"role": "user", "content": "Hi"}
PLAIN: Row = {"messages": [USER, {"role": "assistant", "content": "Yes."}]}
TWO: Row = {"messages": [*PLAIN["messages"], USER, {"role": "assistant", "content": "No."}]}
NO_ANSWER: Row = {"instruction": "Hi", "input": "", "output": ""}


def turns(body: str) -> str:
    """A chat template with this body for each message."""
    return "{% for m in messages %}<|im_start|>{{ m.role }}\n" + body + "<|im_end|>\n{% endfor %}" + TAIL


def said(*messages: tuple[str, Any], **fields: Any) -> Row:
    rows = [{"role": role, "content": content} for role, content in messages]
    return {"messages": [*rows[:-1], {**rows[-1], **fields}]}


BEHIND_IT = {"role": "assistant", "content": "b"}
ASKS_OTHERWISE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% endif %}"
)
BEHIND = turns("{{ m.content }}{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}")
OPENS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
LAST_USER = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'user' and loop.last %}(!) {% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}" + TAIL
)
REWRITES = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}(!) {% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}" + TAIL
)
JOINED = (
    "{% for m in messages %}{% if m.role == 'assistant' and loop.previtem and loop.previtem.role == 'assistant' %} "
    "{{ m.content }}{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endif %}"
    "{% if loop.last or loop.nextitem.role != m.role %}<|im_end|>\n{% endif %}{% endfor %}" + TAIL
)
NEEDS_USER = (
    "{% if messages[0].role != 'user' %}{{ raise_exception('a user first') if not messages }}{% endif %}"
    + turns("{{ m.content }}")
)

# name: template, options, row, reason, path, options or a row that cure it
ROWS: dict[str, tuple[str | None, dict[str, Any], Row, str, str, Any]] = {
    "origin lost": (turns("{{ m.content.encode().decode() }}"), {}, PLAIN, "origin-lost", "$.messages[0]", None),
    "field order": (
        BEHIND, {}, said(("user", "Hi"), ("assistant", "Yes."), reasoning_content="Hm."), "field-order",
        "$.messages[1].reasoning_content", PLAIN,
    ),
    "block twice": (
        OPENS, {}, said(("user", "Hi"), ("assistant", "<thought>Hm.</thought>Yes.")), "block-twice",
        "$.messages[1]", said(("user", "Hi"), ("assistant", "<think>\nHm.\n</think>\n\nYes.")),
    ),
    "prompt not prefix": (
        LAST_USER, {"prompt_mismatch": "error"}, PLAIN, "prompt-not-prefix", "$.messages[1]", {},
    ),
    "history rewritten": (REWRITES, {"history": "error"}, TWO, "history-rewritten", "$.messages[1]", {}),
    "start unknown": (
        ASKS_OTHERWISE,
        {"prompt_mismatch": "as_rendered"}, PLAIN, "start-unknown", "$.messages[1]", None,
    ),
    "joined with one that is not trained": (
        JOINED, {},
        {"messages": [USER, {"role": "assistant", "content": "a", "train": False}, BEHIND_IT]},
        "start-unknown", "$.messages[2]",
        {"messages": [USER, {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]},
    ),
    "assistant first": (
        turns("{{ m.content }}").replace(TAIL, "{% if add_generation_prompt and messages %}" + HEAD + "{% endif %}"),
        {},
        said(("assistant", "Yes.")), "no-prompt", "$.messages[0]", PLAIN,
    ),
    "a trained role that is not printed": (
        turns("{% if m.role != 'user' %}{{ m.content }}{% endif %}"), {"train_on": ["user"], "allow_dropped": ["user"]},
        PLAIN, "field-dropped", "$.messages[0]", None,
    ),
    "control token": ("chatml", {"control_tokens": "error"}, said(("user", "a<|im_end|>"), ("assistant", "b")),
        "control-token", "$.messages[0].content", {}),
    "private use beside a control token": (
        "chatml", {}, said(("user", "a<|im_end|>\uf8ff\ue200\uf8ff"), ("assistant", "b")), "control-token", "$", None,
    ),
    "empty answer of a record": ("{{ q }}: {% if a %}({{ a }}){% endif %}", {"train_on": ["a"]}, {"q": "Hi", "a": ""},
        "nothing-to-learn", "$.a", {"q": "Hi", "a": "Yes."}),
    "half an answer of a record": ("{{ q }}: {{ a[:2] }}", {"train_on": ["a"]}, {"q": "Hi", "a": "Yes."},
        "field-dropped", "$.a", {"q": "Hi", "a": "Ye"}),
    "another column in an answer": ("{{ q }}: {{ a }}{{ q }}{{ a }}", {"train_on": ["a"]}, {"q": "Hi", "a": "Yes."},
        "foreign-text", "$.a", None),
    "no generation in a record": (
        "{{ q }}{% if a == 'x' %}{% generation %}{{ a }}{% endgeneration %}{% else %}{{ a }}{% endif %}", {},
        {"q": "Hi", "a": "Yes."}, "nothing-to-learn", "$", {"q": "Hi", "a": "x"},
    ),
    "a column under another name": ("{{ q }}: {{ answer[:2] }}", {"columns": {"answer": "reply"}},
        {"q": "Hi", "reply": "Yes."}, "field-dropped", "$.reply", {"q": "Hi", "reply": "Ye"}),
    "an empty text": (None, {"format": "text"}, {"text": ""}, "nothing-to-learn", "$.text", {"text": "a"}),
    "no role": ("chatml", {}, {"messages": [{"who": "user", "content": "Hi"}, {"who": "bot", "content": "Yes."}]},
        "bad-role", "$.messages[0].role", {}),
    "too long": ("chatml", {"max_length": 5}, PLAIN, "over-length", "$", {}),
    "marked pair": ("chatml", {}, {"prompt": "a", "completion": "b<|im_end|>"}, "control-token", "$.completion", {}),
}  # fmt: skip


def options_in(fix: str) -> list[dict[str, Any]]:
    """The options that a fix names as code, each alternative of them as what `compile` is to be given."""
    found = []
    for clause in re.split(r"; or ", fix):
        named = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\[[^\]]*\]|\{[^}]*\}|\d+)', clause)
        if named:
            found.append({name: literal_eval(value) for name, value in named})
    return found


def merged(before: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    found = {**before}
    for name, value in more.items():
        old = found.get(name)
        found[name] = {**old, **value} if isinstance(old, dict) else [*old, *value] if isinstance(old, list) else value
    return found


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_refused_and_its_fixes_work(name: str) -> None:
    template, options, row, reason, path, cure = ROWS[name]
    with pytest.raises(ifmt.RowError) as caught:
        ifmt.compile(template, "embedded", **options).encode(row)
    error = caught.value
    assert (error.reason, error.path) == (reason, path), str(error)
    assert error.found
    assert error.expected
    named = options_in(error.fix)
    for more in named:
        table = pa.Table.from_pylist([row])
        batch = ifmt.compile(template, "embedded", **merged(options, more)).encode_batch(table)
        assert not batch.rejected, (more, batch.rejected)
        assert batch.table.num_rows
    if cure == {}:
        assert named, error.fix
    elif cure is not None:
        assert ifmt.compile(template, "embedded", **options).encode(cure)


OPTIONS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "choice": ("chatml", {"history": "automatic"}, "history: found 'automatic'", {"history": "auto"}),
    "max_rejected": ("chatml", {"max_rejected": 2}, "max_rejected: found 2", {"max_rejected": 0.01}),
    "train_on": ("chatml", {"train_on": "asistant"}, "train_on: found 'asistant'", {"train_on": "assistant"}),
    "now": ("chatml", {"now": "today"}, "now: found 'today'", {"now": datetime(2025, 1, 31)}),
    "no dict": ("chatml", {"field_map": 3}, "field_map: found 3", {"field_map": {}}),
    "form": ("chatml", {"completion_format": "{x}"}, "completion_format: found", {"completion_format": "{content}"}),
    "no form": ("chatml", {"completion_format": "{"}, "completion_format: ", {"completion_format": "{content}"}),
    "backslash": (
        "chatml", {"completion_format": "\\n{content}"}, "a backslash and an n", {"completion_format": "\n{content}"},
    ),
    "no data": (
        "chatml",
        {"template_kwargs": {"bos_token": object()}},
        "expected plain data",
        {"template_kwargs": {"bos_token": "a"}},
    ),
    "options of chats": ("alpaca", {"reasoning": "strip"}, "reasoning: found 'strip' with a record template", {}),
    "probe word": (turns("{{ m.content | replace('qvzkjwrtb', '') }}"), {}, "a word that probes say", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_refused(name: str) -> None:
    template, options, found, mended = OPTIONS[name]
    with pytest.raises((ifmt.UsageError, ifmt.TemplateError), match=re.escape(found)):
        ifmt.compile(template, "embedded", **options).fingerprint  # noqa: B018
    if template in ("chatml", "alpaca"):
        assert ifmt.compile(template, "embedded", **mended).fingerprint


def test_calls_that_cannot_work() -> None:
    fmt = ifmt.compile("chatml", "embedded", history="expand")
    with pytest.raises(ifmt.UsageError, match="makes 2 rows of this one"):
        fmt.encode(TWO)
    assert fmt.encode_table(pa.Table.from_pylist([TWO])).num_rows == 2
    with pytest.raises(ifmt.UsageError, match=r"expected a pyarrow\.Table"):
        fmt.encode_batch([TWO])
    with pytest.raises(ifmt.RowError, match="1 trained turns"):
        ifmt.compile("chatml", "embedded").prompt(PLAIN, turn=5)


def test_a_rendering_that_differs_from_plain_jinja(monkeypatch: pytest.MonkeyPatch) -> None:
    fmt = ifmt.compile("chatml", "embedded")
    monkeypatch.setattr(TracedTemplate, "plain", lambda *arguments: "another text")
    with pytest.raises(ifmt.RowError, match="text-differs"):
        fmt.encode(PLAIN)


def test_files_beside_a_tokenizer_that_cannot_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tokenizer_path(), folder)
    fmt = ifmt.compile("chatml", str(folder))
    (folder / "generation_config.json").write_text("[")
    with pytest.raises(ifmt.TokenizerError, match=r"generation_config\.json"):
        ifmt.compile("chatml", str(folder))
    (folder / "generation_config.json").unlink()
    (folder / "config.json").write_text("{")
    with pytest.raises(ifmt.TokenizerError, match=r"config\.json"):
        fmt.check()
    (folder / "config.json").unlink()
    assert ifmt.compile("chatml", str(folder)).check().ok


def test_a_tokenizer_that_has_changed(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tokenizer_path(), folder)
    packed = pickle.dumps(ifmt.compile("chatml", str(folder)))
    path = folder / "tokenizer.json"
    spec = json.loads(path.read_text())
    spec["added_tokens"].append({**spec["added_tokens"][-1], "id": 99_999, "content": "<new>"})
    path.write_text(json.dumps(spec))
    with pytest.raises(ifmt.TokenizerError, match="has changed"):
        pickle.loads(packed).encode(PLAIN)
    assert ifmt.compile("chatml", str(folder)).encode(PLAIN)


def test_words_where_nothing_reads_them() -> None:
    silent = {"messages": [USER, {"role": "assistant", "function_calls": '[{"name": "f", "arguments": {}}]'}]}
    with pytest.raises(ifmt.RowError) as caught:
        ifmt.compile("qwen2_5", "embedded").encode(silent)
    assert caught.value.path == "$.messages[1].function_calls"
    (more,) = options_in(caught.value.fix)
    assert ifmt.compile("qwen2_5", "embedded", **more).encode(silent)
    tool = [{"name": "f", "parameters": {"type": "object"}}]
    two = {**PLAIN, "tools": [], "functions": tool}
    with pytest.raises(ifmt.RowError, match="in a second column of tools") as caught:
        ifmt.compile("qwen2_5", "embedded").encode(two)
    assert caught.value.path == "$.functions"
    assert ifmt.compile("qwen2_5", "embedded").encode({**PLAIN, "tools": tool, "functions": []})


def test_data_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("instruction,output\n")
    with pytest.raises(ifmt.DataError, match="found no rows"):
        open_dataset(str(tmp_path / "a.csv"))
    with pytest.raises(ifmt.DataError, match="no dataset that can be loaded"):
        open_dataset("nobody/nothing-at-all")
    datasets.Dataset.from_list([PLAIN]).save_to_disk(tmp_path / "saved")
    for path in (tmp_path / "saved", tmp_path):
        with pytest.raises((ifmt.UsageError, ifmt.DataError)):
            open_dataset(str(path), subset="document")
    assert len(open_dataset(str(tmp_path / "saved"))) == 1


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"instruction": "a", "output": "b", "n": 10**5000}, "a number of thousands of digits"),
        ({"instruction": "a", "output": "b", "n": {int: "x"}}, "a name that is a type"),
    ],
)
def test_values_that_no_format_can_hold(row: dict[str, Any], found: str) -> None:
    with pytest.raises(ifmt.errors.RowError, match=f"bad-field: found {found}; expected .*; fix: "):
        ifmt.compile("alpaca", "embedded").encode(row)


def test_a_plan_is_compared_within_the_budget_of_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long conversation may take more steps than every row has."""
    monkeypatch.setattr(budget, "MAX_STEPS", 20_000)
    slow = "{% for message in messages %}{% for i in range(1000) %}{% endfor %}{% endfor %}" + show("chatml").text
    fmt = ifmt.compile(slow, "embedded")
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 10
    assert fmt.encode_rows([{"messages": turns}]).counts["path:plan"] == 1
