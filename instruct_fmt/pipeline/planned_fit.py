"""The last word on rows that have a plan: short enough, shortened, or left out.

In: encoded rows, with the groups that they come from. Out: `Fitted`. A row that is in neither part of it goes one by
one, as `other_rows.py` does it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from instruct_fmt.common.ragged import taken
from instruct_fmt.encode.column_encoder import ColumnEncoder
from instruct_fmt.encode.flat import EncodedRows, bytes_of, only
from instruct_fmt.errors import Rejection, RowError
from instruct_fmt.fit.fitting import Fitting
from instruct_fmt.fit.long_rows import LongRows
from instruct_fmt.pipeline.dataset_stages import DatasetStages
from instruct_fmt.pipeline.planned_turns import without_oldest
from instruct_fmt.template.plan.planner import Grouped
from instruct_fmt.types import Bools, Ints, PlannedRows


@dataclass(frozen=True, slots=True)
class Fitted:
    """Rows that are short enough, and those that are left out.

    Attributes:
        rows: the rows that stay.
        groups: what their numbers of groups mean.
        cut: for each whether ids were taken out of it; shape (rows,).
        turns: for each how many of the model's turns went with its oldest exchanges, -1 where none went; shape (rows,).
        rejected: rows that are left out, with their places in the batch.
    """

    rows: EncodedRows
    groups: Sequence[PlannedRows]
    cut: Bools
    turns: Ints
    rejected: Sequence[tuple[int, Rejection]] = ()

    @classmethod
    def whole(cls, rows: EncodedRows, groups: Sequence[PlannedRows]) -> Fitted:
        """Rows of which nothing is taken."""
        size = len(rows.places)
        return cls(rows, groups, np.zeros(size, np.bool_), np.full(size, -1))

    def only(self, right: Bools) -> Fitted:
        """Some of the rows that stay."""
        return replace(self, rows=only(self.rows, right), cut=self.cut[right], turns=self.turns[right])

    def counts(self, overlength: str) -> Counter[str]:
        """Numbers for the report."""
        gone = self.turns >= 0
        found = {
            f"shortened:{'truncate_prompt' if overlength == 'drop_turns' else overlength}": np.count_nonzero(self.cut),
            "shortened:drop_turns": np.count_nonzero(gone),
            "turns_dropped": self.turns[gone].sum(),
        }
        return Counter({name: int(count) for name, count in found.items() if count})


def fit(
    stages: DatasetStages, encoder: ColumnEncoder, rows: EncodedRows, grouped: Sequence[Grouped], numbers: Ints
) -> Fitted:
    """The rows within `max_length`, those that are too long as `overlength` wants them.

    Args:
        stages: the stages for these rows.
        encoder: encoded them.
        rows: the rows, at their places in the batch.
        grouped: the groups that they are of.
        numbers: the numbers in the dataset of all rows of the batch.
    """
    fitting, sizes, groups = stages.stages.fitting, np.diff(rows.offsets), [group for _, group in grouped]
    long = fitting.is_long(sizes)
    if not long.any():
        return Fitted.whole(rows, groups)
    if fitting.overlength == "error":  # they go one by one, and the first of them stops the run
        return Fitted.whole(only(rows, ~long), groups)
    if fitting.overlength == "drop":
        gone = zip(rows.places[long].tolist(), sizes[long].tolist(), strict=True)
        rejected = [(place, Rejection.from_error(fitting.too_long(size), int(numbers[place]))) for place, size in gone]
        return replace(Fitted.whole(only(rows, ~long), groups), rejected=rejected)
    if fitting.overlength == "drop_turns":
        return _shorter(stages, encoder, rows, grouped, numbers)
    return _cut(fitting, rows, groups, numbers)


def _shorter(
    stages: DatasetStages, encoder: ColumnEncoder, rows: EncodedRows, grouped: Sequence[Grouped], numbers: Ints
) -> Fitted:
    """The rows, those that are too long without their oldest exchanges, and then without a part of their prompts."""
    fitting, groups = stages.stages.fitting, [group for _, group in grouped]
    later = without_oldest(stages.planner, encoder, fitting, rows, [source for source, _ in grouped])
    others = _cut(fitting, only(rows, ~later.of), groups, numbers)
    places, of_groups = rows.places[later.of], rows.groups[later.of]
    fewer = _cut(fitting, later.rows, later.groups, numbers[places])
    units = fewer.rows.places
    found = replace(fewer.rows, places=places[units], groups=fewer.rows.groups + len(groups))
    order = np.lexsort(
        (np.concatenate([others.rows.groups, of_groups[units]]), np.concatenate([others.rows.places, found.places]))
    )
    rejected = [*others.rejected, *((int(places[unit]), rejection) for unit, rejection in fewer.rejected)]
    return Fitted(
        EncodedRows.joined([others.rows, found]).take(order),
        [*groups, *later.groups],
        np.concatenate([others.cut, fewer.cut])[order],
        np.concatenate([others.turns, later.turns[units]])[order],
        rejected,
    )


def _cut(fitting: Fitting, rows: EncodedRows, groups: Sequence[PlannedRows], numbers: Ints) -> Fitted:
    """The rows, those that are too long without the ids that `overlength` takes out of them."""
    sizes = np.diff(rows.offsets)
    long = fitting.is_long(sizes)
    kept, stays = np.ones(len(rows.ids), np.bool_), ~long
    errors: dict[int, RowError] = {}
    for number, group in enumerate(groups):
        chosen = np.flatnonzero(long & (rows.groups == number))
        if not len(chosen):
            continue
        places, offsets = taken(rows.offsets, chosen)
        trained = rows.trained[places]
        keep, enough = fitting.cut(_long_rows(rows, group, chosen))
        learns = np.add.reduceat(keep & trained, offsets[:-1]) > 0
        kept[places], stays[chosen] = keep, enough & learns
        errors |= {place: fitting.too_long(int(sizes[place])) for place in chosen[~enough].tolist()}
        errors |= {place: fitting.unlearnable(int(sizes[place])) for place in chosen[enough & ~learns].tolist()}
    at = rows.places.tolist()
    rejected = [(at[row], Rejection.from_error(errors[row], int(numbers[at[row]]))) for row in sorted(errors)]
    fitted = replace(Fitted.whole(rows.keeping(kept), groups), cut=long, rejected=rejected)
    return fitted.only(stays)


def _long_rows(rows: EncodedRows, group: PlannedRows, chosen: Ints) -> LongRows:
    """Some rows of a group, with the places of their tokens in their texts."""
    places, offsets = taken(rows.offsets, chosen)
    here = np.searchsorted(group.places, rows.places[chosen])
    text, starts = bytes_of(group.texts.take(pa.array(here)))
    sizes = rows.sizes[places].astype(np.int64)
    ends = np.cumsum(sizes)
    removable = (group.removable[here] + starts[:-1, None, None]).reshape(-1, 2)
    filled = removable[removable[:, 0] < removable[:, 1]]
    return LongRows(text, ends - sizes, ends, rows.trained[places], offsets, filled)
