"""Data files of every kind, packed or not: read as one expects, or refused by name; folders, too."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.errors import DataError, UsageError
from instruct_fmt.run.read.dataset import open_dataset


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rows_of(dataset: datasets.Dataset) -> list[dict[str, Any]]:
    return table_rows(dataset.with_format("arrow")[:])


DIGITS = "1" * 5000


def written(folder: Path, name: str, content: str | bytes) -> str:
    """A file of this name, packed as its name says."""
    path, raw = folder / name, content.encode() if isinstance(content, str) else content
    packers: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": lambda text: bytes(pa.compress(text, codec="zstd", asbytes=True)),
    }
    path.write_bytes(packers.get(path.suffix.lower(), bytes)(raw))
    return str(path)


@pytest.mark.parametrize("packing", ["", ".gz", ".bz2", ".XZ", ".zst"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.JSONL", '{"a": "x", "b": "1"}\n\n{"a": "y", "b": ""}\n'),
        ("a.Json", '[{"a": "x", "b": "1"}, {"a": "y", "b": ""}]'),
        ("a.csv", 'a,b\nx,1\n"y",\n'),
        ("a.TSV", "a\tb\nx\t1\ny\t\n"),
    ],
)
def test_files_of_any_case_and_packing(tmp_path: Path, name: str, content: str, packing: str) -> None:
    found = open_dataset(written(tmp_path, name + packing, content))
    assert rows_of(found) == [{"a": "x", "b": "1"}, {"a": "y", "b": ""}]


def test_text_files(tmp_path: Path) -> None:
    content = "\ufeffOne.\r\n\n  \n Two. \nThree"
    for packing in ("", ".gz"):
        path = written(tmp_path, f"a.txt{packing}", content)
        assert [row["text"] for row in rows_of(open_dataset(path))] == ["One.", " Two. ", "Three"]
        assert [row["text"] for row in rows_of(open_dataset(path, subset="document"))] == [
            content.removeprefix("\ufeff")
        ]
    with pytest.raises(UsageError, match="'document' for a whole"):
        open_dataset(written(tmp_path, "a.csv", "a\n1\n"), subset="document")


@pytest.mark.parametrize(
    ("name", "content", "found", "mended"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": 1, "a": 2}\n', "line 2: found the key 'a' twice", '{"a": 1}\n{"a": 2}\n'),
        ("a.json", '[{"a": {"b": 1, "b": 2}}]', "line 1: found the key 'b' twice", '[{"a": {"b": 2}}]'),
        ("a.json", '[{"a": 1},\n {"a": NaN}]', "line 2: found NaN, which is no number", '[{"a": 1}, {"a": null}]'),
        ("a.jsonl", '{"a": -Infinity}', "line 1: found -Infinity", '{"a": 1e9}'),
        ("a.csv", "a,b,a\n1,2,3\n", "found the column 'a' twice", "a,b,c\n1,2,3\n"),
        ("a.tsv", "a\t\n1\t2\n", "found a column without a name, number 2", "a\tb\n1\t2\n"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", "line 3: found 3 fields", "a,b\n1,2\n1,2\n"),
        ("a.json", '{"data": [{"a": 1}]}', "one object with a list of objects under 'data'", '[{"a": 1}]'),
        ("a.txt", b"\xff\n", "line 1: found bytes that are not UTF-8", "y"),
        ("a.jsonl", '{"a": 1e999}', "line 1: found '1e999', which is beyond", '{"a": "1e999"}'),
        ("a.jsonl", f'{{"a": {DIGITS}}}', "line 1: found a whole number of too many", f'{{"a": "{DIGITS}"}}'),
        ("a.json", f'[{{}},\n{{"a": {DIGITS}}}]', "line 2: found a whole number of too many", f'[{{"a": "{DIGITS}"}}]'),
        (
            "a.json",
            f'[{{"a": {"[" * 99999}{"]" * 99999}}}, {{"a": 1}}]',
            "found values nested more than 100 deep",
            '[{"a": 1}]',
        ),
        ("a.json", '{\n "v": 1, "my rows": [\n{"a": 1}]}', """`jq '.["my rows"]'`""", '[{"a": 1}]'),
        ("a.json", '{\n "a": 1\n}', "one object on several lines", '[{\n "a": 1\n}]'),
        ("a.csv", 'a,b\n"x\ny",2\n3\n', "line 4: found 1 field (['3']); expected 2 fields", 'a,b\n"x\ny",2\n3,4\n'),
        ("a.csv", 'a,b\n"x" y,2\n', "line 2: found a row whose quotes", 'a,b\n"""x"" y",2\n'),
        ("a.tsv", 'a\tb\n1\t2\n"x\t3\n', "line 3: found a row whose quotes", 'a\tb\n1\t2\n"""x"\t3\n'),
        ("a.csv", b"a,b\n1,2\n1,\xff\n", "line 3: found bytes that are not UTF-8", "a,b\n1,2\n1,y\n"),
        ("a.csv", b"a,\xff\n1,2\n", "line 1: found bytes that are not UTF-8", "a,y\n1,2\n"),
        ("a.csv", "a,b\n", "found no rows", "a,b\n1,2\n"),
        ("a.csv", "a;b\n1;2\n", "columns separated by commas", "a,b\n1,2\n"),
        ("a.tsv", "a,b\n1,2\n", "columns separated by tabs", "a\tb\n1\t2\n"),
        ("a.jsonl", '{"\\ud800": 1}', "found the key '\\ud800', which holds half", '{"a": 1}'),
    ],
)
def test_what_is_wrong_in_a_file_is_named(
    tmp_path: Path, name: str, content: str | bytes, found: str, mended: str
) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(written(tmp_path, name, content))
    assert found in str(caught.value)
    assert name in str(caught.value)
    assert "; expected " in str(caught.value)
    assert "; fix: " in str(caught.value)
    assert len(open_dataset(written(tmp_path, name, mended)))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.bz2", "a.tsv.xz", "a.txt.gz", "a.json.zst", "a.csv.zst"])
def test_files_that_are_not_packed_or_cut_short(tmp_path: Path, name: str) -> None:
    whole = Path(written(tmp_path, name, '{"a": "x"}\n' * 2000)).read_bytes()
    for content in (b'{"a": "x"}\n', whole[: len(whole) // 2]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="cannot be unpacked") as caught:
            open_dataset(str(tmp_path / name))
        assert name in str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl.7z", "a.parquet.gz", "a.zip", "a"])
def test_files_of_other_kinds_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError, match="found a file of kind"):
        open_dataset(str(tmp_path / name))


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").symlink_to(tmp_path / "gone.jsonl")
    with pytest.raises(UsageError, match=r"found a link to .*gone\.jsonl"):
        open_dataset(str(tmp_path / "broken.jsonl"))
    for pattern in ("*.jsonl", "part-?.csv", "*"):
        with pytest.raises(UsageError, match="name each file under `datasets`"):
            open_dataset(str(tmp_path / pattern))


def test_columns_of_parquet_have_names_of_their_own(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="found the column 'a' twice"):
        open_dataset(str(tmp_path / "a.parquet"))


def test_columns_of_arrow_files_have_names_of_their_own(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    for name, writer in (("file.arrow", pa.ipc.new_file), ("stream.arrow", pa.ipc.new_stream)):
        with writer(str(tmp_path / name), table.schema) as file:
            file.write_table(table)
        with pytest.raises(DataError, match="found the column 'a' twice"):
            open_dataset(str(tmp_path / name))


def test_values_of_csv_may_be_long(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    value = 'a "line",\n' * 300_000
    path = written(tmp_path, "a.csv", 'a,b\n1,"' + value.replace('"', '""') + '"\n')
    assert rows_of(open_dataset(path)) == [{"a": "1", "b": value}]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst"])
def test_a_packed_file_by_a_plain_name(tmp_path: Path, packing: str) -> None:
    whole = Path(written(tmp_path, f"b.jsonl{packing}", '{"a": "x"}\n'))
    plain = whole.replace(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match=f"rename it to a.jsonl{packing}"):
        open_dataset(str(plain))
    assert rows_of(open_dataset(str(plain.rename(tmp_path / f"a.jsonl{packing}")))) == [{"a": "x"}]


def test_folders_are_read_as_their_files_are(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    written(tmp_path / "json", "train-1.jsonl", '{"a": {"b": 1}}\n')
    written(tmp_path / "json", "train-2.jsonl.gz", '{"a": {"b": null}}\n{"a": {}}\n')
    written(tmp_path / "json", "test.jsonl", '{"a": {"c": 2}}\n')
    path = str(tmp_path / "json")
    assert rows_of(open_dataset(path)) == [{"a": {"b": 1}}, {"a": {"b": None}}, {"a": {}}]
    assert rows_of(open_dataset(path, split="train[:1]")) == [{"a": {"b": 1}}]
    assert rows_of(open_dataset(path, split="test")) == [{"a": {"c": 2}}]
    with pytest.raises(UsageError, match=r"no split 'dev'; expected one of train, test"):
        open_dataset(path, split="dev")
    (tmp_path / "csv").mkdir()
    written(tmp_path / "csv", "a.csv", "a,b\n007,NA\n")
    written(tmp_path / "csv", "LICENSE", "not data")
    assert rows_of(open_dataset(str(tmp_path / "csv"))) == [{"a": "007", "b": "NA"}]
    written(tmp_path / "csv", "b.csv", "a,c\n1,2\n")
    with pytest.raises(DataError, match=r"b\.csv: found the columns .*expected those of .*a\.csv"):
        open_dataset(str(tmp_path / "csv"))


def test_a_folder_of_several_kinds(tmp_path: Path) -> None:
    (tmp_path / "mixed").mkdir()
    written(tmp_path / "mixed", "a.jsonl", '{"a": "x"}\n')
    named = written(tmp_path / "mixed", "b.csv", "a\ny\n")
    with pytest.raises(UsageError, match=r"several kinds \(a\.jsonl and b\.csv\).*name each file"):
        open_dataset(str(tmp_path / "mixed"))
    assert rows_of(open_dataset(named)) == [{"a": "y"}]


def test_a_folder_of_documents(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("a", "b"):
        written(tmp_path / "docs", f"{name}.txt", f"{name}\n\n{name}\n")
    assert rows_of(open_dataset(str(tmp_path / "docs"), subset="document")) == [
        {"text": "a\n\na\n"},
        {"text": "b\n\nb\n"},
    ]


def test_a_null_inside_is_no_missing_key(tmp_path: Path) -> None:
    first = {"calls": [{"arguments": {"a": 1}}]}
    second = {"calls": [{"arguments": {"a": 1, "unit": None}}]}
    lines = [json.dumps(first)] * 1500 + [json.dumps(second)]
    rows = rows_of(open_dataset(written(tmp_path, "a.jsonl", "\n".join(lines))))
    assert (rows[0], rows[-1]) == (first, second)


COLUMNS = {"instruction": ["a", "b"], "output": ["c", "d"]}
RECORDS = [{"instruction": "a", "output": "c"}, {"instruction": "b", "output": "d"}]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"version": 1, "data": RECORDS}, "a list of objects under 'data'"),
        ({"train": RECORDS, "test": RECORDS[:1]}, "a list of objects under 'train' and 'test'"),
        (COLUMNS, "a column under each key (['instruction', 'output'])"),
        ({name: dict(zip("01", values, strict=True)) for name, values in COLUMNS.items()}, "a column under each key"),
        (dict(zip("01", RECORDS, strict=True)), "a row under each number (['0', '1'])"),
    ],
)
def test_one_object_that_holds_the_rows(tmp_path: Path, content: Any, found: str, indent: int | None) -> None:
    path = written(tmp_path, "a.json", json.dumps(content, indent=indent))
    with pytest.raises(DataError) as caught:
        open_dataset(path)
    assert f"found one object with {found}" in str(caught.value)
    assert "put it in `[` and `]`" in str(caught.value)
    assert rows_of(open_dataset(written(tmp_path, "one.json", json.dumps([content])))) == [content]
    assert mended_by_jq(str(caught.value), path) == RECORDS


def test_objects_on_several_lines_each(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", "\n".join(json.dumps(row, indent=1) for row in RECORDS))
    with pytest.raises(DataError, match="found objects on several lines each") as caught:
        open_dataset(path)
    assert mended_by_jq(str(caught.value), path) == RECORDS


def mended_by_jq(error: str, path: str) -> list[dict[str, Any]]:
    """The rows of the file once the command that the error names has rewritten it."""
    if shutil.which("jq") is None:
        pytest.skip("needs jq")
    command = next(part for part in error.split("`") if part.startswith("jq "))
    mended = subprocess.run([*shlex.split(command), path], check=True, capture_output=True).stdout
    Path(path).write_bytes(mended)
    return rows_of(open_dataset(path))


@pytest.mark.parametrize("row", [{"messages": RECORDS, "tools": RECORDS}, {"text": "a"}, {"args": {"a": "b"}}])
def test_one_row_is_a_row(tmp_path: Path, row: dict[str, Any]) -> None:
    assert rows_of(open_dataset(written(tmp_path, "a.json", json.dumps(row)))) == [row]


@pytest.mark.parametrize(
    ("files", "found", "mended"),
    [
        (["train.jsonl", "more.jsonl"], "found more.jsonl in no split (train)", {"more.jsonl": "train-2.jsonl"}),
        (["train-test.jsonl"], "found train-test.jsonl in the splits train and test", {"train-test.jsonl": "a.jsonl"}),
        (["a.jsonl", "b.xlsx"], "found a file of kind '.xlsx' among the data", {"b.xlsx": "../b.xlsx"}),
    ],
)
def test_no_file_of_a_folder_is_left_out(tmp_path: Path, files: list[str], found: str, mended: dict[str, str]) -> None:
    folder = tmp_path / "data [1]"
    folder.mkdir()
    for name in (*files, "README.md", "LICENSE", "make.py", ".hidden.csv"):
        written(folder, name, '{"a": 1}\n')
    with pytest.raises(UsageError, match=r"; expected .*; fix: ") as caught:
        open_dataset(str(folder))
    assert found in str(caught.value)
    for before, after in mended.items():
        (folder / before).rename(folder / after)
    assert len(open_dataset(str(folder))) == len(list(folder.glob("*.jsonl")))


def test_the_line_of_a_documents_broken_bytes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3: found bytes that are not UTF-8"):
        open_dataset(written(tmp_path, "a.txt", b"1\n2\n\xff\n"), subset="document")
