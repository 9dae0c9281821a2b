"""Batches for `transformers.Trainer`.

In: rows with `input_ids` and `labels`, as a `Formatter` makes them. Out: padded int64 tensors. Padding goes
by length and never by a comparison with the pad token, which may be the EOS token that the model must learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from instruct_fmt.emit import UNTRAINED
from instruct_fmt.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["Collator"]


@dataclass(frozen=True, slots=True)
class Collator:
    """Pads rows to the longest one; the `data_collator` of `transformers.Trainer` and of TRL's `SFTTrainer`.

    Args:
        pad_token_id: what fills `input_ids`; any id of the vocabulary, since nothing is read at those places.
        pad_to_multiple_of: rounds the length of the batch, in tokens, up to a multiple of this.
        padding_side: where the padding goes.
        label_pad: what fills `labels`: the loss's `ignore_index`.

    Raises:
        UsageError: an argument that cannot work.
        DataError: no rows, a row without `input_ids` or `labels`, or with different lengths of the two.

    >>> from instruct_fmt.train import Collator
    >>> pad = Collator(pad_token_id=0)
    >>> rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}]
    >>> pad.arrays(rows)["labels"]
    array([[-100,    6,    7],
           [   8, -100, -100]])
    """

    pad_token_id: int
    pad_to_multiple_of: int | None = None
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

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels` and `attention_mask`: int64 tensors of shape (rows, length)."""
        import torch

        return {name: torch.from_numpy(array) for name, array in self.arrays(rows).items()}

    def arrays(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, npt.NDArray[np.int64]]:
        """The same batch as numpy arrays, without torch."""
        pairs = [_pair(row, index) for index, row in enumerate(rows)]
        if not pairs:
            raise DataError("batch", "no rows", "at least one", "check the batch size")
        longest = max(len(ids) for ids, _ in pairs)
        step = self.pad_to_multiple_of or 1
        shape = (len(pairs), -(-longest // step) * step)
        batch = {
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
        return batch


def _pair(row: Mapping[str, Any], index: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    missing = [name for name in ("input_ids", "labels") if name not in row]
    if missing:
        raise DataError(
            f"row {index} of the batch",
            f"the columns {sorted(row)}",
            "input_ids and labels",
            "prepare the dataset with a Formatter, and keep both columns",
        )
    ids = np.asarray(row["input_ids"], dtype=np.int64)
    labels = np.asarray(row["labels"], dtype=np.int64)
    if ids.shape != labels.shape or ids.ndim != 1:
        raise DataError(
            f"row {index} of the batch",
            f"input_ids of shape {ids.shape} and labels of shape {labels.shape}",
            "two lists of one length",
            "give what the Formatter made, unchanged",
        )
    return ids, labels
