"""The engine `gigatoken`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from instruct_fmt.common.forks import undivided
from instruct_fmt.encode.engines.backend import Backend, Flat, Texts, characters_of, flat_of, int32_of, strings_of
from instruct_fmt.encode.engines.renewed import Renewed

# So few texts are not worth the wrapping of a batch.
FEW, FEW_CHARACTERS = 4, 20_000


class GigatokenBackend:
    """The `gigatoken` library."""

    name = "gigatoken"

    def __init__(self, definition: str) -> None:
        import gigatoken

        self._engine = Renewed(lambda: gigatoken.Tokenizer.from_json(definition))

    def encode(self, texts: Texts) -> Flat:
        if len(texts) < FEW and characters_of(texts) < FEW_CHARACTERS:
            return self._few(texts)
        from awkward import Array
        from awkward.contents import ListOffsetArray, NumpyArray
        from awkward.index import Index64

        column = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
        _, places, text = column.buffers()
        edges = np.frombuffer(places, np.int64)[column.offset :][: len(column) + 1]
        characters = NumpyArray(np.frombuffer(text or b"", np.uint8), parameters={"__array__": "char"})
        strings = Array(ListOffsetArray(Index64(edges), characters, parameters={"__array__": "string"}))
        # The threads are ours: an engine's own would be more than there are cores, and break where a process forks.
        with undivided:
            layout = self._engine.get(int(edges[-1] - edges[0])).encode_batch(strings, parallel=False).layout
        offsets = np.asarray(layout.offsets.data).astype(np.int64)
        ids = np.asarray(layout.content.data)[offsets[0] : offsets[-1]]
        return int32_of(ids), offsets - offsets[0]

    def _few(self, texts: Texts) -> Flat:
        plain = strings_of(texts)
        with undivided:
            engine = self._engine.get(sum(map(len, plain)))
            # Not `encode`, which wants the engine for itself and raises where another thread encodes a batch.
            return flat_of(engine.encode_batch_list(plain, parallel=False))


def make(definition: str) -> Backend:
    """The engine for a tokenizer in its JSON form.

    Raises:
        ImportError: it is not installed.
    """
    backend = GigatokenBackend(definition)
    backend.encode(["a"])  # made at the first text
    return backend
