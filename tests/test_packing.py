"""Packed sequences: every row in one of them, whole, and they are as full as best fit decreasing fills them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import instruct_fmt as ifmt
from instruct_fmt.errors import DataError, UsageError
from instruct_fmt.fit.pack import best_fit
from instruct_fmt.run import packing
from instruct_fmt.run.encoded import EncodedTables

CAPACITY = 64


def one_by_one(lengths: list[int], capacity: int) -> list[int]:
    """The spaces that are left, by the algorithm as it is written down: a row after the other."""
    spaces: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [place for place, space in enumerate(spaces) if space >= length]
        if fitting:
            spaces[min(fitting, key=lambda place: spaces[place])] -= length
        else:
            spaces.append(capacity - length)
    return sorted(spaces)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), capacity=st.integers(1, 60))
def test_best_fit(data: st.DataObject, capacity: int) -> None:
    lengths = np.array(data.draw(st.lists(st.integers(1, capacity), max_size=80)), np.int64)
    packs = best_fit(lengths, capacity)
    groups = [packs.rows[a:b] for a, b in zip(packs.offsets, packs.offsets[1:], strict=False)]
    assert sorted(packs.rows.tolist()) == list(range(len(lengths)))
    assert sorted(capacity - int(lengths[group].sum()) for group in groups) == one_by_one(lengths.tolist(), capacity)
    assert all(group.tolist() == sorted(group.tolist()) for group in groups)
    firsts = [int(group[0]) for group in groups]
    assert firsts == sorted(firsts)


def _tables(sizes: list[int], chunk: int) -> list[pa.Table]:
    rows = [list(range(1000 * number, 1000 * number + size)) for number, size in enumerate(sizes)]
    made = []
    for start in range(0, len(rows), chunk):
        ids = pa.array(rows[start : start + chunk], pa.list_(pa.int32()))
        made.append(pa.table({"input_ids": ids, "labels": ids}))
    return made


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=40), chunk=st.integers(1, 15), tokens=st.integers(1, 90))
def test_no_token_is_lost_whatever_is_written_at_a_time(sizes: list[int], chunk: int, tokens: int) -> None:
    rows = EncodedTables(_tables(sizes, chunk))
    found = packing.plan_packing(rows.lengths, 24)
    before = packing.TOKENS
    packing.TOKENS = tokens
    try:
        tables = list(packing.packed(rows, found))
    finally:
        packing.TOKENS = before
    seen = []
    for row in pa.concat_tables(tables).to_pylist():
        start = 0
        for size in row["seq_lengths"]:
            ids, labels = (row[name][start : start + size] for name in ("input_ids", "labels"))
            assert labels == [-100, *ids[1:]]
            seen.append(ids)
            start += size
        assert start == len(row["input_ids"]) <= 24
    assert sorted(seen) == [list(range(1000 * number, 1000 * number + size)) for number, size in enumerate(sizes)]


def test_a_row_longer_than_a_sequence() -> None:
    with pytest.raises(DataError, match=r"row 1: found 1 of 3 rows longer .* of 30;.*max_length=24"):
        packing.plan_packing(EncodedTables(_tables([3, 30, 5], 2)).lengths, 24)


def _prepared(tmp_path: Path, name: str, **options: Any) -> Any:
    fmt = ifmt.compile(None, "embedded", max_length=256)
    return fmt.prepare(ifmt.open_dataset("embedded"), progress=False, output_dir=tmp_path / name, **options)


def test_prepare_packs(tmp_path: Path) -> None:
    plain = _prepared(tmp_path, "plain")
    packed = _prepared(tmp_path, "packed", packing=True)
    assert packed.dataset.column_names == ["input_ids", "labels", "seq_lengths"]
    assert sum(map(len, packed.dataset["seq_lengths"])) == len(plain.dataset)
    trained = [sum(label != -100 for labels in one.dataset["labels"] for label in labels) for one in (plain, packed)]
    assert trained[0] == trained[1] == packed.report.trained_tokens
    assert f"{len(plain.dataset)} rows in {len(packed.dataset)} sequences of 256 tokens" in str(packed.report)
    again = _prepared(tmp_path, "packed", packing=256)
    assert again.report.cache == "cache hit"
    other = _prepared(tmp_path, "packed", packing=512)
    assert other.report.cache.startswith("miss")
    assert max(map(len, other.dataset["input_ids"])) > 256


@pytest.mark.parametrize("output_format", ["arrow", "parquet"])
def test_the_same_from_one_and_two_workers(output_format: str, tmp_path: Path) -> None:
    made = [
        _prepared(
            tmp_path, str(count), packing=300, num_proc=count, batch_size=16, output_format=output_format
        ).dataset.to_list()
        for count in (1, 2)
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"packing": 0}, "packing: found 0; expected true, or a number of tokens"),
        ({"packing": 40}, "rows longer than a packed sequence of 40 tokens"),
        ({"packing": True, "keep_columns": ["source"]}, "source beside packing"),
    ],
    ids=str,
)
def test_what_cannot_be_packed(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    fmt = ifmt.compile(None, "embedded", max_length=256)
    data = ifmt.open_dataset("embedded")
    data = data.add_column("source", ["a"] * len(data))
    with pytest.raises(ifmt.InstructFmtError, match=message):
        fmt.prepare(data, progress=False, output_dir=tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_packing_needs_a_length(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no max_length"):
        ifmt.compile(None, "embedded").prepare(ifmt.open_dataset("embedded"), packing=True, progress=False)
