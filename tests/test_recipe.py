"""Recipes: datasets mixed by weight, shuffled, each row once, some held out; the same bytes however it is run."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import instruct_fmt as ifmt
from instruct_fmt.errors import ConfigError, DataError, UsageError
from instruct_fmt.fit import mix

SIZES = {"a": 60, "b": 25, "c": 11}


def _rows(name: str, size: int) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"{name} asks {number}"},
                {"role": "assistant", "content": f"{name} answers {number}."},
            ],
            "origin": f"{name}{number}",
        }
        for number in range(size)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, size in SIZES.items():
        _write(tmp_path / f"{name}.jsonl", _rows(name, size))
    return tmp_path


def _write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _prepare(folder: Path, per_set: dict[str, dict[str, Any]] | None = None, **more: Any) -> Any:
    entries = [{"path": str(folder / f"{name}.jsonl"), **(per_set or {}).get(name, {})} for name in SIZES]
    run = {name: more.pop(name) for name in ("num_proc", "output_dir", "reuse") if name in more}
    config = {"tokenizer": "embedded", "template": "chatml", "datasets": entries, "keep_columns": ["origin"], **more}
    return ifmt.prepare(config, progress=False, **run)


def _origins(dataset: datasets.Dataset) -> list[str]:
    return list(dataset["origin"])


def _counted(dataset: datasets.Dataset) -> dict[str, int]:
    return dict(Counter(origin[0] for origin in _origins(dataset)))


WEIGHTS: dict[str, dict[str, Any]] = {"a": {"weight": 2}, "b": {"weight": 1}, "c": {"weight": 0.5}}


@pytest.mark.parametrize(
    ("interleave", "wanted"),
    [("first_exhausted", {"a": 44, "b": 22, "c": 11}), ("all_exhausted", {"a": 60, "b": 30, "c": 15})],
)
def test_shares_are_as_asked(folder: Path, interleave: str, wanted: dict[str, int]) -> None:
    for shuffle in (False, True):
        prepared = _prepare(folder, WEIGHTS, interleave=interleave, shuffle=shuffle)
        found = _counted(prepared.dataset)
        total = sum(found.values())
        assert all(abs(found[name] - total * WEIGHTS[name]["weight"] / 3.5) <= 1 for name in SIZES)
        assert all(abs(found[name] - wanted[name]) <= 1 for name in SIZES)


def test_what_is_used_up_is_repeated_as_a_whole(folder: Path) -> None:
    prepared = _prepare(folder, interleave="all_exhausted", shuffle=True)
    times = Counter(_origins(prepared.dataset))
    assert _counted(prepared.dataset) == dict.fromkeys(SIZES, 60)
    for name, size in SIZES.items():
        of_set = [times[f"{name}{number}"] for number in range(size)]
        assert max(of_set) - min(of_set) <= 1


def test_the_same_bytes_from_any_run(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"interleave": "all_exhausted", "shuffle": True, "seed": 3, "validation": 0.1}
    runs: list[dict[str, Any]] = [{}, {"num_proc": 2}, {"reuse": False}, {"output": {"format": "parquet"}}]
    tables = []
    for number, more in enumerate(runs):
        target = tmp_path / f"out{number}"
        tables.append(_prepare(folder, WEIGHTS, output_dir=target, **{**options, **more}).splits)
    for splits in tables[1:]:
        for name in ("train", "validation"):
            assert splits[name][:] == tables[0][name][:]
    same = _prepare(folder, WEIGHTS, output_dir=tmp_path / "out0", **options)
    assert same.report.cache == "cache hit"
    other = _prepare(folder, WEIGHTS, output_dir=tmp_path / "out0", **{**options, "seed": 4})
    assert other.report.cache == "miss: output changed"
    assert _origins(other.dataset) != _origins(same.dataset)
    assert sorted(Counter(one[0] for one in _origins(other.dataset))) == ["a", "b", "c"]


def test_every_row_keeps_its_own_columns(folder: Path) -> None:
    prepared = _prepare(folder, shuffle=True, interleave="first_exhausted", validation=5)
    for dataset in prepared.splits.values():
        for row in dataset:
            text = prepared_text(row["input_ids"])
            assert f"{row['origin'][0]} asks {row['origin'][1:]}<" in text


def prepared_text(ids: list[int]) -> str:
    return str(ifmt.compile("chatml", "embedded").tokenizer.decode(ids))


def test_datasets_are_spread_evenly_where_nothing_is_shuffled(folder: Path) -> None:
    prepared = _prepare(folder, WEIGHTS, interleave="first_exhausted")
    origins = _origins(prepared.dataset)
    for name in SIZES:
        assert [one for one in origins if one[0] == name] == [
            f"{name}{k}" for k in range(_counted(prepared.dataset)[name])
        ]
    for start in range(0, len(origins) - 14, 7):
        seen = Counter(one[0] for one in origins[start : start + 14])
        assert abs(seen["a"] - 8) <= 1


def test_one_behind_the_other_unless_asked(folder: Path) -> None:
    whole = [f"{name}{number}" for name, size in SIZES.items() for number in range(size)]
    assert _origins(_prepare(folder).dataset) == whole
    shuffled = _origins(_prepare(folder, shuffle=True).dataset)
    assert shuffled != whole
    assert sorted(shuffled) == sorted(whole)


def test_rows_fractions_epochs_and_limits(folder: Path) -> None:
    per_set: dict[str, dict[str, Any]] = {"a": {"rows": 10}, "b": {"fraction": 0.2}, "c": {"epochs": 1.5}}
    first = _origins(_prepare(folder, per_set).dataset)
    assert first == [
        *(f"a{k}" for k in range(10)), *(f"b{k}" for k in range(5)), *(f"c{k}" for k in range(11)),
        *(f"c{k}" for k in range(6)),
    ]  # fmt: skip
    some = _prepare(folder, per_set, shuffle=True)
    assert _counted(some.dataset) == {"a": 10, "b": 5, "c": 17}
    assert {one for one in _origins(some.dataset) if one[0] == "a"} != {f"a{k}" for k in range(10)}
    assert _counted(_prepare(folder, per_set, limit=4).dataset) == {"a": 4, "b": 4, "c": 6}


def test_held_out_rows_are_whole_conversations_of_other_texts(tmp_path: Path) -> None:
    def talk(number: int, turns: int) -> dict[str, Any]:
        messages = []
        for turn in range(turns):
            messages += [
                {"role": "user", "content": f"{number % 40} says {turn}"},
                {"role": "assistant", "content": f"{number % 40} hears {turn}"},
            ]
        return {"messages": messages, "origin": f"r{number}"}

    path = _write(tmp_path / "talks.jsonl", [talk(number, 1 + number % 3) for number in range(80)])
    config = {"tokenizer": "embedded", "template": "chatml", "datasets": [path], "history": "expand"}
    prepared = ifmt.prepare({**config, "keep_columns": ["origin"]}, "validation=0.25", progress=False)
    assert prepared.validation is not None
    sides = [prepared.dataset, prepared.validation]
    texts, origins = ([set(map(str, side[name])) for side in sides] for name in ("input_ids", "origin"))
    assert not texts[0] & texts[1]
    assert not origins[0] & origins[1]
    total = sum(map(len, sides))
    assert abs(len(sides[1]) - total / 4) <= 6  # the largest group
    assert len({str(row) for side in sides for row in side["origin"]}) == 80


def test_a_number_of_rows_is_held_out(folder: Path) -> None:
    prepared = _prepare(folder, validation=10)
    assert prepared.validation is not None
    assert _counted(prepared.validation) == {"a": 6, "b": 3, "c": 1}
    assert sorted([*_origins(prepared.dataset), *_origins(prepared.validation)]) == sorted(
        _origins(_prepare(folder).dataset)
    )


def test_datasets_are_held_out(folder: Path) -> None:
    held_out = _write(folder / "held.jsonl", [*_rows("v", 5), *_rows("a", 2)])
    prepared = _prepare(folder, validation_datasets=[held_out], shuffle=True)
    assert prepared.validation is not None
    assert _origins(prepared.validation) == ["v0", "v1", "v2", "v3", "v4", "a0", "a1"]
    assert _counted(prepared.dataset) == {"a": 58, "b": 25, "c": 11}
    assert prepared.report.counts["same_in_validation"] == 2
    assert "2 rows like some for validation" in str(prepared.report)


def test_equal_rows_are_there_once(folder: Path) -> None:
    _write(folder / "b.jsonl", [*_rows("a", 10), *_rows("b", 5), *_rows("b", 5)])
    prepared = _prepare(folder, deduplicate=True)
    assert _counted(prepared.dataset) == {"a": 60, "b": 5, "c": 11}
    assert prepared.report.counts["duplicates"] == 15
    assert "15 rows like earlier ones" in str(prepared.report)


def test_packed_splits(folder: Path) -> None:
    options: dict[str, Any] = {"validation": 12, "shuffle": True, "keep_columns": []}
    plain, packed = _prepare(folder, **options), _prepare(folder, packing=128, **options)
    assert packed.validation is not None
    for before, after in ((plain.dataset, packed.dataset), (plain.validation, packed.validation)):
        wanted = sorted(before["input_ids"])
        found = []
        for row in after:
            edges = np.cumsum([0, *row["seq_lengths"]]).tolist()
            found += [row["input_ids"][a:b] for a, b in pairwise(edges)]
        assert sorted(found) == wanted
        assert sum(label != -100 for row in before["labels"] for label in row) == sum(
            label != -100 for row in after["labels"] for label in row
        )
    assert "packed" in str(packed.report)


def test_one_dataset_from_python() -> None:
    fmt = ifmt.compile(None, "embedded")
    prepared = fmt.prepare(
        ifmt.open_dataset("embedded"), validation=0.1, shuffle=True, deduplicate=True, progress=False
    )
    assert prepared.splits.num_rows == {"train": 55, "validation": 6}
    assert fmt.prepare(ifmt.open_dataset("embedded"), progress=False).validation is None


def test_the_saved_folder_is_opened_by_datasets(folder: Path, tmp_path: Path) -> None:
    _prepare(folder, validation=10, output_dir=tmp_path / "out")
    found = datasets.load_from_disk(str(tmp_path / "out"))
    assert isinstance(found, datasets.DatasetDict)
    assert found.num_rows == {"train": 86, "validation": 10}
    found.map(lambda row: {"size": len(row["input_ids"])})  # leaves caches beside the files
    again = _prepare(folder, validation=10, output_dir=tmp_path / "out")
    assert again.report.cache == "cache hit"
    plain = _prepare(folder, output_dir=tmp_path / "out")
    assert plain.validation is None
    assert not (tmp_path / "out" / "validation").exists()


@pytest.mark.parametrize(
    ("more", "per_set", "found", "fix"),
    [
        ({}, {"a": {"weight": 2}}, "weight: found 2", "interleave: first_exhausted"),
        ({}, {"c": {"rows": 12}}, "rows: found 12; expected at most the 11", "rows: 11"),
        ({"validation": 96}, {}, "no row", "fewer"),
        ({"seed": -1}, {}, "seed: found -1", "seed: 42"),
        ({"seed": -1, "shuffle": True, "limit": 3}, {}, "seed: found -1", "seed: 42"),
    ],
)
def test_what_cannot_work_is_refused(
    more: dict[str, Any], per_set: dict[str, Any], found: str, fix: str, folder: Path
) -> None:
    with pytest.raises((UsageError, DataError)) as caught:
        _prepare(folder, per_set, **more)
    assert found in str(caught.value)
    assert fix in str(caught.value)


def test_keys_that_decide_the_same(folder: Path) -> None:
    with pytest.raises(ConfigError, match="`rows` or `fraction`"):
        _prepare(folder, {"a": {"rows": 5, "fraction": 0.5}})
    with pytest.raises(ConfigError, match="a share above 0 and below 1, or a number of rows"):
        _prepare(folder, validation=1.0)


SIZE = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.tuples(SIZE, st.floats(0.01, 9)), min_size=1, max_size=5), first=st.booleans())
def test_quotas_are_within_one_row(sizes: list[tuple[int, float]], first: bool) -> None:
    available, weights = [size for size, _ in sizes], [weight for _, weight in sizes]
    found = mix.quotas(available, weights, "first_exhausted" if first else "all_exhausted")
    total = sum(found)
    for count, weight in zip(found, weights, strict=True):
        assert abs(count - total * weight / sum(weights)) < 1 + 1e-9
    pairs = list(zip(found, available, strict=True))
    if first:
        assert all(count <= size for count, size in pairs)
        assert any(count >= size - 1 for count, size in pairs)
    else:
        assert all(count >= size for count, size in pairs)


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=30))
def test_rows_that_belong_together(pairs: list[tuple[int, int]]) -> None:
    """Beside the slow way: rows join as long as any two share a key."""
    left, right = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    groups = [{place} for place in range(len(pairs))]
    joined = True
    while joined:
        joined = False
        for one in groups:
            other = next(
                (
                    g
                    for g in groups
                    if g is not one and any(pairs[i][k] == pairs[j][k] for i in one for j in g for k in (0, 1))
                ),
                None,
            )
            if other is not None:
                one |= other
                groups.remove(other)
                joined = True
                break
    wanted = {place: min(group) for group in groups for place in group}
    assert mix.together(left, right).tolist() == [wanted[place] for place in range(len(pairs))]


def test_orders_never_change() -> None:
    """Recipes of today must give the same rows with the libraries of tomorrow."""
    assert mix.shuffled(8, 42).tolist() == [4, 1, 3, 6, 0, 7, 2, 5]
    assert mix.taken_rows(3, 5, seed=1).tolist() == [2, 0, 1, 1, 0]
