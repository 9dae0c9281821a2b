"""Reading data files: nothing is lost, nothing is guessed, and broken files say where."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.errors import DataError, UsageError
from instruct_fmt.run.read.dataset import open_dataset
from instruct_fmt.run.read.json_io import JsonRows


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rows_of(dataset: datasets.Dataset) -> list[dict[str, Any]]:
    return table_rows(dataset.with_format("arrow")[:])


def without_nulls(value: Any) -> Any:
    """What is left when a key that is null counts as one that is missing, as Arrow has it."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3)
)
VALUES = st.recursive(
    LEAVES | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.sampled_from("xyz"), VALUES, min_size=1, max_size=3), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, lines=st.booleans())
def test_json_loses_nothing(tmp_path_factory: pytest.TempPathFactory, rows: list[Any], lines: bool) -> None:
    path = tmp_path_factory.getbasetemp() / ("rows.jsonl" if lines else "rows.json")
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1))
    source = JsonRows.open(path)
    found = table_rows(pa.Table.from_batches(source.batches(), source.schema))
    # Compared as text, in which 1, 1.0 and true differ and the order of keys counts.
    for before, after in zip(rows, found, strict=True):
        for name in source.schema.names:
            assert json.dumps(without_nulls(after[name])) == json.dumps(without_nulls(before.get(name)))


def test_nested_null_is_kept(tmp_path: Path) -> None:
    rows = [{"tools": [{"name": "f", "default": None}]}, {"tools": [{"name": "g"}]}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert rows_of(open_dataset(str(tmp_path / "a.jsonl"))) == rows


def test_content_that_is_text_or_parts(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "b"}]
    rows = [{"messages": [{"role": "user", "content": content}]} for content in ("a", parts)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert rows_of(open_dataset(str(tmp_path / "a.json"))) == rows


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": 2\n', ["line 2", "found '{\"a\": 2'", "fix: "]),
        ("a.jsonl", '{"a": 1}\n\n[1]\n', ["line 3", "found list [1]"]),
        ("a.json", '[{"a": 1},\n {"a" 2}]', ["line 2", "expected an array"]),
        ("a.json", '[{"a": 1}\n {"a": 2}]', ["line 2", "put `,` between"]),
        ("a.json", '[{"a": 1},\n "b"]', ["line 2", "found str 'b'"]),
        ("a.json", '[{"a": 1}', ["line 1", "one `]` at the end"]),
        ("a.json", '[{"a": 1}]\nx', ["one `]` at the end"]),
        ("a.json", "[]", ["found no rows"]),
        ("a.jsonl", "\n \n", ["found no rows"]),
        ("a.jsonl", "", ["found an empty file"]),
        ("a.csv", "", ["found an empty file"]),
        ("a.csv", "a,b\n1,2\n3\n", ["a.csv", "line 3: found 1 field"]),
        ("a.parquet", "no parquet", ["a.parquet", "cannot be read"]),
        ("a.arrow", "no arrow file at all", ["a.arrow", "cannot be read"]),
    ],
)
def test_broken_files(tmp_path: Path, name: str, text: str, parts: list[str]) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=r"found .*expected .*fix: ") as error:
        open_dataset(str(tmp_path / name))
    for part in [str(tmp_path / name), *parts]:
        assert part in str(error.value)
    left = list((tmp_path / "cache").rglob("*.arrow*"))
    assert left == []


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": "b"}\n{"a": "\xff"}\n')
    with pytest.raises(DataError, match=r"line 2: found bytes that are not UTF-8"):
        open_dataset(str(tmp_path / "a.jsonl"))


def test_csv_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('instruction,output\n007,NA\n"two\nlines",\n')
    assert rows_of(open_dataset(str(tmp_path / "a.csv"))) == [
        {"instruction": "007", "output": "NA"},
        {"instruction": "two\nlines", "output": ""},
    ]


def test_other_kinds_of_files(tmp_path: Path) -> None:
    table = pa.table({"a": ["x", "y", None]})
    pq.write_table(table, tmp_path / "a.parquet")
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as packed:
        packed.write('\ufeff{"a": "x"}\n{"a": "y"}\n{"a": null}\n')
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    datasets.Dataset(table).save_to_disk(str(tmp_path / "saved"))
    datasets.DatasetDict(train=datasets.Dataset(table)).save_to_disk(str(tmp_path / "splits"))
    stream = next((tmp_path / "saved").glob("*.arrow"))
    places: list[str | Path] = ["a.parquet", "a.jsonl.gz", "a.arrow", "saved", "splits", stream.relative_to(tmp_path)]
    for place in places:
        assert rows_of(open_dataset(str(tmp_path / place))) == table.to_pylist(), place


def test_splits(tmp_path: Path) -> None:
    assert open_dataset("embedded/records", split="train[2:4]").num_rows == 2
    assert open_dataset("embedded", split="train[:10%]").num_rows > 0
    with pytest.raises(UsageError, match="found split 'test'"):
        open_dataset("embedded", split="test")
    datasets.DatasetDict(test=datasets.Dataset(pa.table({"a": [1, 2]}))).save_to_disk(str(tmp_path / "splits"))
    assert open_dataset(str(tmp_path / "splits"), split="test[:1]").num_rows == 1
    with pytest.raises(UsageError, match="no split 'train'; expected one of test"):
        open_dataset(str(tmp_path / "splits"))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        open_dataset(str(tmp_path / "nothing.jsonl"))
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(UsageError, match=r"kind '\.xlsx'"):
        open_dataset(str(tmp_path / "a.xlsx"))


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for value in ("x", "y", "x"):
        path.write_text(json.dumps({"a": value}))
        assert rows_of(open_dataset(str(path))) == [{"a": value}]


@pytest.mark.parametrize("damage", [b"", b"zeros", b"\0" * 5000, None])
def test_a_damaged_conversion_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "{number}"}}\n' for number in range(5000)))
    found = open_dataset(str(path))
    wanted, place = found[:], Path(found.cache_files[0]["filename"])
    del found
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert open_dataset(str(path))[:] == wanted


def test_a_conversion_of_the_same_bytes_is_taken_whenever_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n')
    place = Path(open_dataset(str(path)).cache_files[0]["filename"])
    os.utime(place, (1, 1))
    number = place.stat().st_ino
    assert open_dataset(str(path))[:] == {"text": ["x"]}
    assert place.stat().st_ino == number


def test_a_blank_line_in_a_file_of_one_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\ntext\na\n\n\nb\n\n")
    with pytest.raises(DataError, match=r"line 6: found 2 blank lines before it; expected .*; fix: write `\"\"`"):
        open_dataset(str(path))
    assert open_dataset(str(path), on_bad_row="reject")[:] == {"text": ["a", "b"]}
    path.write_text('text\na\n""\nb\n')
    assert open_dataset(str(path))[:] == {"text": ["a", "", "b"]}
