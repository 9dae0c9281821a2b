"""Marked texts to ids and trained flags.

In: `Marked` rows. Out: for each an `EncodedRow`, or the `RowError` that says why there is none. Most rows go through
the backend in one batch, their tokens placed by byte lengths; rows with control tokens of their own, and rows whose
byte lengths do not add up, go one by one, placed by the reference tokenizer's offsets.

A conversation is encoded in one piece, as `apply_chat_template` does it. Where a token then crosses the seam between
the prompt and the completion of the row's last turn, the completion is encoded apart; an earlier turn at whose ends the
ids do not break is left out of the loss. Rows that have a plan go the same way as columns, in `column_encoder.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from instruct_fmt.common.loss_weights import NO_WEIGHTS, LossWeights
from instruct_fmt.encode.align import byte_ranges, check_offsets, overlaps
from instruct_fmt.encode.column_encoder import ColumnEncoder
from instruct_fmt.encode.control import ControlTokens, Occurrence, TokenSpans
from instruct_fmt.encode.engines.backend import Backend
from instruct_fmt.encode.engines.watched import WatchedBackend
from instruct_fmt.encode.seam_rows import Part, Placed, is_clean
from instruct_fmt.encode.spans import Characters, spans_of_bytes
from instruct_fmt.errors import RowError, option, shown
from instruct_fmt.tokenizer.vocabulary import Vocabulary
from instruct_fmt.types import Bools, Ints, Marked, Range, Weighted

ControlPolicy = Literal["text", "error", "allow"]
Boundary = Literal["auto", "joint", "split"]
# So many short stretches in front of seams are remembered with their ids; most are a template's own.
REMEMBERED, SHORT = 4096, 64


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """One row.

    Attributes:
        ids: int32.
        trained: one flag for each id.
        neutralised: whether a control token became ordinary text.
        counts: what was counted on the way, for the report; it corrects the row's own counts.
        weights: what each trained id counts in the loss, float32; None where all of them count once.
    """

    ids: npt.NDArray[np.int32]
    trained: Bools
    neutralised: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    weights: npt.NDArray[np.float32] | None = None


class RowEncoder:
    """Encodes rows with one tokenizer.

    Args:
        vocabulary: the tokenizer.
        structural: token strings that no row may write.
        control: what happens to control tokens in a row's text.
        backend: the engine.
        continued: the engine of a part that continues a row.
        boundary: `joint` encodes every row in one piece; `split` also encodes completions apart where nothing crosses.
        loss: what counts more or less than once.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        structural: Sequence[str],
        control: ControlPolicy,
        backend: Backend,
        continued: Backend,
        boundary: Boundary,
        loss: LossWeights = NO_WEIGHTS,
    ) -> None:
        self._loss = loss
        self.vocabulary = vocabulary
        self.control = ControlTokens(vocabulary, structural)
        self._policy = control
        self._boundary = boundary
        self._backend = backend
        self._continued = continued
        self._stretches: dict[tuple[str, bool], Sequence[int]] = {}
        self._composes = type(vocabulary.backend.normalizer).__name__ == "NFC"
        free = None if control == "allow" else self.control.free
        self.planned = ColumnEncoder(vocabulary, backend, self._continued, free, loss)

    @property
    def backend(self) -> str:
        return self._backend.name

    def encode(self, rows: Sequence[Marked]) -> list[EncodedRow | RowError]:
        """Encode rows; the result for a row does not depend on the others."""
        results, given = self._placed_rows(rows), list(rows)
        for place, found in enumerate(results):
            if not (self._composes and isinstance(found, RowError) and found.reason == "offsets"):
                continue
            # Signs that NFC puts into another order have no places in the text as it was.
            if (row := _composed(given[place], self.vocabulary.backend.normalizer.normalize_str)) is not None:
                given[place], results[place] = row, self._placed_rows([row])[0]
        return [
            found if isinstance(found, RowError) else self._finished(row, found)
            for row, found in zip(given, results, strict=True)
        ]

    def characters(self, row: Marked) -> Characters:
        """The characters of each id of a row, its ends included; for policies that look at them.

        Raises:
            RowError: the row cannot be encoded.
        """
        found = self._placed_rows([row])[0]
        if isinstance(found, RowError):
            raise found
        parts = [self._characters(placed) for placed in found]
        prefix, suffix = self._ends(row, found[0].ids[: len(self.vocabulary.prefix)].tolist())
        before, behind = np.zeros(len(prefix), np.int64), np.full(len(suffix), len(row.text))
        return Characters(
            np.concatenate([before, *(part.starts for part in parts), behind]),
            np.concatenate([before, *(part.ends for part in parts), behind]),
        )

    def _characters(self, placed: Placed) -> Characters:
        """The characters of a part's ids, from the row's start."""
        part = placed.part
        if placed.in_bytes:
            found = spans_of_bytes(part.text.encode(), placed.ends - placed.starts)
        else:
            spans = self._part_spans(part)
            found = Characters(np.asarray(spans.starts, np.int64), np.asarray(spans.ends, np.int64))
        return Characters(found.starts + part.start, found.ends + part.start)

    # rows as parts

    def _placed_rows(self, rows: Sequence[Marked]) -> list[list[Placed] | RowError]:
        """Each row as parts with their ids, cut where its last turn asks for it."""
        results: list[list[Placed] | RowError] = [[] for _ in rows]
        cuts = [self._cuts(row) for row in rows]
        waiting = list(range(len(rows)))
        while waiting:
            found = self._placed([rows[place] for place in waiting], [cuts[place] for place in waiting])
            again = []
            for place, placed in zip(waiting, found, strict=True):
                results[place] = placed
                crossed = None if isinstance(placed, RowError) else self._crossed(rows[place], placed)
                if crossed is not None:
                    cuts[place] = sorted({*cuts[place], crossed})
                    again.append(place)
            waiting = again
        return results

    def _cuts(self, row: Marked) -> list[int]:
        """Where a row is encoded apart whatever its ids are."""
        if self._boundary == "joint":
            return []
        seam = row.seams[-1][:1] if row.seams and self._boundary == "split" else ()
        cuts = {cut for cut in (*row.cuts, *seam) if 0 < cut < len(row.text)}
        if seam:  # an added token keeps what follows it apart already
            cuts -= {end for _, end, _ in self.control.written(row.text)}
        return sorted(cuts)

    def _crossed(self, row: Marked, placed: Sequence[Placed]) -> int | None:
        """An end of the row's last turn at which its ids are not those of the text in front."""
        if self._boundary == "joint" or not row.seams:
            return None
        return next((cut for cut in row.seams[-1] if not self._is_clean(placed, cut)), None)

    def _is_clean(self, parts: Sequence[Placed], cut: int) -> bool:
        return all(is_clean(placed, cut, self._alone) for placed in parts)

    def _alone(self, part: Part) -> Sequence[int]:
        """The ids of a stretch of text as if nothing followed it."""
        if part.safely or part.forbidden:
            return self._part_spans(part).ids
        key = part.text, part.continues
        known = self._stretches.get(key)
        if known is None:
            engine: Tokenizer = self.vocabulary.continuation if part.continues else self.vocabulary.backend
            known = engine.encode(part.text, add_special_tokens=False).ids
            if len(part.text) <= SHORT and len(self._stretches) < REMEMBERED:
                self._stretches[key] = known
        return known

    def _placed(self, rows: Sequence[Marked], cuts: Sequence[Sequence[int]]) -> list[list[Placed] | RowError]:
        """Rows with their ids, once; those without control tokens of their own together."""
        results: dict[int, list[Placed] | RowError] = {}
        parts: list[tuple[int, Part]] = []
        for place, row in enumerate(rows):
            try:
                forbidden = self._forbidden(row)
                own = _parts(row, cuts[place], forbidden)
                if forbidden:
                    results[place] = self._slow(own)
                else:
                    parts += [(place, part) for part in own]
            except RowError as error:
                results[place] = error
        results.update(self._fast(rows, parts))
        return [results[place] for place in range(len(rows))]

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
                "take it out of the row, or say what it is",
                changes=[
                    option("control_tokens", "text", "encodes it as ordinary text"),
                    option("control_tokens", "allow", "encodes it as the token"),
                ],
            )
        return found

    def _fast(self, rows: Sequence[Marked], parts: Sequence[tuple[int, Part]]) -> dict[int, list[Placed] | RowError]:
        """Encode all parts in two batches, and put the rows together."""
        done: dict[tuple[int, int], Placed | RowError] = {}
        for backend, continues in ((self._backend, False), (self._continued, True)):
            chosen = [(place, part) for place, part in parts if part.continues == continues]
            if not chosen:
                continue
            for (place, part), placed in zip(chosen, self._batch(backend, [part for _, part in chosen]), strict=True):
                done[place, part.start] = placed
        by_row: dict[int, list[Part]] = {}
        for place, part in parts:
            by_row.setdefault(place, []).append(part)
        return {
            place: self._whole(rows[place], [done[place, part.start] for part in own]) for place, own in by_row.items()
        }

    def _batch(self, backend: Backend, parts: Sequence[Part]) -> list[Placed | RowError]:
        """Parts in one call; once more where one shows that the engine went wrong, and the reference took over."""
        ids, offsets = backend.encode([part.text for part in parts])
        edges = pairwise(offsets.tolist())
        found = [self._located(part, ids[left:right]) for part, (left, right) in zip(parts, edges, strict=True)]
        if isinstance(backend, WatchedBackend):
            unclear = next((at for at, placed in enumerate(found) if _is_unclear(placed)), None)
            if unclear is not None and backend.differs(parts[unclear].text):
                return self._batch(backend, parts)
        return found

    def _whole(self, row: Marked, found: Sequence[Placed | RowError]) -> list[Placed] | RowError:
        """The row from its parts; anew where a normaliser made control tokens of what shows none."""
        parts: list[Placed] = []
        for placed in found:
            if isinstance(placed, RowError):
                return placed
            parts.append(placed)
        written = sum(len(placed.control) for placed in parts)
        if self._policy == "allow" or written == self.control.count(row.text):
            return parts
        try:
            return self._slow([placed.part for placed in parts])
        except RowError as error:
            return error

    def _slow(self, parts: Sequence[Part]) -> list[Placed]:
        """Parts through the engine that keeps control tokens apart."""
        return [self._by_offsets(replace(part, safely=True)) for part in parts]

    def _located(self, part: Part, ids: npt.NDArray[np.int32]) -> Placed | RowError:
        """The ids of a part with their places: by byte lengths, or by offsets where those do not add up."""
        if self.vocabulary.has_lengths and not self._changed(part.text):
            lengths = self.vocabulary.lengths(ids)
            ends: Ints = np.cumsum(lengths)
            if (int(ends[-1]) if len(ends) else 0) == len(part.text.encode()):
                return Placed(part, ids, ends - lengths, ends, True, self.vocabulary.shown(ids))
        try:
            placed = self._by_offsets(part)
        except RowError as error:
            return error
        if placed.ids.tolist() != ids.tolist():
            return RowError("offsets", "$", "other ids with offsets than without", "the same", "report this tokenizer")
        return placed

    def _by_offsets(self, part: Part) -> Placed:
        found = self._part_spans(part)
        ids = np.asarray(found.ids, np.int32)
        starts, ends = np.asarray(found.starts, np.int64), np.asarray(found.ends, np.int64)
        control = self.vocabulary.shown(ids)
        ends[control] = np.minimum(ends[control], starts[control] + 1)
        return Placed(part, ids, starts, ends, False, control)

    def _part_spans(self, part: Part) -> TokenSpans:
        if part.safely or part.forbidden:
            return self.control.encode(part.text, part.forbidden, continues=part.continues)
        engine: Tokenizer = self.vocabulary.continuation if part.continues else self.vocabulary.backend
        encoding = engine.encode(part.text, add_special_tokens=False)
        check_offsets(encoding.offsets, part.text)
        return TokenSpans(encoding.ids, [start for start, _ in encoding.offsets], [end for _, end in encoding.offsets])

    def _changed(self, text: str) -> bool:
        """Whether a normaliser changes the text, so that sums of byte lengths could agree by accident."""
        if not self.vocabulary.normalises or text.isascii():
            return False
        return bool(self.vocabulary.backend.normalizer.normalize_str(text) != text)

    # parts as a row

    def _finished(self, row: Marked, parts: Sequence[Placed]) -> EncodedRow:
        """The row with its trained flags, its ends, and what its seams are."""
        trained, counts = row.trained, Counter[str]()
        if row.seams and self._boundary != "joint":
            left_out = [seam for seam in row.seams[:-1] if not all(self._is_clean(parts, cut) for cut in seam)]
            trained = tuple(part for part in trained if not any(a <= part[0] and part[1] <= b for a, b in left_out))
            counts["trained_turns"] -= len(left_out)
            counts["turns_skipped:seam"] += len(left_out)
            counts["encoded_apart"] += len(parts) > 1
        flags = [_flags(placed, trained) for placed in parts]
        ids = np.concatenate([placed.ids for placed in parts])
        prefix, suffix = self._ends(row, ids[: len(self.vocabulary.prefix)].tolist())
        ends = np.asarray(prefix, np.int32), np.asarray(suffix, np.int32)
        ids = np.concatenate([ends[0], ids, ends[1]])
        found = np.concatenate([np.zeros(len(prefix), np.bool_), *flags, np.ones(len(suffix), np.bool_)])
        safely = any(placed.part.safely for placed in parts)
        if not self._loss:
            return EncodedRow(ids, found, safely, counts)
        before, behind = np.ones(len(prefix), np.float32), np.full(len(suffix), row.eos_weight, np.float32)
        parts_of_row = painted(row, trained, self._loss)
        weights = np.concatenate([before, *(_weights(placed, parts_of_row) for placed in parts), behind])
        return EncodedRow(ids, found & (weights != 0), safely, counts, weights)

    def _ends(self, row: Marked, first: list[int]) -> tuple[list[int], list[int]]:
        """The BOS ids that are missing in front, and EOS where it is to be appended."""
        prefix = self.vocabulary.prefix if row.bos else []
        if prefix and first[: len(prefix)] == prefix:
            prefix = []
        eos = self.vocabulary.eos_id
        return prefix, [eos] if row.eos and eos is not None else []


def _parts(row: Marked, cuts: Sequence[int], forbidden: Sequence[Occurrence]) -> list[Part]:
    whole = Part(0, row.text, False, tuple(forbidden))
    edges = [0, *cuts, len(row.text)]
    return [whole.cut(start, end, continues=start > 0) for start, end in pairwise(edges)]


def _flags(placed: Placed, ranges: Sequence[Range]) -> Bools:
    """Trained flags by the characters of each id."""
    part = placed.part
    inside = [
        (max(start, part.start) - part.start, min(end, part.end) - part.start)
        for start, end in ranges
        if start < part.end and part.start < end
    ]
    return overlaps(placed.starts, placed.ends, byte_ranges(part.text, inside) if placed.in_bytes else inside)


def _composed(row: Marked, normalised: Callable[[str], str]) -> Marked | None:
    """The row as the tokenizer normalises it; None where text is joined across an edge, or nothing changes."""
    ranges = (*row.trained, *row.seams, *row.removable, *(part[:2] for part in (*row.from_row, *row.weights)))
    spans = ((span.start, span.end) for span in row.spans)
    edges = sorted({0, len(row.text), *row.cuts, *(edge for part in (*ranges, *spans) for edge in part)})
    pieces = [normalised(row.text[left:right]) for left, right in pairwise(edges)]
    text = "".join(pieces)
    if text == row.text or text != normalised(row.text):
        return None
    at = dict(zip(edges, accumulate(map(len, pieces), initial=0), strict=True))
    return replace(
        row,
        text=text,
        trained=tuple((at[left], at[right]) for left, right in row.trained),
        spans=tuple(replace(span, start=at[span.start], end=at[span.end]) for span in row.spans),
        from_row=tuple((at[left], at[right], speaks) for left, right, speaks in row.from_row),
        removable=tuple((at[left], at[right]) for left, right in row.removable),
        cuts=tuple(at[cut] for cut in row.cuts),
        seams=tuple((at[left], at[right]) for left, right in row.seams),
        weights=tuple((at[left], at[right], weight) for left, right, weight in row.weights),
    )


def painted(row: Marked, trained: Sequence[Range], loss: LossWeights) -> list[Weighted]:
    """What of a row does not count once, in the order in which it is painted."""
    matched = ((start, *found) for start, end in trained for found in loss.matched(row.text[start:end]))
    return [*row.weights, *((at + left, at + right, weight) for at, left, right, weight in matched)]


def _weights(placed: Placed, parts: Sequence[Weighted]) -> npt.NDArray[np.float32]:
    """What each id of a part counts: by the last range that it touches, of an added token by the one it begins in."""
    found, part, ends = np.ones(len(placed.ids), np.float32), placed.part, placed.ends.copy()
    ends[placed.control] = np.minimum(ends[placed.control], placed.starts[placed.control] + 1)
    for start, end, weight in parts:
        left, right = max(start, part.start) - part.start, min(end, part.end) - part.start
        if left < right:
            inside = [(left, right)]
            ranges = byte_ranges(part.text, inside) if placed.in_bytes else inside
            found[overlaps(placed.starts, ends, ranges)] = weight
    return found


def _is_unclear(placed: Placed | RowError) -> bool:
    return isinstance(placed, RowError) and placed.reason == "offsets"


def path_of(row: Marked, at: int) -> str:
    """The JSON path of the field that wrote the character at `at`."""
    for span in row.spans:
        if span.start <= at < span.end and span.kind != "literal":
            if isinstance(span.owner, int):
                return f"$.messages[{span.owner}].{span.kind}"
            return f"$.{span.owner or span.kind}"
    return "$"
