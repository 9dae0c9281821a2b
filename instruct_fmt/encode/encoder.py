"""Marked texts to ids and trained flags.

In: `Marked` rows. Out: for each an `EncodedRow`, or the `RowError` that says why there is none. Most rows go through
the backend in one batch, their tokens placed by byte lengths; rows with control tokens of their own, and rows whose
byte lengths do not add up, go one by one, placed by the reference tokenizer's offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from instruct_fmt.encode.align import byte_ranges, check_offsets, overlaps
from instruct_fmt.encode.backends import Backend, ReferenceBackend
from instruct_fmt.encode.control import ControlTokens, Occurrence, Pieces
from instruct_fmt.encode.planned import PlannedEncoder
from instruct_fmt.encode.vocabulary import Vocabulary
from instruct_fmt.errors import RowError, shown
from instruct_fmt.types import Bools, Ints, Marked, Range

ControlPolicy = Literal["text", "error", "allow"]


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """`ids` (int32) and `trained` of one row; `neutralised` where a control token became ordinary text."""

    ids: npt.NDArray[np.int32]
    trained: Bools
    neutralised: bool = False


@dataclass(frozen=True, slots=True)
class _Part:
    row: int
    start: int
    end: int
    text: str


class Encoder:
    """Encodes rows with one tokenizer.

    Args:
        vocabulary: the tokenizer.
        structural: token strings that no row may write.
        control: what happens to control tokens in a row's text.
        backend: the engine.
        split: whether the two sides of a cut are encoded apart.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        structural: Sequence[str],
        control: ControlPolicy,
        backend: Backend,
        *,
        split: bool,
    ) -> None:
        self.vocabulary = vocabulary
        self.control = ControlTokens(vocabulary, structural)
        self._policy = control
        self._split = split
        self._backend = backend
        self._continued: Backend = (
            self._backend
            if vocabulary.continuation is vocabulary.backend
            else ReferenceBackend(vocabulary.continuation)
        )

        self.planned = PlannedEncoder(vocabulary, backend, guarded=control != "allow", split=split)

    @property
    def backend(self) -> str:
        return self._backend.name

    def encode(self, rows: Sequence[Marked]) -> list[EncodedRow | RowError]:
        """Encode rows; the result for a row does not depend on the others."""
        results: dict[int, EncodedRow | RowError] = {}
        parts: list[_Part] = []
        for place, row in enumerate(rows):
            try:
                forbidden = self._forbidden(row)
                if forbidden:
                    results[place] = self._slow(row, forbidden)
                else:
                    parts += self._parts(place, row)
            except RowError as error:
                results[place] = error
        results.update(self._fast(rows, parts))
        return [results[place] for place in range(len(rows))]

    def pieces(self, row: Marked) -> Pieces:
        """The ids of a row with the characters of each, its ends included; for policies that look at characters."""
        forbidden = self._forbidden(row)
        ids: list[int] = []
        starts: list[int] = []
        ends: list[int] = []
        for part in self._parts(0, row):
            found = self._part_pieces(part, forbidden)
            ids += found.ids
            starts += [start + part.start for start in found.starts]
            ends += [end + part.start for end in found.ends]
        prefix, suffix = self._ends(row, ids)
        size = len(row.text)
        return Pieces(
            [*prefix, *ids, *suffix],
            [*[0] * len(prefix), *starts, *[size] * len(suffix)],
            [*[0] * len(prefix), *ends, *[size] * len(suffix)],
        )

    def _forbidden(self, row: Marked) -> list[Occurrence]:
        if self._policy == "allow" or not row.from_row:
            return []
        found = self.control.written_by_row(row)
        if found and self._policy == "error":
            start, end, _ = found[0]
            raise RowError(
                "control-token",
                path_of(row, start),
                f"the control token {shown(row.text[start:end])}",
                "ordinary text",
                'control_tokens="text" encodes it as ordinary text, control_tokens="allow" as the token',
            )
        return found

    def _parts(self, place: int, row: Marked) -> list[_Part]:
        cuts = [cut for cut in row.cuts if 0 < cut < len(row.text)] if self._split else []
        edges = [0, *sorted(set(cuts)), len(row.text)]
        return [_Part(place, start, end, row.text[start:end]) for start, end in pairwise(edges)]

    def _fast(self, rows: Sequence[Marked], parts: list[_Part]) -> list[tuple[int, EncodedRow | RowError]]:
        """Encode all parts in two batches, and put the rows together."""
        done: dict[tuple[int, int], tuple[npt.NDArray[np.int32], Bools]] = {}
        errors: dict[int, RowError] = {}
        for backend, chosen in (
            (self._backend, [part for part in parts if not self._continues(part)]),
            (self._continued, [part for part in parts if self._continues(part)]),
        ):
            if not chosen:
                continue
            ids, offsets = backend.encode([part.text for part in chosen])
            for part, left, right in zip(chosen, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
                try:
                    done[part.row, part.start] = self._placed(rows[part.row], part, ids[left:right])
                except RowError as error:
                    errors[part.row] = error
        by_row: dict[int, list[_Part]] = {}
        for part in parts:
            by_row.setdefault(part.row, []).append(part)
        return [
            (place, errors.get(place) or self._together(rows[place], [done[place, part.start] for part in of_row]))
            for place, of_row in by_row.items()
        ]

    def _together(self, row: Marked, parts: Sequence[tuple[npt.NDArray[np.int32], Bools]]) -> EncodedRow | RowError:
        """The row from its parts; anew where a normaliser made control tokens of what shows none."""
        found = sum(len(self.vocabulary.shown(ids)) for ids, _ in parts)
        if self._policy == "allow" or found == self.control.count(row.text):
            return self._joined(row, parts)
        try:
            return self._slow(row, [])
        except RowError as error:
            return error

    def _continues(self, part: _Part) -> bool:
        return part.start > 0

    def _placed(self, row: Marked, part: _Part, ids: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], Bools]:
        ranges = _inside(row.trained, part)
        if self.vocabulary.has_lengths and not self._changed(part.text):
            lengths = self.vocabulary.lengths(ids)
            ends: Ints = np.cumsum(lengths)
            if (int(ends[-1]) if len(ends) else 0) == len(part.text.encode()):
                starts = ends - lengths
                return ids, overlaps(starts, ends, byte_ranges(part.text, ranges))
        found = self._part_pieces(part, [])
        if found.ids != ids.tolist():
            raise RowError("offsets", "$", "other ids with offsets than without", "the same", "report this tokenizer")
        return ids, self._trained(found, ranges)

    def _trained(self, found: Pieces, ranges: Sequence[Range]) -> Bools:
        """Trained flags by the characters of each id. A control token is where it begins: it may swallow blanks."""
        starts, ends = np.asarray(found.starts, np.int64), np.asarray(found.ends, np.int64)
        control = self.vocabulary.shown(np.asarray(found.ids, np.int32))
        ends[control] = np.minimum(ends[control], starts[control] + 1)
        return overlaps(starts, ends, ranges)

    def _changed(self, text: str) -> bool:
        """Whether a normaliser changes the text, so that sums of byte lengths could agree by accident."""
        if not self.vocabulary.normalises or text.isascii():
            return False
        return bool(self.vocabulary.backend.normalizer.normalize_str(text) != text)

    def _part_pieces(self, part: _Part, forbidden: Sequence[Occurrence], *, safely: bool = False) -> Pieces:
        continues = self._continues(part)
        inside = [
            (start - part.start, end - part.start, id)
            for start, end, id in forbidden
            if part.start <= start and end <= part.end
        ]
        if inside or safely:
            return self.control.encode(part.text, inside, continues=continues)
        engine: Tokenizer = self.vocabulary.continuation if continues else self.vocabulary.backend
        encoding = engine.encode(part.text, add_special_tokens=False)
        check_offsets(encoding.offsets, part.text)
        return Pieces(encoding.ids, [start for start, _ in encoding.offsets], [end for _, end in encoding.offsets])

    def _slow(self, row: Marked, forbidden: list[Occurrence]) -> EncodedRow:
        parts = []
        for part in self._parts(0, row):
            found = self._part_pieces(part, forbidden, safely=True)
            parts.append((np.asarray(found.ids, np.int32), self._trained(found, _inside(row.trained, part))))
        joined = self._joined(row, parts)
        return EncodedRow(joined.ids, joined.trained, neutralised=True)

    def _joined(self, row: Marked, parts: Sequence[tuple[npt.NDArray[np.int32], Bools]]) -> EncodedRow:
        ids = np.concatenate([ids for ids, _ in parts])
        trained = np.concatenate([trained for _, trained in parts])
        prefix, suffix = self._ends(row, ids[: len(self.vocabulary.prefix)].tolist())
        if prefix or suffix:
            ids = np.concatenate([np.asarray(prefix, np.int32), ids, np.asarray(suffix, np.int32)])
            trained = np.concatenate([np.zeros(len(prefix), np.bool_), trained, np.ones(len(suffix), np.bool_)])
        return EncodedRow(ids, trained)

    def _ends(self, row: Marked, first: list[int]) -> tuple[list[int], list[int]]:
        """The BOS ids that are missing in front, and EOS where it is to be appended."""
        prefix = self.vocabulary.prefix if row.bos else []
        if prefix and first[: len(prefix)] == prefix:
            prefix = []
        eos = self.vocabulary.eos_id
        return prefix, [eos] if row.eos and eos is not None else []


def _inside(ranges: Sequence[Range], part: _Part) -> list[Range]:
    return [
        (max(start, part.start) - part.start, min(end, part.end) - part.start)
        for start, end in ranges
        if start < part.end and part.start < end
    ]


def path_of(row: Marked, at: int) -> str:
    """The JSON path of the field that wrote the character at `at`."""
    for span in row.spans:
        if span.start <= at < span.end and span.kind != "literal":
            if isinstance(span.owner, int):
                return f"$.messages[{span.owner}].{span.kind}"
            return f"$.{span.owner or span.kind}"
    return "$"
