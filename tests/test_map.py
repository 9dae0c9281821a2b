"""`dataset.map(fmt)` in every form of the call: the same values, the same cache, and errors where rows cannot go."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest

import instruct_fmt as ifmt
from instruct_fmt import Formatter, RowError, TooManyRejected, embedded

ROWS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": f"Question {n}"}, {"role": "assistant", "content": f"Answer {n} 😀"}]}
    for n in range(12)
]
BAD = {"messages": [{"role": "user", "content": "nobody answers"}]}


@pytest.fixture(scope="module")
def fmt() -> Formatter:
    return ifmt.compile(None, "embedded")


@pytest.fixture(scope="module")
def expected(fmt: Formatter) -> list[dict[str, list[int]]]:
    return [fmt.encode(row) for row in ROWS]


def _rows(dataset: Any) -> list[dict[str, Any]]:
    return [{name: list(row[name]) for name in ("input_ids", "labels")} for row in dataset]


def _dataset(rows: list[dict[str, Any]] = ROWS) -> datasets.Dataset:
    return datasets.Dataset.from_list(rows)


FORMS = {
    "per example": lambda data, fmt: data.map(fmt, remove_columns=data.column_names),
    "batched": lambda data, fmt: data.map(fmt, batched=True, batch_size=5, remove_columns=data.column_names),
    "arrow": lambda data, fmt: data.with_format("arrow").map(
        fmt, batched=True, batch_size=5, remove_columns=data.column_names
    ),
    "arrow per example": lambda data, fmt: data.with_format("arrow").map(fmt, remove_columns=data.column_names),
    "two workers": lambda data, fmt: data.map(fmt, batched=True, num_proc=2, remove_columns=data.column_names),
    "iterable": lambda data, fmt: data.to_iterable_dataset().map(fmt, remove_columns=data.column_names),
    "iterable batched": lambda data, fmt: data.to_iterable_dataset().map(
        fmt, batched=True, batch_size=5, remove_columns=data.column_names
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_call_gives_the_same_rows(
    form: str, fmt: Formatter, expected: list[dict[str, list[int]]]
) -> None:
    mapped = FORMS[form](_dataset(), fmt)
    mapped = mapped.with_format(None)
    assert _rows(mapped) == expected
    if isinstance(mapped, datasets.Dataset):
        assert {str(feature.feature.dtype) for feature in mapped.features.values()} == {"int32"}


def test_an_iterable_dataset_gets_int32(fmt: Formatter) -> None:
    result = fmt({"messages": [ROWS[0]["messages"], ROWS[1]["messages"]]})
    assert [array.dtype for array in result["input_ids"]] == [np.int32, np.int32]
    assert {type(value) for value in fmt(ROWS[0]).values()} == {np.ndarray}


def test_text_rows_and_batches_are_told_apart(fmt: Formatter) -> None:
    records = ifmt.compile("alpaca_short", "embedded")
    one = {"instruction": "Add.", "input": "1 1", "output": "2"}
    many = {name: [value, value] for name, value in one.items()}
    single, batch = records(one), records(many)
    assert [list(row) for row in batch["input_ids"]] == [list(single["input_ids"])] * 2


def test_a_batch_drops_rows_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    fmt = ifmt.compile(None, "embedded", max_rejected=0.5)
    data = _dataset([*ROWS, BAD])
    with caplog.at_level(logging.WARNING, "instruct_fmt"):
        mapped = data.map(fmt, batched=True, remove_columns=data.column_names, load_from_cache_file=False)
    assert len(mapped) == len(ROWS)
    assert "no-trained-turn" in caplog.text


def test_one_example_cannot_be_dropped(fmt: Formatter) -> None:
    with pytest.raises(RowError, match="batched=True") as caught:
        fmt(BAD)
    assert caught.value.reason == "no-trained-turn"


def test_too_many_rejected_rows_stop_a_map(fmt: Formatter) -> None:
    with pytest.raises(TooManyRejected, match="max_rejected"):
        fmt(pa.table({"messages": [row["messages"] for row in [*ROWS, *[BAD] * 100]]}))


@pytest.mark.parametrize("batch_size", [10, 51, 1000])
def test_rejected_rows_are_counted_over_a_run_of_small_batches(batch_size: int) -> None:
    data = _dataset([*(ROWS * 50)[:50], BAD])
    options: dict[str, Any] = {"batched": True, "batch_size": batch_size, "remove_columns": data.column_names}
    with pytest.raises(TooManyRejected, match=r"1 of 51 rows rejected, more than max_rejected=0\.01"):
        data.map(ifmt.compile(None, "embedded"), load_from_cache_file=False, **options)
    mapped = data.map(ifmt.compile(None, "embedded", max_rejected=0.02), load_from_cache_file=False, **options)
    assert len(mapped) == 50


def test_the_fingerprint_is_the_same_before_and_after_use(fmt: Formatter) -> None:
    from datasets.fingerprint import Hasher

    fresh = ifmt.compile(None, "embedded")
    before = Hasher.hash(fresh), fresh.fingerprint
    fresh.encode(ROWS[0])
    fresh.prompt(ROWS[0])
    fresh.tokenizer("changes the tokenizer's own state", truncation=True, max_length=4, padding="max_length")
    assert (Hasher.hash(fresh), fresh.fingerprint) == before == (Hasher.hash(fmt), fmt.fingerprint)
    assert fresh.encode(ROWS[1]) == fmt.encode(ROWS[1])


@pytest.mark.parametrize(
    "changed",
    [{"template": "chatml"}, {"max_length": 100}, {"history": "expand"}, {"template_kwargs": {"eos_token": "x"}}],
    ids=str,
)
def test_a_change_changes_the_fingerprint(changed: dict[str, Any], fmt: Formatter) -> None:
    from datasets.fingerprint import Hasher

    template = changed.pop("template", None)
    other = ifmt.compile(template, "embedded", **changed)
    assert other.fingerprint != fmt.fingerprint
    assert Hasher.hash(other) != Hasher.hash(fmt)


def test_a_formatter_pickles_to_its_settings(fmt: Formatter) -> None:
    assert len(pickle.dumps(fmt)) < 20_000
    again = pickle.loads(pickle.dumps(fmt))
    assert again.fingerprint == fmt.fingerprint
    assert again.encode(ROWS[3]) == fmt.encode(ROWS[3])


def test_a_tokenizer_changed_in_memory_travels_by_content() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded.tokenizer_path())
    tokenizer.add_tokens(["<added-here>"])
    formatter = ifmt.compile(None, tokenizer)
    again = pickle.loads(pickle.dumps(formatter))
    row = {"messages": [ROWS[0]["messages"][0], {"role": "assistant", "content": "an <added-here> token"}]}
    assert tokenizer.convert_tokens_to_ids("<added-here>") in formatter.encode(row)["input_ids"]
    assert again.encode(row) == formatter.encode(row)
    assert again.fingerprint == formatter.fingerprint
    plain = ifmt.compile(None, AutoTokenizer.from_pretrained(embedded.tokenizer_path()))
    assert plain.tokenizer_reference.name
    assert plain.fingerprint != formatter.fingerprint


SCRIPT = """
import json, sys, datasets, instruct_fmt as ifmt
fmt = ifmt.compile(sys.argv[2], "embedded")
data = datasets.load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[3])
mapped = data.map(fmt, batched=True, remove_columns=data.column_names)
print(json.dumps([mapped.cache_files[0]["filename"], mapped._fingerprint]))
"""


def test_a_second_process_hits_the_cache(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def run(template: str) -> list[str]:
        command = [sys.executable, "-c", SCRIPT, str(rows), template, str(tmp_path / "cache")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found: list[str] = json.loads(done.stdout.splitlines()[-1])
        return found

    first = run("chatml")
    written = Path(first[0]).stat().st_mtime_ns
    assert run("chatml") == first
    assert Path(first[0]).stat().st_mtime_ns == written
    assert run("zephyr")[1] != first[1]
