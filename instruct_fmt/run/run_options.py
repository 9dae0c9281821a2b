"""How a run is done: nothing here changes the ids and labels of the rows that come out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from instruct_fmt.run.recipe import NO_RECIPE, Recipe
from instruct_fmt.run.work import OutputFormat


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run.

    Attributes:
        output_dir: the folder of the result; None puts it into the cache of `datasets`.
        output_format: ``arrow`` (opened by `load_from_disk`) or ``parquet``.
        keep_columns: columns of the dataset to carry along.
        num_proc: the most worker processes, each for a batch at least; None or 1 encodes in this process.
        batch_size: rows encoded at a time; None takes as many as are some megabytes.
        packing: puts rows together into sequences of so many tokens; True is the formatter's `max_length`.
        recipe: which of the rows make the result, in which order, and which are held out.
        progress: whether to show a progress bar.
        reuse: whether an earlier result that still holds is taken.
        verify: whether the content of an earlier result is compared with its checksums, though its files have the size
            and the time of writing that they had.
    """

    output_dir: Path | None = None
    output_format: OutputFormat = "arrow"
    keep_columns: tuple[str, ...] = ()
    num_proc: int | None = None
    batch_size: int | None = None
    packing: int | bool = False
    recipe: Recipe = NO_RECIPE
    progress: bool = True
    reuse: bool = True
    verify: bool = False
