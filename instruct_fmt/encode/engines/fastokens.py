"""The engine `fastokens`."""

from __future__ import annotations

import numpy as np

from instruct_fmt.common.forks import undivided
from instruct_fmt.encode.engines.backend import Backend, Flat, Texts, int32_of, strings_of
from instruct_fmt.encode.engines.renewed import Renewed


class FastokensBackend:
    """The `fastokens` library."""

    name = "fastokens"

    def __init__(self, definition: str) -> None:
        import fastokens

        self._engine = Renewed(lambda: fastokens.Tokenizer.from_json_str(definition))

    def encode(self, texts: Texts) -> Flat:
        plain = strings_of(texts)
        with undivided:
            ids, offsets = self._engine.get(sum(map(len, plain))).encode_batch_flat(plain)
        return int32_of(np.frombuffer(ids, np.uint32)), np.frombuffer(offsets, np.uint64).astype(np.int64)


def make(definition: str) -> Backend:
    """The engine for a tokenizer in its JSON form.

    Raises:
        ImportError: it is not installed.
    """
    backend = FastokensBackend(definition)
    backend.encode(["a"])
    return backend
