"""A stand-in for a formatter: one token for each byte of `text`, and rows that misbehave on demand.

It lives in a module of its own so that worker processes can open it.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from instruct_fmt.errors import Rejection, UsageError
from instruct_fmt.types import EncodedBatch


@dataclass(frozen=True)
class FakeSettings:
    """The settings that a run looks at, and the version of the template."""

    max_rejected: float = 0.5
    template: str = "1"
    tokenizer: str = "1"
    options: str = "1"
    field_map: Mapping[str, str] = field(default_factory=dict)
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    trained: bool = True


@dataclass(frozen=True)
class FakeEncoder:
    """Rejects the rows `bad` and `long`, raises on `usage` and `bug`, expands `twice`, and ends its process on `die`.

    `die once PATH` ends it where there is no such file yet, and makes it; `wait` takes a minute.
    """

    settings: FakeSettings = field(default_factory=FakeSettings)

    def facts(self) -> dict[str, str]:
        found = {name: getattr(self.settings, name) for name in ("template", "tokenizer", "options")}
        return {**found, "version": "0.1.0"}

    def encode_batch(self, table: pa.Table, first_row: int = 0) -> EncodedBatch:
        ids: list[list[int]] = []
        rows: list[int] = []
        rejected: list[Rejection] = []
        for row, text in enumerate(table.column("text").to_pylist(), first_row):
            reason = {"bad": "bad-text", "long": "over-length"}.get(text)
            if reason:
                rejected.append(Rejection(row, reason, "$.text", repr(text), "another text", "change it"))
            elif text == "usage":
                raise UsageError("text: found 'usage'; expected another; fix: change it")
            elif text == "bug":
                raise LookupError("a bug")
            elif text == "die":
                os._exit(3)
            elif text == "wait":
                time.sleep(60)
            elif text.startswith("die once ") and not (mark := Path(text.removeprefix("die once "))).exists():
                mark.touch()
                os._exit(4)
            else:
                ids += [list(text.encode())] * (2 if text == "twice" else 1)
                rows += [row] * (2 if text == "twice" else 1)
        column = pa.array(ids, pa.large_list(pa.int32()))
        tokens = sum(map(len, ids))
        counts = Counter(rows=table.num_rows, emitted=len(ids), tokens=tokens)
        counts["trained_tokens"] = tokens if self.settings.trained else 0
        counts.update(f"rejected:{rejection.reason}" for rejection in rejected)
        result = pa.table({"input_ids": column, "labels": column})
        return EncodedBatch(result, np.array(rows, dtype=np.int64), rejected, counts)
