"""Tokenizer engines behind one protocol: texts in, flat ids and row offsets out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

Flat = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]


class Backend(Protocol):
    """An engine. `encode` adds no special tokens; row i's ids are `ids[offsets[i]:offsets[i + 1]]`."""

    name: str

    def encode(self, texts: Sequence[str]) -> Flat: ...


class ReferenceBackend:
    """The `tokenizers` library: what every other engine is compared with."""

    name = "tokenizers"

    def __init__(self, engine: Tokenizer) -> None:
        self._engine = engine

    def encode(self, texts: Sequence[str]) -> Flat:
        rows = [encoding.ids for encoding in self._engine.encode_batch_fast(list(texts), add_special_tokens=False)]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.fromiter((id for row in rows for id in row), np.int32, int(offsets[-1]))
        return ids, offsets
