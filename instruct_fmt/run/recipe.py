"""How the encoded rows of several datasets become the rows of a result: mixed, shuffled, held out, each only once.

In: a `Recipe`, and the encoded rows. Out: for each split the numbers of its rows, in order. Whatever is random depends
on the seed and on the rows alone: neither on the number of workers nor on the size of batches.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from instruct_fmt.errors import DataError, UsageError, shown
from instruct_fmt.fit import mix
from instruct_fmt.run.work import Source
from instruct_fmt.types import Ints

if TYPE_CHECKING:
    from instruct_fmt.run.encoded import EncodedParts

TRAIN, VALIDATION = "train", "validation"
_ORDER = 1 << 20
"""The purpose of the order of all rows; the datasets have their own numbers."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What becomes of encoded rows.

    Attributes:
        shuffle: whether the rows of a result are in a random order.
        seed: which one; also which rows are held out.
        interleave: whether datasets are mixed by their weights, and which of them ends it: the ``first_exhausted``, or
            ``all_exhausted``, the others repeated. None puts one behind the other.
        deduplicate: whether of rows with the same ids and labels only the first stays.
        validation: how many rows are held out, or which share of them below 1; whole conversations, and none of which
            the text is trained on too. None holds out the datasets that are said to be for it, if any.

    >>> Recipe(validation=0.1).arranges, Recipe(seed=7).arranges
    (True, False)
    """

    shuffle: bool = False
    seed: int = 42
    interleave: mix.Interleave | None = None
    deduplicate: bool = False
    validation: float | None = None

    @property
    def arranges(self) -> bool:
        """Whether the rows are not simply those that were encoded, in their order."""
        return self.shuffle or self.deduplicate or self.interleave is not None or self.validation is not None

    def check(self, sources: Sequence[Source]) -> None:
        """Refuse what cannot work.

        Raises:
            UsageError: an option, or a dataset's, that cannot work.
        """
        check_seed(self.seed)
        kinds = get_args(mix.Interleave)
        if self.interleave not in (None, *kinds):
            raise UsageError("interleave", shown(self.interleave), " or ".join(kinds), f"set interleave: {kinds[0]}")
        _check_validation(self.validation, sources)
        for source in sources:
            _check_source(source, self)

    def facts(self, sources: Sequence[Source]) -> Mapping[str, Any]:
        """What of it and of the datasets decides the result; empty where nothing was asked."""
        asked = [(source.weight, source.epochs, source.held_out) for source in sources]
        return {"recipe": asdict(self), "datasets": asked} if needed(self, sources) else {}


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of one split of a result; `numbers` count all encoded rows, and may repeat."""

    name: str
    numbers: Ints


NO_RECIPE = Recipe()


def needed(recipe: Recipe, sources: Sequence[Source]) -> bool:
    """Whether encoded rows must be arranged."""
    return recipe.arranges or any(source.held_out or source.epochs != 1 for source in sources)


def arranged(recipe: Recipe, sources: Sequence[Source], rows: EncodedParts, counts: Counter[str]) -> list[Split]:
    """The splits of a result.

    Args:
        recipe: how they are made.
        sources: the datasets.
        rows: their encoded rows.
        counts: numbers for the report, to which those of the splits are added.

    Raises:
        DataError: a dataset or a split has no row left.
    """
    out = np.array([source.held_out for source in sources])[rows.sources]
    pool, validation = np.flatnonzero(~out), np.flatnonzero(out)
    whole = validated = bool(out.any())
    if recipe.deduplicate:
        pool, validation = (_firsts(rows, chosen, counts) for chosen in (pool, validation))
    if whole:
        seen = np.isin(rows.texts[pool], rows.texts[validation])
        counts["same_in_validation"] += int(np.count_nonzero(seen))
        pool = pool[~seen]
    elif recipe.validation is not None:
        groups = mix.together(rows.conversations[pool], rows.texts[pool])
        kept = mix.held_out(groups, _sizes(rows, pool, len(sources)), recipe.validation, recipe.seed)
        pool, validation, validated = pool[~kept], pool[kept], True
    splits = [Split(TRAIN, _mixed(recipe, sources, rows, pool))]
    splits += [Split(VALIDATION, validation)] if validated else []
    for split in splits:
        _count(split, sources, rows, counts)
    return splits


def _mixed(recipe: Recipe, sources: Sequence[Source], rows: EncodedParts, pool: Ints) -> Ints:
    """The rows to train on, in their order."""
    of_sources = [pool[rows.sources[pool] == number] for number in range(len(sources))]
    trained = [number for number, source in enumerate(sources) if not source.held_out]
    for number in trained:
        if not len(of_sources[number]) and (recipe.interleave is not None or len(trained) == 1):
            fix = "hold fewer rows out, or leave the dataset out"
            raise DataError(sources[number].name, "no row left to train on", "at least one", fix)
    sizes = [math.floor(len(of_sources[number]) * sources[number].epochs + 0.5) for number in trained]
    weights = [1 if sources[number].weight is None else sources[number].weight for number in trained]
    counts = mix.quotas(sizes, [weight for weight in weights if weight is not None], recipe.interleave)
    seed = recipe.seed if recipe.shuffle else None
    parts = [
        of_sources[number][mix.taken_rows(len(of_sources[number]), count, seed=seed, purpose=number)]
        for number, count in zip(trained, counts, strict=True)
    ]
    found = np.concatenate([np.zeros(0, np.int64), *parts])
    if recipe.shuffle:
        return found[mix.shuffled(len(found), recipe.seed, _ORDER)]
    return found if recipe.interleave is None else found[mix.evenly(counts)]


def _firsts(rows: EncodedParts, chosen: Ints, counts: Counter[str]) -> Ints:
    """The rows that are the first with their ids and labels."""
    _, first = np.unique(rows.contents[chosen], return_index=True)
    counts["duplicates"] += len(chosen) - len(first)
    return chosen[np.sort(first)]


def _sizes(rows: EncodedParts, chosen: Ints, sources: int) -> list[int]:
    """How many of the rows each dataset has."""
    found: list[int] = np.bincount(rows.sources[chosen], minlength=sources).tolist()
    return found


def _count(split: Split, sources: Sequence[Source], rows: EncodedParts, counts: Counter[str]) -> None:
    """Count a split's rows and tokens, and the rows of each dataset in it."""
    if not len(split.numbers):
        fix = "hold out more rows" if split.name == VALIDATION else "hold out fewer rows"
        raise DataError(split.name, "no row", "at least one", fix)
    for name, values in (("tokens", rows.lengths), ("trained_tokens", rows.trained)):
        counts[f"split:{split.name}:{name}"] = int(values[split.numbers].sum())
    for number, size in enumerate(_sizes(rows, split.numbers, len(sources))):
        if size:
            counts[f"split:{split.name}:rows:{number}:{sources[number].name}"] = size


def check_seed(seed: object) -> None:
    """Refuse a seed that is none.

    Raises:
        UsageError: it is no whole number, or a negative one.
    """
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise UsageError("seed", shown(seed), "a whole number that is not negative", "set seed: 42")


def _check_validation(validation: object, sources: Sequence[Source]) -> None:
    if validation is None:
        return
    fix = "set validation: 0.05, or a number of rows"
    if isinstance(validation, bool) or not isinstance(validation, int | float) or not 0 < validation < math.inf:
        raise UsageError("validation", shown(validation), "a share of the rows, or a number of them", fix)
    if validation >= 1 and not (isinstance(validation, int) or (validation > 1 and validation.is_integer())):
        raise UsageError("validation", shown(validation), "a share below 1, or a whole number of rows", fix)
    if any(source.held_out for source in sources):
        held = next(source.name for source in sources if source.held_out)
        expected = "a share, or datasets of its own"
        raise UsageError("validation", f"{shown(validation)} beside {held}", expected, "take one of them out")


def _check_source(source: Source, recipe: Recipe) -> None:
    for name, value in (("weight", source.weight), ("epochs", source.epochs)):
        if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
            raise UsageError(f"{source.name}: {name}", shown(value), "a number above 0", f"leave {name} out")
        if source.held_out and value not in (None, 1):
            raise UsageError(f"{source.name}: {name}", shown(value), "none for validation", f"leave {name} out")
    if source.weight is not None and recipe.interleave is None:
        raise UsageError(
            f"{source.name}: weight",
            f"{source.weight:g}, where one dataset stands behind the other",
            "interleave beside it",
            "set interleave: first_exhausted, or interleave: all_exhausted, which repeats what is used up",
        )
