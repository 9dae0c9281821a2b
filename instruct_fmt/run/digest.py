"""Hashes: of a dataset's rows, which name a result, and of files, which tell whether one is still what was written."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from instruct_fmt.common.threads import in_order

if TYPE_CHECKING:
    from datasets import Dataset

_HASH_ROWS = 1000


def data_hash(dataset: Dataset) -> str:
    """A hash of a dataset's content and types: the same in every process, and however the table is chunked.

    Bytes are hashed rather than `Dataset._fingerprint`, which is random after some operations and stays the
    same where a file behind a loaded folder was edited.
    """
    import numpy as np
    import pyarrow as pa

    arrow = dataset.with_format("arrow")

    def of_rows(start: int) -> bytes:
        table: pa.Table = arrow[start : start + _HASH_ROWS]
        # `take` writes the buffers anew: what lies under a null depends on where the table comes from.
        fresh = table.replace_schema_metadata(None).take(pa.array(np.arange(table.num_rows)))
        digest = hashlib.blake2b(digest_size=20)
        for batch in fresh.combine_chunks().to_batches():
            digest.update(batch.serialize())
        return digest.digest()

    digest = hashlib.blake2b(repr(list(dataset.features.items())).encode(), digest_size=20)
    for found in in_order(of_rows, range(0, len(dataset), _HASH_ROWS)):
        digest.update(found)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """XXH3 of a file, 128 bits: against damage, not against forgery, and ten times as fast as what is."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
