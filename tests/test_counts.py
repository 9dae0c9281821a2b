"""What is counted and told of rows that come out otherwise than one might think: silent, cut, left out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

import instruct_fmt as ifmt
from instruct_fmt.run.config.load import load
from instruct_fmt.run.open import open_sources, options_of
from instruct_fmt.run.prepare import prepare_sources

REWRITTEN = """{% for m in messages %}<|im_start|>{{ m.role }}
{% if loop.last %}{{ m.reasoning_content }}{% endif %}{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def conversation(*turns: str, **last: Any) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for number, turn in enumerate(turns):
        messages.append({"role": "assistant" if number % 2 else "user", "content": turn})
    messages[-1].update(last)
    return {"messages": messages}


def test_silent_turns_are_counted() -> None:
    """Of an empty answer the stop is trained, as of any other; it may be meant, and it may be a missing cell."""
    batch = ifmt.compile("chatml", "embedded").encode_rows([conversation("Hi", ""), conversation("Hi", "Ho")])
    assert batch.counts["turns_silent"] == 1
    records = [{"instruction": "a", "output": ""}, {"instruction": "a", "output": "b"}]
    batch = ifmt.compile("alpaca", "embedded").encode_rows(records)
    assert (batch.counts["turns_silent"], batch.table.num_rows) == (1, 2)


def test_rows_that_are_cut_are_counted() -> None:
    rows = [conversation("Hi", "word " * 50), conversation("Hi", "short"), conversation("word " * 50, "short")]
    batch = ifmt.compile("chatml", "embedded", max_length=30, overlength="truncate").encode_rows(rows)
    assert (batch.counts["shortened:truncate"], batch.table.num_rows) == (1, 2)
    (rejected,) = batch.rejected
    assert (rejected.row, rejected.reason) == (2, "over-length")
    assert "of which the first 30 hold nothing that is trained" in rejected.found
    batch = ifmt.compile("chatml", "embedded", max_length=30, overlength="truncate_prompt").encode_rows(rows)
    assert batch.counts["shortened:truncate_prompt"] == 1


def test_a_flag_under_train_on_all_is_refused() -> None:
    row = conversation("Hi", "Ho", "Again", "No", weight=0)
    fmt = ifmt.compile("chatml", "embedded", train_on="all")
    with pytest.raises(ifmt.RowError, match=r'bad-field.*; fix: take its flag out; or train_on="assistant" trains'):
        fmt.encode(row)
    alone = conversation("Hi", "Ho", weight=0)
    with pytest.raises(ifmt.RowError, match="some of them not to be trained by their own flags"):
        ifmt.compile("chatml", "embedded").encode(alone)


def test_the_log_of_a_map_is_short(caplog: pytest.LogCaptureFixture) -> None:
    fmt = ifmt.compile(REWRITTEN, "embedded", max_rejected=1.0, allow_dropped=["reasoning_content"])
    rows = [*(conversation(f"nobody answers {n}") for n in range(20))]
    thought = [conversation("Hi", "Ho", "Again", "Yes") for _ in range(5)]
    for row in thought:
        row["messages"][1]["reasoning_content"] = "Hm."
    with caplog.at_level(logging.WARNING, "instruct_fmt"):
        data = datasets.Dataset.from_list([*rows, *thought])
        for _ in range(2):
            data.map(fmt, batched=True, batch_size=5, remove_columns=data.column_names, load_from_cache_file=False)
    lines = [record.message for record in caplog.records]
    assert sum(line.startswith("dropped") for line in lines) == 5
    assert sum("turns of a batch are left out of the loss" in line for line in lines) == 1


def test_an_error_about_a_row_names_its_dataset(tmp_path: Path) -> None:
    for name, words in (("short", 1), ("long", 500)):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"instruction": "a", "output": "{"word " * words}"}}\n')
    text = yaml.safe_dump(
        {
            "tokenizer": "embedded",
            "template": "alpaca",
            "max_length": 200,
            "overlength": "error",
            "datasets": [{"path": "short.jsonl"}, {"path": "long.jsonl"}],
            "output": str(tmp_path / "out"),
        }
    )
    (tmp_path / "run.yaml").write_text(text)
    config = load(str(tmp_path / "run.yaml"))
    with pytest.raises(ifmt.DataError, match=r"^long.jsonl, row 0, \$: over-length"):
        prepare_sources(open_sources(config, tmp_path), options_of(config))


def test_rows_of_a_file_that_are_none_have_no_number(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"instruction": "a", "output": "b"}\n{broken\n{"instruction": "c", "output": null}\n'
    )
    data = ifmt.open_dataset(str(tmp_path / "a.jsonl"), on_bad_row="reject")
    fmt = ifmt.compile("alpaca", "embedded", max_rejected=1.0)
    found = fmt.prepare(data, output_dir=tmp_path / "out", progress=False).rejected
    assert [(one.row, one.reason) for one in found] == [(None, "bad-row"), (1, "null-field")]
    assert data[1]["instruction"] == "c"
