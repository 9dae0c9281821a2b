"""The engine that every other one is compared with: Hugging Face's `tokenizers`."""

from __future__ import annotations

from itertools import chain

import numpy as np
from tokenizers import Tokenizer

from instruct_fmt.encode.engines.backend import Flat, Texts, strings_of


class ReferenceBackend:
    """The `tokenizers` library: what every other engine is compared with."""

    name = "tokenizers"

    def __init__(self, engine: Tokenizer) -> None:
        self._engine = engine

    def encode(self, texts: Texts) -> Flat:
        plain = strings_of(texts)
        rows = [encoding.ids for encoding in self._engine.encode_batch_fast(plain, add_special_tokens=False)]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.fromiter(chain.from_iterable(rows), np.int32, int(offsets[-1]))
        return ids, offsets
