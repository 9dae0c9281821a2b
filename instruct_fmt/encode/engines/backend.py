"""What every tokenizer engine does: texts in, flat ids and row offsets out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Flat = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]


Texts: TypeAlias = "Sequence[str] | pa.Array"


class Backend(Protocol):
    """An engine. `encode` adds no special tokens; row i's ids are `ids[offsets[i]:offsets[i + 1]]`."""

    name: str

    def encode(self, texts: Texts) -> Flat: ...


def characters_of(texts: Texts) -> int:
    """At least the characters of some texts: bytes, where they are Arrow's."""
    return int(texts.nbytes) if isinstance(texts, pa.Array) else sum(map(len, texts))


def chosen_of(ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], places: Sequence[int]) -> Flat:
    return flat_of([ids[offsets[place] : offsets[place + 1]] for place in places])


def strings_of(texts: Texts) -> list[str]:
    return texts.to_pylist() if isinstance(texts, pa.Array) else list(texts)


def flat_of(rows: Sequence[Any]) -> Flat:
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return np.concatenate([np.zeros(0, np.int32), *rows]).astype(np.int32), offsets


def int32_of(ids: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Ids as int32; no vocabulary is so large that the sign would matter."""
    found: npt.NDArray[np.int32] = ids.view(np.int32) if ids.dtype == np.uint32 else ids.astype(np.int32)
    return found
