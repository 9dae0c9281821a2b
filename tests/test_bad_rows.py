"""Rows of a file that cannot be read: an error, or left out and listed; and files that change while they are read."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

import instruct_fmt as ifmt
from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.errors import DataError, TooManyRejected, UsageError
from instruct_fmt.run.config.load import load
from instruct_fmt.run.manifest import HIT
from instruct_fmt.run.open import open_sources
from instruct_fmt.run.prepare import Prepared, prepare_sources
from instruct_fmt.run.read import bad_rows as bad_rows_module
from instruct_fmt.run.read import csv_io, json_io
from instruct_fmt.run.read import dataset as sources_io
from instruct_fmt.run.read.bad_rows import bad_rows
from instruct_fmt.run.read.dataset import open_dataset
from instruct_fmt.run.run_options import RunOptions


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def texts(dataset: datasets.Dataset) -> list[Any]:
    return [row["text"] for row in table_rows(dataset.with_format("arrow")[:])]


DEEP = "[" * 200 + "]" * 200
CASES: dict[str, tuple[str, bytes, list[tuple[int, str, int]]]] = {
    "json lines": (
        "a.jsonl",
        b'{"text": "one"}\n{"text": \n\n[1]\n{"text": "two"}\n{"text": "\xff"}\n{"text": 1, "text": 2}\n'
        + f'{{"text": {DEEP}}}\n{{"text": NaN}}\n'.encode()
        + b'{"text": "three"}\n{"text": "cut',
        [
            (2, "Expecting value at column", 1),
            (4, "list [1]", 1),
            (6, "not UTF-8", 2),
            (7, "the key 'text' twice", 2),
            (8, "nested more than 100 deep", 2),
            (9, "NaN, which is no number", 2),
            (11, "Unterminated string", 3),
        ],
    ),
    "an array": (
        "a.json",
        b'[{"text": "one"}, 1,\n{"text": NaN, "b": [1, {"c": 2}]},\n{"text": "two"}, {"text": 1, "text": 2},\n'
        + f'{{"text": {DEEP}}}, {{"text": "three"}}]'.encode(),
        [
            (1, "int 1", 1),
            (2, "NaN, which is no number", 1),
            (3, "the key 'text' twice", 2),
            (4, "nested more than 100 deep", 2),
        ],
    ),
    "csv": (
        "a.csv",
        b'text,b\none,1\nx\n"two",2\ny,\xff\n"z" z,1\n"three",3\n',
        [(3, "1 field (['x'])", 1), (5, "not UTF-8", 2), (6, "quotes do not match", 2)],
    ),
    "text": ("a.txt", b"one\ntwo\n\n\xff\nthree\n", [(4, "not UTF-8", 2)]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("packed", [False, True])
def test_bad_rows_are_left_out_and_listed(tmp_path: Path, case: str, packed: bool) -> None:
    name, content, expected = CASES[case]
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError) as caught:
        open_dataset(str(path))
    assert f"{path}, line {expected[0][0]}: found " in str(caught.value)
    # The second time from the cache, and after the error, too.
    for _ in range(2):
        found = open_dataset(str(path), on_bad_row="reject")
        assert texts(found) == ["one", "two", "three"]
        listed = bad_rows(found.select([1]))
        assert [(bad.line, bad.row) for bad in listed] == [(line, row) for line, _, row in expected]
        for bad, (_, said, _) in zip(listed, expected, strict=True):
            assert said in bad.found
            assert bad.file == str(path)
    with pytest.raises(DataError):
        open_dataset(str(path))


def test_files_of_the_same_bytes_list_their_own_rows(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"text": "one"}\nx\n')
        found = open_dataset(str(tmp_path / name), on_bad_row="reject")
        assert [bad.file for bad in bad_rows(found)] == [str(tmp_path / name)]


def test_a_folder_lists_the_bad_rows_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for kind, text in (("jsonl", '{"text": "one"}\nx\n'), ("csv", "text,b\none,1\nx\n")):
        for path in (tmp_path / "data").iterdir():
            path.unlink()
        for name in ("a", "b"):
            (tmp_path / "data" / f"{name}.{kind}").write_text(text)
        found = open_dataset(str(tmp_path / "data"), on_bad_row="reject")
        assert texts(found) == ["one", "one"]
        assert [Path(bad.file).stem for bad in bad_rows(found)] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.jsonl", "x\ny\n", "found no rows that can be read, the first bad one: .*line 1: found 'x'"),
        ("a.csv", "a,b\n1\n", "found no rows that can be read, the first bad one: .*line 2: found 1 field"),
        # What follows cannot be told apart from the value: nothing is left out in silence.
        ("a.csv", 'a,b\n1,2\n"1,2\n1,2\n', "line 3: found a row whose quotes do not match"),
        ("a.json", '[{"a": 1}, {"a" 1}, {"a": 1}]', "line 1: found "),
        ("a.csv", "a,a\n1,2\n", "the column 'a' twice"),
    ],
)
def test_what_stays_an_error(tmp_path: Path, name: str, content: str, found: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=found):
        open_dataset(str(tmp_path / name), on_bad_row="reject")


def test_a_file_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bad_rows_module, "_MOST", 2)
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n' + "x\n" * 3)
    with pytest.raises(DataError, match="found more than 2 rows that cannot be read"):
        open_dataset(str(tmp_path / "a.jsonl"), on_bad_row="reject")
    wrong: Any = "skip"
    with pytest.raises(UsageError, match="on_bad_row: found 'skip'"):
        open_dataset("embedded", on_bad_row=wrong)


def prepared(config: Path, *settings: str) -> Prepared:
    sources = open_sources(load(str(config), settings), config.parent)
    return prepare_sources(sources, RunOptions(progress=False))


def test_bad_rows_are_in_the_ledger_and_count(tmp_path: Path) -> None:
    good = '{"instruction": "a", "output": "b"}\n'
    (tmp_path / "a.jsonl").write_text(good + "x\n" + good * 2)
    config = tmp_path / "run.yaml"
    config.write_text(
        "tokenizer: embedded\ntemplate: alpaca\nmax_rejected: 0.25\ndatasets:\n- path: a.jsonl\n  on_bad_row: reject\n"
    )
    for cache in ("miss: nothing prepared from this before", HIT):
        found = prepared(config)
        assert (found.report.rows, found.report.emitted, found.report.rejected) == (4, 3, {"bad-row": 1})
        assert found.report.cache == cache
        [rejection] = found.rejected
        assert (rejection.row, rejection.reason) == (None, "bad-row")
        assert rejection.path == f"{tmp_path / 'a.jsonl'}, line 2"
        assert "found 'x'" in str(found.report)
    with pytest.raises(TooManyRejected, match=r"found 1 of 4 rows .*max_rejected=0.2;(?s:.*)line 2: bad-row"):
        prepared(config, "max_rejected=0.2")
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: found 'x'"):
        prepared(config, "datasets.0.on_bad_row=error")
    # The same good rows without the bad one are another result.
    (tmp_path / "a.jsonl").write_text(good * 3)
    assert prepared(config).report.rejected == {}


def test_a_dataset_by_hand_takes_its_bad_rows_along(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"instruction": "a", "output": "b"}\nx\n')
    data = open_dataset(str(tmp_path / "a.jsonl"), on_bad_row="reject")
    fmt = ifmt.compile("alpaca", "embedded", max_rejected=0.5)
    assert fmt.prepare(data, progress=False).report.rejected == {"bad-row": 1}


def rewritten_by(path: Path, content: bytes, read: Callable[..., Any]) -> Callable[..., Any]:
    """The reader, behind which the file is another one."""

    def reading(*args: Any, **options: Any) -> Iterator[Any]:
        yield from read(*args, **options)
        before = path.stat()
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))

    return reading


@pytest.mark.parametrize(("name", "module", "reader"), [("a.jsonl", json_io, "read_rows"), ("a.csv", csv_io, "_rows")])
def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: Any, reader: str
) -> None:
    path = tmp_path / name
    texts_of = {"a.jsonl": '{{"a": "{}"}}\n', "a.csv": "a,b\n{},1\n"}[name]
    path.write_text(texts_of.format("x"))
    with monkeypatch.context() as patch:
        patch.setattr(module, reader, rewritten_by(path, texts_of.format("y").encode(), getattr(module, reader)))
        with pytest.raises(DataError, match=rf"{name}: found a file that changed while it was read"):
            open_dataset(str(path))
    # Nothing of it stays in the cache: both contents are what they are.
    for value in ("x", "y"):
        path.write_text(texts_of.format(value))
        assert table_rows(open_dataset(str(path)).with_format("arrow")[:])[0]["a"] == value


def test_a_cached_conversion_is_found_without_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"a": 1}))
    open_dataset(str(tmp_path / "a.jsonl"))
    monkeypatch.setattr(sources_io, "JsonRows", None)
    assert len(open_dataset(str(tmp_path / "a.jsonl"))) == 1


def test_two_slices_of_a_file_list_its_bad_rows_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n{\n{"instruction": "c", "output": "d"}\n')
    source = {"path": str(path), "on_bad_row": "reject"}
    text = yaml.safe_dump(
        {
            "tokenizer": "embedded",
            "template": "alpaca",
            "max_rejected": 1,
            "datasets": [{**source, "split": "train[:1]"}, {**source, "split": "train[1:]"}],
        }
    )
    (tmp_path / "run.yaml").write_text(text)
    config = load(str(tmp_path / "run.yaml"))
    prepared = prepare_sources(open_sources(config, tmp_path), RunOptions(tmp_path / "out", progress=False))
    assert (prepared.report.rows, len(prepared.rejected), len(prepared.dataset)) == (3, 1, 2)
