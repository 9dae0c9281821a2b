"""Rows to train on, as a file; nothing of the package is needed to read them."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

Ids = list[int]


@dataclass(frozen=True)
class Variant:
    """Rows to train on, and how the model that learns from them is served.

    Attributes:
        name: what was done.
        group: variants of a group are served alike.
        ids, labels: the rows.
        prompts: what a server sends for each held-out row.
        answers: what the model must then write, up to and including its stop.
    """

    name: str
    group: str
    ids: list[Ids]
    labels: list[Ids]
    prompts: list[Ids]
    answers: list[Ids]


def write(found: list[Variant], path: Path) -> None:
    """Write variants into a file."""
    path.write_bytes(gzip.compress(json.dumps([asdict(variant) for variant in found]).encode(), 3))


def read(path: Path) -> list[Variant]:
    """Read them again."""
    return [Variant(**one) for one in json.loads(gzip.decompress(path.read_bytes()))]


def order(size: int, number: int, seed: int) -> list[int]:
    """Which rows are trained on, one after the other."""
    places: list[int] = []
    chosen = random.Random(seed)
    while len(places) < number:
        more = list(range(size))
        chosen.shuffle(more)
        places += more
    return places[:number]


def padded(rows: list[Ids], fill: int) -> np.ndarray[Any, Any]:
    """Rows of one length, filled on the right."""
    longest = max(map(len, rows))
    return np.array([[*row, *[fill] * (longest - len(row))] for row in rows], np.int64)
