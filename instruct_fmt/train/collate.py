"""Batches for `transformers.Trainer`.

In: rows with `input_ids` and `labels`, as a `Formatter` makes them, or packed sequences of such rows. Out: int64
tensors, padded, or without padding, one row behind the other. Padding goes by length and never by a comparison with the
pad token, which may be the EOS token that the model must learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from instruct_fmt.emit import UNTRAINED, WEIGHTS
from instruct_fmt.errors import DataError, UsageError, shown

__all__ = ["Collator"]


@dataclass(frozen=True, slots=True)
class Collator:
    """Makes batches of rows; the `data_collator` of `transformers.Trainer` and of TRL's `SFTTrainer`.

    Args:
        pad_token_id: what fills `input_ids`; any id of the vocabulary, since nothing is read at those places.
        pad_to_multiple_of: rounds the length of the batch, in tokens, up to a multiple of this.
        padding_free: puts all rows, and those of packed sequences, one behind the other into a single one, of shape
            (1, tokens), with `position_ids` that begin anew with each row, and `cu_seq_lens_q` and its like, by which
            attention kernels know where that is.
        padding_side: where the padding goes.
        label_pad: what fills `labels`: the loss's `ignore_index`.

    Raises:
        UsageError: an argument that cannot work.
        DataError: no rows, a row without `input_ids` or `labels`, or with different lengths of the two, or packed
            sequences without `padding_free`: their rows would see each other.

    >>> from instruct_fmt.train import Collator
    >>> pad = Collator(pad_token_id=0)
    >>> rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}]
    >>> pad.arrays(rows)["labels"]
    array([[-100,    6,    7],
           [   8, -100, -100]])
    >>> flat = Collator(pad_token_id=0, padding_free=True).arrays(rows)
    >>> flat["input_ids"].tolist(), flat["position_ids"].tolist(), flat["cu_seq_lens_q"].tolist()
    ([[5, 6, 7, 8]], [[0, 1, 2, 0]], [0, 3, 4])
    """

    pad_token_id: int
    pad_to_multiple_of: int | None = None
    padding_free: bool = False
    padding_side: Literal["right", "left"] = "right"
    label_pad: int = UNTRAINED

    def __post_init__(self) -> None:
        if self.pad_token_id < 0:
            raise UsageError("pad_token_id", self.pad_token_id, "0 or more", "pass an id")
        if self.pad_to_multiple_of is not None and self.pad_to_multiple_of < 1:
            raise UsageError(
                "pad_to_multiple_of",
                self.pad_to_multiple_of,
                "1 or more, or None",
                "pass None to pad to the longest row only",
            )
        if self.padding_side not in ("right", "left"):
            raise UsageError("padding_side", f"{self.padding_side!r}", "right or left", "pass one of them")

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch of tensors.

        Returns:
            `input_ids`, `labels` and `attention_mask`: int64 tensors of shape (rows, length). With `padding_free`:
            `input_ids`, `labels` and `position_ids`, int64 of shape (1, tokens), `cu_seq_lens_q` and `cu_seq_lens_k`,
            int32 of shape (rows + 1,), and `max_length_q` and `max_length_k`, numbers. For rows that have them also
            `loss_weights`, float32, of the shape of the labels.
        """
        import torch

        arrays = self.arrays(rows)
        batch: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if self.padding_free:
            longest = int(np.diff(arrays["cu_seq_lens_q"]).max())
            batch |= {"max_length_q": longest, "max_length_k": longest}
        return batch

    def arrays(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, npt.NDArray[Any]]:
        """The same tensors as numpy arrays, without torch."""
        pairs = [_pair(row, index) for index, row in enumerate(rows)]
        if not pairs:
            raise DataError("batch", "no rows", "at least one", "check the batch size")
        sizes = [_sizes(row, len(ids), index) for index, (row, (ids, _)) in enumerate(zip(rows, pairs, strict=True))]
        weights = [
            _weights(row, len(ids), index) for index, (row, (ids, _)) in enumerate(zip(rows, pairs, strict=True))
        ]
        weighted = any(WEIGHTS in row for row in rows)
        if self.padding_free:
            return self._flat(pairs, np.concatenate(sizes), weights if weighted else None)
        if any(len(of_row) > 1 for of_row in sizes):
            raise DataError(
                "batch",
                "packed sequences, whose rows would see each other in a padded batch",
                "rows, or a collator without padding",
                "Collator(…, padding_free=True)",
            )
        return self._padded(pairs, weights if weighted else None)

    def _flat(
        self, pairs: Sequence[_Pair], sizes: npt.NDArray[np.int64], weights: Sequence[_Weights] | None
    ) -> dict[str, npt.NDArray[Any]]:
        """All rows one behind the other; what is padded at the end is a row of its own, of which nothing is trained."""
        total = int(sizes.sum())
        pad = -total % (self.pad_to_multiple_of or 1)
        sizes = np.append(sizes, pad) if pad else sizes
        edges = np.concatenate([[0], np.cumsum(sizes)])
        ids = np.concatenate([*(ids for ids, _ in pairs), np.full(pad, self.pad_token_id)])
        labels = np.concatenate([*(labels for _, labels in pairs), np.full(pad, self.label_pad)])
        labels[edges[:-1][sizes > 0]] = self.label_pad  # in front of it stands the end of another row
        lengths = edges.astype(np.int32)
        counted = {}
        if weights is not None:
            found = np.concatenate([*weights, np.zeros(pad, np.float32)])
            counted = {WEIGHTS: np.where(labels == self.label_pad, np.float32(0), found)[None]}
        return {
            "input_ids": ids[None],
            "labels": labels[None],
            "position_ids": (np.arange(len(ids)) - np.repeat(edges[:-1], sizes))[None],
            "cu_seq_lens_q": lengths,
            "cu_seq_lens_k": lengths.copy(),
            **counted,
        }

    def _padded(self, pairs: Sequence[_Pair], weights: Sequence[_Weights] | None) -> dict[str, npt.NDArray[Any]]:
        longest = max(len(ids) for ids, _ in pairs)
        step = self.pad_to_multiple_of or 1
        shape = (len(pairs), -(-longest // step) * step)
        batch: dict[str, npt.NDArray[Any]] = {
            "input_ids": np.full(shape, self.pad_token_id, dtype=np.int64),
            "labels": np.full(shape, self.label_pad, dtype=np.int64),
            "attention_mask": np.zeros(shape, dtype=np.int64),
        }
        for index, (ids, labels) in enumerate(pairs):
            start = 0 if self.padding_side == "right" else shape[1] - len(ids)
            place = slice(start, start + len(ids))
            batch["input_ids"][index, place] = ids
            batch["labels"][index, place] = labels
            batch["attention_mask"][index, place] = 1
            if weights is not None:
                batch.setdefault(WEIGHTS, np.zeros(shape, np.float32))[index, place] = weights[index]
        return batch


_Pair: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
_Weights: TypeAlias = npt.NDArray[np.float32]


def _weights(row: Mapping[str, Any], length: int, index: int) -> _Weights:
    """What each token of a row counts; 1 where it does not say."""
    if WEIGHTS not in row:
        return np.ones(length, np.float32)
    found = _array(row[WEIGHTS], np.float32, WEIGHTS, index)
    if found.shape != (length,):
        raise DataError(
            f"row {index} of the batch",
            f"loss_weights of shape {found.shape} beside {length} input_ids",
            "a number for each token",
            "give what the Formatter made, unchanged",
        )
    return found


def _sizes(row: Mapping[str, Any], length: int, index: int) -> npt.NDArray[np.int64]:
    """How many tokens each row of a packed sequence has; of a row, that it has."""
    sizes = _array(row.get("seq_lengths", [length]), np.int64, "seq_lengths", index)
    if sizes.ndim != 1 or sizes.sum() != length or (sizes < 0).any():
        raise DataError(
            f"row {index} of the batch",
            f"seq_lengths that add up to {sizes.sum()} beside {length} input_ids",
            "the lengths of the rows in it",
            "give what was packed, unchanged",
        )
    return sizes


def _array(value: Any, kind: Any, name: str, index: int) -> npt.NDArray[Any]:
    """A column of a row as an array.

    Raises:
        DataError: it holds no numbers.
    """
    try:
        return np.asarray(value, dtype=kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"row {index} of the batch",
            f"{name} {shown(value)}",
            "a list of numbers",
            "give what the Formatter made, unchanged",
        ) from error


def _pair(row: Mapping[str, Any], index: int) -> _Pair:
    if not isinstance(row, Mapping):
        fix = "give rows of a dataset that a Formatter prepared"
        raise DataError(f"row {index} of the batch", shown(row), "a row with its columns", fix)
    missing = [name for name in ("input_ids", "labels") if name not in row]
    if missing:
        raise DataError(
            f"row {index} of the batch",
            f"the columns {sorted(row)}",
            "input_ids and labels",
            "prepare the dataset with a Formatter, and keep both columns",
        )
    ids, labels = (_array(row[name], np.int64, name, index) for name in ("input_ids", "labels"))
    if ids.shape != labels.shape or ids.ndim != 1:
        raise DataError(
            f"row {index} of the batch",
            f"input_ids of shape {ids.shape} and labels of shape {labels.shape}",
            "two lists of one length",
            "give what the Formatter made, unchanged",
        )
    return ids, labels
