"""Whether what reaches a model is what was prepared.

In: a prepared dataset, and batches as a model gets them, as arrays. Out: nothing where they agree; else a `DataError`
that says where they part, token by token, and the likeliest cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from instruct_fmt.common.ragged import offsets_of
from instruct_fmt.emit import UNTRAINED
from instruct_fmt.errors import DataError, NothingToLearn
from instruct_fmt.types import Ints

Tokens: TypeAlias = npt.NDArray[Any]
_SEED, _FACTOR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_BLOCK = 2_000_000
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Caught:
    """A row as a model gets it.

    Attributes:
        name: where it was, for messages.
        ids, labels: its tokens, without padding.
        may_be_padding: whether nothing tells, and nothing of it is trained.
        may_be_padded: whether nothing tells where padding begins.
    """

    name: str
    ids: Tokens
    labels: Tokens
    may_be_padding: bool = False
    may_be_padded: bool = False


class PreparedRows:
    """The rows of a prepared dataset, those of packed sequences apart, found by their ids.

    Args:
        ids, labels: all tokens, one row behind the other.
        sizes: how many each row has.
        is_packed: whether they are rows of packed sequences.
        is_whole: whether they are all rows that there are; false for the beginning of a stream.
    """

    def __init__(
        self,
        ids: npt.NDArray[np.int32],
        labels: npt.NDArray[np.int32],
        sizes: Ints,
        *,
        is_packed: bool,
        is_whole: bool = True,
    ) -> None:
        self._ids, self._labels = ids, labels
        self._offsets = offsets_of(sizes)
        self.is_packed, self.is_whole = is_packed, is_whole
        hashes = _hashes(ids, self._offsets)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    @classmethod
    def of(cls, tables: Sequence[pa.Table], *, is_whole: bool = True) -> PreparedRows:
        """The rows of tables.

        Raises:
            DataError: a column is missing.
        """
        if missing := [name for name in ("input_ids", "labels") if tables and name not in tables[0].column_names]:
            raise DataError(
                "dataset",
                f"the columns {', '.join(tables[0].column_names)}, without {' and '.join(missing)}",
                "a prepared dataset",
                "fmt.prepare(dataset).dataset",
            )
        is_packed = bool(tables) and "seq_lengths" in tables[0].column_names
        ids, labels = (_flat(tables, name)[0] for name in ("input_ids", "labels"))
        sizes = _flat(tables, "seq_lengths")[0] if is_packed else np.diff(_flat(tables, "input_ids")[1])
        return cls(ids, labels, sizes.astype(np.int64), is_packed=is_packed, is_whole=is_whole)

    def __len__(self) -> int:
        return len(self._order)

    def labels_of(self, ids: Tokens) -> list[Tokens]:
        """The labels of each row with these ids."""
        wanted = _hashes(ids.astype(np.int32), np.array([0, len(ids)]))[0]
        first, last = (int(np.searchsorted(self._hashes, wanted, side)) for side in ("left", "right"))
        return [self._labels[here] for here in map(self._at, self._order[first:last]) if _same(self._ids[here], ids)]

    def nearest(self, ids: Tokens) -> tuple[int, Tokens, int]:
        """The row that shares the longest beginning with these ids: its number, its ids, and how long that is."""
        left, shared = np.arange(len(self)), 0
        starts, sizes = self._offsets[:-1], np.diff(self._offsets)
        for place, id in enumerate(ids.tolist()):
            fits = left[sizes[left] > place]
            fits = fits[self._ids[starts[fits] + place] == id]
            if not len(fits):
                break
            left, shared = fits, place + 1
        row = int(left[0])
        return row, self._ids[self._at(row)], shared

    def _at(self, row: Any) -> slice:
        return slice(int(self._offsets[row]), int(self._offsets[row + 1]))


def check_batch(
    batch: Mapping[str, npt.NDArray[Any]], rows: PreparedRows, name: str, text: Callable[[int], str]
) -> None:
    """Compare a batch with the prepared rows.

    Args:
        batch: what the model gets: `input_ids`, `labels`, and what says where rows begin and end.
        rows: the prepared rows.
        name: the batch, for messages.
        text: the text of a token.

    Raises:
        DataError: a row is another than was prepared, or is trained otherwise.
        NothingToLearn: no token of the batch is trained.
    """
    if "labels" not in batch:
        raise DataError(
            name,
            f"no labels, but {', '.join(batch)}",
            "the prepared labels",
            "keep the column `labels`: remove_unused_columns=False, or a collator that hands it on; where a "
            "compute_loss_func takes it, guard=False",
        )
    _check_padding(batch, name)
    _check_places(batch, name)
    found = [_unpadded(row, rows) for row in caught(batch, name)]
    known = [rows.labels_of(row.ids) for row in found]
    if rows.is_packed and len(found) == len(batch["input_ids"]) and not any(known):
        raise DataError(
            name,
            "packed sequences without the places where their rows begin: they see each other",
            "position_ids that begin anew with each row",
            "sft_kwargs(fmt, padding_free=True), or Collator(…, padding_free=True)",
        )
    for row, labels in zip(found, known, strict=True):
        if not labels and not row.may_be_padding:
            _check_cut(row, rows, text)
    if not any((row.labels[1:] != UNTRAINED).any() for row in found):
        raise NothingToLearn(
            name,
            "no token that is trained",
            "the trained tokens of the prepared rows",
            "take out what changes labels: another collator, completion_only_loss, assistant_only_loss",
        )
    for row, labels in zip(found, known, strict=True):
        if labels:
            _check_labels(row, labels, text)


def caught(batch: Mapping[str, npt.NDArray[Any]], name: str) -> Iterator[Caught]:
    """The rows of a batch, without padding."""
    ids, labels = batch["input_ids"], batch["labels"]
    if "attention_mask" in batch and batch["attention_mask"].ndim == ids.ndim:
        for number, mask in enumerate(batch["attention_mask"].astype(bool)):
            yield Caught(f"{name}, row {number}", ids[number][mask], labels[number][mask])
        return
    positions = batch.get("position_ids")
    for number, (row, said) in enumerate(zip(ids, labels, strict=True)):
        starts = np.zeros(1, np.int64) if positions is None else np.flatnonzero(positions[number] == 0)
        for part, (start, stop) in enumerate(zip(starts, [*starts[1:], len(row)], strict=True)):
            untrained = not (said[start + 1 : stop] != UNTRAINED).any()
            where = f"{name}, row {number or part}"
            yield Caught(where, row[start:stop], said[start:stop], untrained, may_be_padded=positions is None)


def _unpadded(row: Caught, rows: PreparedRows) -> Caught:
    """A row without the padding behind it: one id again and again, untrained, behind a prepared row."""
    if not row.may_be_padded or not len(rows) or rows.labels_of(row.ids):
        return row
    _, ids, shared = rows.nearest(row.ids)
    behind = row.ids[shared:]
    is_padding = len(set(behind.tolist())) == 1 and (row.labels[shared:] == UNTRAINED).all()
    if shared < len(ids) or not is_padding:
        return row
    return replace(row, ids=row.ids[:shared], labels=row.labels[:shared])


def _check_places(batch: Mapping[str, npt.NDArray[Any]], name: str) -> None:
    """Both ways to say where rows begin say the same."""
    positions, lengths = batch.get("position_ids"), batch.get("cu_seq_lens_q")
    if positions is None or lengths is None or len(positions) != 1:
        return
    begins = np.flatnonzero(positions[0] == 0)
    said = np.unique(lengths[lengths < positions.shape[1]])
    if not np.array_equal(begins, said):
        raise DataError(
            name,
            f"cu_seq_lens_q of {len(said)} rows beside position_ids of {len(begins)}: some rows see each other",
            "the same places in both",
            "use the collator of instruct_fmt.train",
        )


def _check_padding(batch: Mapping[str, npt.NDArray[Any]], name: str) -> None:
    mask = batch.get("attention_mask")
    if mask is not None and mask.shape == batch["labels"].shape and (batch["labels"][mask == 0] != UNTRAINED).any():
        raise DataError(
            name,
            "labels where there is padding",
            f"{UNTRAINED} there",
            "use the collator of instruct_fmt.train",
        )


def _check_labels(row: Caught, known: Sequence[Tokens], text: Callable[[int], str]) -> None:
    """The labels of one of the prepared rows that have these ids."""
    # The first label is the loss of nothing: nothing stands in front of it.
    if any(_same(labels[1:], row.labels[1:]) for labels in known):
        return
    labels = known[0]
    places = 1 + np.flatnonzero(labels[1:] != row.labels[1:])
    shown = "; ".join(
        f"position {place} ({text(int(row.ids[place]))}): {row.labels[place]} for {labels[place]}"
        for place in places[:_SHOWN].tolist()
    )
    more = f", and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    raise DataError(
        row.name,
        f"{len(places)} labels that are not the prepared ones: {shown}{more}",
        f"the {int((labels != UNTRAINED).sum())} trained tokens of the prepared row",
        _cause(row, labels, places),
    )


def _cause(row: Caught, labels: Tokens, places: Ints) -> str:
    """What most likely changed labels."""
    now, before = row.labels[places], labels[places]
    if (before == UNTRAINED).all():
        return "the prompt is trained: use the collator of instruct_fmt.train, and completion_only_loss=False"
    if (now == UNTRAINED).all() and len(set(before.tolist())) == 1:
        return "a collator takes this token for padding, such as transformers': use the one of instruct_fmt.train"
    if (now == UNTRAINED).all():
        return "something masks trained tokens: assistant_only_loss=False, completion_only_loss=False"
    if _same(row.labels[:-1], labels[1:]):
        return "the labels are shifted; the model does that itself"
    return "sft_kwargs(fmt) and the collator of instruct_fmt.train leave labels as they are"


def _check_cut(row: Caught, rows: PreparedRows, text: Callable[[int], str]) -> None:
    """A row that was not prepared so: cut, longer, or another one."""
    if not len(rows):
        return
    number, ids, shared = rows.nearest(row.ids)
    if not rows.is_whole and shared < max(len(row.ids) // 2, 1):
        return  # of a stream only the first rows are known
    said = f"{len(row.ids)} tokens, of which {shared} are the beginning of the prepared row {number} of {len(ids)}"
    if shared == len(row.ids):
        fix = "the row was cut: max_length=None, as sft_kwargs(fmt) says"
    elif shared == len(ids):
        added = " ".join(text(int(id)) for id in row.ids[shared : shared + _SHOWN])
        fix = f"something adds {added} behind it: dataset_kwargs={{'skip_prepare_dataset': True}}, eos_token=None"
    else:
        fix = "train on the dataset that the guard was given, with the same tokenizer"
    raise DataError(row.name, said, "a prepared row, whole", fix)


def _same(left: Tokens, right: Tokens) -> bool:
    return len(left) == len(right) and bool((left == right).all())


def _flat(tables: Sequence[pa.Table], name: str) -> tuple[npt.NDArray[np.int32], Ints]:
    """All values of a column of lists, and their offsets."""
    chunks = [chunk for table in tables for chunk in table.column(name).chunks]
    values = [chunk.flatten().to_numpy(zero_copy_only=False).astype(np.int32) for chunk in chunks]
    counts = [np.diff(chunk.offsets.to_numpy()) for chunk in chunks]
    none = np.zeros(0, np.int32)
    return np.concatenate([none, *values]), offsets_of(np.concatenate([none, *counts]).astype(np.int64))


def _hashes(ids: npt.NDArray[np.int32], offsets: Ints) -> npt.NDArray[np.uint64]:
    """A number for each row that is the same for the same ids in the same order; collisions are looked at by whoever
    asks."""
    found = np.zeros(len(offsets) - 1, np.uint64)
    start = 0
    while start < len(found):
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + _BLOCK, "right")) - 1)
        sizes = np.diff(offsets[start : stop + 1])
        places = np.arange(offsets[start], offsets[stop]) - np.repeat(offsets[start:stop], sizes)
        values = (ids[offsets[start] : offsets[stop]].astype(np.uint64) + np.uint64(1)) * _SEED
        mixed = (values ^ (values >> np.uint64(29))) * (places.astype(np.uint64) * _FACTOR + np.uint64(1))
        sums = np.concatenate([[np.uint64(0)], np.cumsum(mixed, dtype=np.uint64)])
        edges = offsets[start : stop + 1] - offsets[start]
        found[start:stop] = sums[edges[1:]] - sums[edges[:-1]]
        start = stop
    return found
