"""One function over several values, on as many threads as this process may use cores.

Threads pay because engines, Arrow and NumPy let go of the interpreter while they work on a batch. They are made for
one call and end with it: nothing is left that a fork could break.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

SMALL_BYTES, BLOCK_BYTES, MAX_BLOCK_BYTES, BLOCK_ROWS = 1_000_000, 3_000_000, 6_000_000, 2000
In = TypeVar("In")
Out = TypeVar("Out")


def cores() -> int:
    """How many threads to use: one in a worker among others, which share the cores already.

    `RAYON_NUM_THREADS` and `TOKENIZERS_PARALLELISM`, which tokenizers obey, are obeyed here too.
    """
    if os.environ.get("TOKENIZERS_PARALLELISM", "").lower() in ("false", "off", "no", "0"):
        return 1
    if (asked := os.environ.get("RAYON_NUM_THREADS", "")).isdigit() and int(asked):
        return int(asked)
    # `datasets.map(num_proc=…)` starts its workers with `multiprocess`, which is `multiprocessing` with another pickle.
    for module in (multiprocessing, sys.modules.get("multiprocess")):
        if module is not None and module.parent_process() is not None:
            return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rows_at_a_time(rows: int, size: int) -> int:
    """How many of so many rows, of so many bytes, one thread takes in one go: some thousand are kind to the caches."""
    if size < SMALL_BYTES:
        return max(rows, 1)
    wanted = max(BLOCK_BYTES, min(BLOCK_ROWS * size // max(rows, 1), MAX_BLOCK_BYTES))
    rounds = -(-size // (wanted * cores()))
    return max(-(-rows // (rounds * cores())), 1)


def in_order(function: Callable[[In], Out], values: Sequence[In]) -> list[Out]:
    """`function` of each value, in the order of the values."""
    number = min(len(values), cores())
    if number < 2:
        return [function(value) for value in values]
    with ThreadPoolExecutor(number, "instruct_fmt") as pool:
        return list(pool.map(function, values))
