"""Rows that a plan rendered to ids and trained flags, all at once.

In: `PlannedRows`. Out: a `Block`, flat arrays for many rows, and the rows that must go one by one: those that hold
control tokens of their own, and those whose tokens byte lengths cannot place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.encode.align import overlaps, overlaps_in_order
from instruct_fmt.encode.backends import Backend
from instruct_fmt.encode.control import ControlTokens
from instruct_fmt.encode.vocabulary import Vocabulary
from instruct_fmt.types import Bools, Ints, PlannedRows


@dataclass(frozen=True, slots=True)
class Block:
    """Encoded rows: row i is `ids[offsets[i]:offsets[i + 1]]`, and `trained` likewise."""

    ids: npt.NDArray[np.int32]
    trained: Bools
    offsets: Ints

    def take(self, rows: Ints) -> Block:
        """Some of the rows, in the order asked for."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], counts)
        return Block(self.ids[places], self.trained[places], offsets)


def joined(blocks: list[Block]) -> Block:
    """Blocks one behind the other."""
    ends = np.cumsum([0, *(block.offsets[-1] for block in blocks)])
    offsets = [block.offsets[1:] + end for block, end in zip(blocks, ends, strict=False)]
    return Block(
        np.concatenate([np.zeros(0, np.int32), *(block.ids for block in blocks)]),
        np.concatenate([np.zeros(0, np.bool_), *(block.trained for block in blocks)]),
        np.concatenate([np.zeros(1, np.int64), *offsets]),
    )


class PlannedEncoder:
    """Encodes planned rows.

    Args:
        vocabulary: the tokenizer.
        backend: the engine.
        control: the control tokens, or None where rows may write them.
        split: whether the two sides of a cut are encoded apart.
    """

    def __init__(self, vocabulary: Vocabulary, backend: Backend, control: ControlTokens | None, *, split: bool) -> None:
        self.vocabulary, self.backend = vocabulary, backend
        self._split = split
        self._control = control
        self._pattern = None if control is None else _net([token.content for token in vocabulary.added])
        self.able = vocabulary.lengths is not None and (not split or vocabulary.continuation is vocabulary.backend)

    def encode(self, rows: PlannedRows) -> tuple[Block, Bools]:
        """The rows as a block, and for each whether it is right; one that is not must be encoded on its own."""
        texts, edges = rows.texts, self._edges(rows)
        size, width = len(texts), edges.shape[1] - 1
        right = self._without_control_tokens(rows) & self._unchanged(texts)
        ids, offsets = self.backend.encode(_pieces(texts, edges))
        assert self.vocabulary.lengths is not None
        lengths = self.vocabulary.lengths[ids]
        ends = np.cumsum(lengths)
        before = np.concatenate([np.zeros(1, np.int64), ends])[offsets]
        placed = np.diff(before).reshape(size, width) == np.diff(edges, axis=1)
        right &= placed.all(axis=1)
        # A piece whose lengths do not add up must not move its neighbours.
        counts = np.diff(offsets)
        ends = ends + np.repeat(edges[:, :-1].reshape(-1) - before[:-1], counts)
        trained = (
            overlaps_in_order(ends - lengths, ends, rows.trained.reshape(-1, 2))
            if placed.all()
            else self._each(ends - lengths, ends, rows.trained, offsets[::width])
        )
        block = Block(ids, trained, offsets[::width])
        if self._control is not None:
            right &= self._shown(block) == self._control.count(rows.marked.text)
        if rows.marked.bos and self.vocabulary.prefix:
            right &= ~_begins(block, self.vocabulary.prefix)
        return self._with_ends(block, rows), right

    def _shown(self, block: Block) -> Ints:
        """For each row how many control tokens it has."""
        sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.vocabulary.visible[block.ids])])
        return np.diff(sums[block.offsets])

    def _edges(self, rows: PlannedRows) -> Ints:
        """Where the pieces of the rows lie in the buffer of texts, in bytes; shape (rows, pieces + 1)."""
        starts = np.frombuffer(rows.texts.buffers()[1], np.int64)[rows.texts.offset :][: len(rows.texts) + 1]
        rows.trained[:] += starts[:-1, None, None]
        cuts = rows.cuts + starts[:-1, None] if self._split else rows.cuts[:, :0]
        return np.concatenate([starts[:-1, None], cuts, starts[1:, None]], axis=1)

    def _each(self, starts: Ints, ends: Ints, ranges: Ints, offsets: Ints) -> Bools:
        found = np.zeros(len(starts), np.bool_)
        for row, (left, right) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
            found[left:right] = overlaps(starts[left:right], ends[left:right], ranges[row])
        return found

    def _without_control_tokens(self, rows: PlannedRows) -> Bools:
        """Rows in which only the template wrote control tokens: as many as in its literals."""
        if self._pattern is None:
            return np.ones(len(rows.texts), np.bool_)
        own = len(re.findall(self._pattern, rows.marked.text))
        found: Bools = pc.equal(pc.count_substring_regex(rows.texts, self._pattern), own).to_numpy(zero_copy_only=False)
        return found

    def _unchanged(self, texts: pa.Array) -> Bools:
        """Rows that no normaliser changes, whose byte lengths therefore cannot agree by accident."""
        right = np.ones(len(texts), np.bool_)
        if self.vocabulary.normalises:
            normalizer = self.vocabulary.backend.normalizer
            rows = np.flatnonzero(~pc.string_is_ascii(texts).to_numpy(zero_copy_only=False))
            found = texts.take(pa.array(rows))
            if type(normalizer).__name__ == "NFC":
                right[rows] = pc.equal(pc.utf8_normalize(found, "NFC"), found).to_numpy(zero_copy_only=False)
            else:
                right[rows] = [normalizer.normalize_str(text) == text for text in found.to_pylist()]
        return right

    def _with_ends(self, block: Block, rows: PlannedRows) -> Block:
        """The block with BOS in front and EOS behind each row, where they are missing."""
        marked, vocabulary = rows.marked, self.vocabulary
        prefix = np.asarray(vocabulary.prefix if marked.bos else [], np.int32)
        suffix = np.asarray([vocabulary.eos_id] if marked.eos and vocabulary.eos_id is not None else [], np.int32)
        if not len(prefix) and not len(suffix):
            return block
        counts = np.diff(block.offsets)
        extra = len(prefix) + len(suffix)
        offsets = block.offsets + np.arange(len(counts) + 1) * extra
        ids, trained = np.empty(offsets[-1], np.int32), np.zeros(offsets[-1], np.bool_)
        places = np.arange(len(block.ids)) + np.repeat(np.arange(len(counts)) * extra + len(prefix), counts)
        ids[places], trained[places] = block.ids, block.trained
        for number, id in enumerate(prefix):
            ids[offsets[:-1] + number] = id
        for number, id in enumerate(suffix):
            ids[offsets[1:] - len(suffix) + number] = id
            trained[offsets[1:] - len(suffix) + number] = True
        return Block(ids, trained, offsets)


def _begins(block: Block, prefix: list[int]) -> Bools:
    """Rows whose ids begin with BOS already."""
    starts, found = block.offsets[:-1], np.diff(block.offsets) >= len(prefix)
    for number, id in enumerate(prefix):
        places = np.minimum(starts + number, max(len(block.ids) - 1, 0))
        found &= block.ids[places] == id if len(block.ids) else False
    return found


def _pieces(texts: pa.Array, edges: Ints) -> pa.Array:
    """The pieces of all rows, in order, over the same buffer."""
    offsets = np.append(edges[:, :-1].reshape(-1), edges[-1:, -1])
    buffers = texts.buffers()
    return pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, [None, pa.py_buffer(offsets), buffers[2]])


def _net(tokens: list[str]) -> str | None:
    """A pattern that finds every one of the tokens; numbers in them stand for any number, to keep it short."""
    shapes = {re.sub(r"\d+", "0", token) for token in tokens if token.replace("▁", " ").strip()}
    if not shapes:
        return None
    words = sorted(shapes, key=len, reverse=True)
    return "|".join(re.escape(word).replace("0", "[0-9]+") for word in words)
