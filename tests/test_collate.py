"""The collator: padding by length, whatever the pad token is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from instruct_fmt.errors import DataError, UsageError
from instruct_fmt.train.collate import Collator

EOS = 9
ROWS: list[dict[str, Any]] = [
    {"input_ids": [4, 5, EOS], "labels": [-100, 5, EOS]},
    {"input_ids": [EOS], "labels": [EOS]},
]


def test_pads_on_the_right_and_keeps_an_eos_that_equals_the_pad_token() -> None:
    batch = Collator(EOS).arrays(ROWS)
    assert batch["input_ids"].tolist() == [[4, 5, EOS], [EOS, EOS, EOS]]
    assert batch["labels"].tolist() == [[-100, 5, EOS], [EOS, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}


def test_pads_on_the_left() -> None:
    batch = Collator(0, padding_side="left").arrays(ROWS)
    assert batch["input_ids"].tolist() == [[4, 5, EOS], [0, 0, EOS]]
    assert batch["labels"].tolist() == [[-100, 5, EOS], [-100, -100, EOS]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize(("multiple", "length"), [(None, 3), (1, 3), (2, 4), (3, 3), (8, 8)])
def test_rounds_the_length_up(multiple: int | None, length: int) -> None:
    assert Collator(0, pad_to_multiple_of=multiple).arrays(ROWS)["input_ids"].shape == (2, length)


def test_other_label_padding_and_int32_arrays() -> None:
    rows = [{"input_ids": np.array([1, 2], np.int32), "labels": np.array([1, 2], np.int32)}, ROWS[1]]
    assert Collator(0, label_pad=-1).arrays(rows)["labels"].tolist() == [[1, 2], [EOS, -1]]


def test_other_columns_are_left_out() -> None:
    rows = [{**ROWS[0], "text": "x", "attention_mask": [0, 0, 0]}]
    assert Collator(0).arrays(rows)["attention_mask"].tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "found no rows"),
        ([{"input_ids": [1]}], r"row 0 of the batch: found the columns \['input_ids'\]"),
        ([ROWS[0], {"input_ids": [1, 2], "labels": [1]}], r"row 1 of the batch: .* \(2,\) and .* \(1,\)"),
    ],
)
def test_bad_rows_are_named(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Collator(0).arrays(rows)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"pad_token_id": -1}, "pad_token_id"),
        ({"pad_token_id": 0, "pad_to_multiple_of": 0}, "pad_to_multiple_of"),
        ({"pad_token_id": 0, "padding_side": "up"}, "padding_side"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Collator(**options)


@pytest.mark.trainers
def test_tensors_are_the_arrays() -> None:
    import torch

    batch = Collator(0)(ROWS)
    assert set(batch) == {"input_ids", "labels", "attention_mask"}
    for name, array in Collator(0).arrays(ROWS).items():
        assert batch[name].dtype == torch.int64
        assert batch[name].tolist() == array.tolist()


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"input_ids": None, "labels": [1]}, "input_ids None"),
        ({"input_ids": "abc", "labels": [1]}, "input_ids 'abc'"),
        ({"input_ids": [1], "labels": ["x"]}, r"labels \['x'\]"),
        ({"input_ids": [1], "labels": [1], "seq_lengths": None}, "seq_lengths None"),
        ({"input_ids": [1], "labels": [1], "loss_weights": ["x"]}, r"loss_weights \['x'\]"),
        ({"input_ids": [1], "labels": [1], "loss_weights": [1, 2]}, "loss_weights of shape"),
        ([1, 2], r"\[1, 2\]"),
    ],
)
@pytest.mark.parametrize("free", [False, True])
def test_an_odd_row_is_named(row: Any, found: str, free: bool) -> None:
    good: Any = {"input_ids": [1], "labels": [1]}
    with pytest.raises(DataError, match=f"row 1 of the batch: found {found}"):
        Collator(0, padding_free=free).arrays([good, row])


def test_weights_are_padded_with_nothing() -> None:
    rows: list[dict[str, Any]] = [
        {"input_ids": [5, 6], "labels": [-100, 6], "loss_weights": [0, 0.5]},
        {"input_ids": [7], "labels": [7]},
    ]
    assert Collator(0).arrays(rows)["loss_weights"].tolist() == [[0, 0.5], [1, 0]]
    assert Collator(0, padding_side="left").arrays(rows)["loss_weights"].tolist() == [[0, 0.5], [0, 1]]
    flat = Collator(0, padding_free=True, pad_to_multiple_of=4).arrays(rows)
    assert flat["loss_weights"].tolist() == [[0, 0.5, 0, 0]]
    assert "loss_weights" not in Collator(0).arrays(rows[1:])
