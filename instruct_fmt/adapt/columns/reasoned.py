"""Where columns keep their reasoning: the twin of `common/reasoning.py: reasoned`.

In: rows of one shape. Out: the same with their reasoning as a field, or without any; rows of which some have a block of
it in a content, and others have none, come apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from instruct_fmt.adapt.columns.distinct import TEXT
from instruct_fmt.adapt.columns.shaped import ShapedRows
from instruct_fmt.common.reasoning import REASONING, split_reasoning


def reasoned_rows(rows: ShapedRows, answers: Sequence[int], how: str) -> list[ShapedRows]:
    """The rows with their reasoning as it is (``keep``), left out (``strip``), or as a field (``field``).

    Args:
        rows: rows of one shape.
        answers: the messages that are the assistant's.
        how: what becomes of it.
    """
    parts = [rows]
    for place in answers if how != "keep" else ():
        if how == "strip":
            parts = [_stripped(part, place) for part in parts]
        else:
            parts = [found for part in parts for found in _as_field(part, place)]
    return parts


def _stripped(rows: ShapedRows, place: int) -> ShapedRows:
    texts = {key: column for key, column in rows.texts.items() if key[0] != place or key[1] not in REASONING}
    content = texts.get((place, "content"))
    if content is not None:
        said = content.to_pylist()
        found = map(split_reasoning, said)
        answers = [text if parts is None else parts[2] for text, parts in zip(said, found, strict=True)]
        texts[place, "content"] = pa.array(answers, TEXT)
    return replace(rows, texts=texts)


def _as_field(rows: ShapedRows, place: int) -> list[ShapedRows]:
    content = rows.texts.get((place, "content"))
    if content is None:
        return [rows]
    found = [split_reasoning(text) for text in content.to_pylist()]
    inline = np.array([parts is not None for parts in found], np.bool_)
    for name in REASONING:
        if (place, name) in rows.texts:
            inline &= np.array([not text for text in rows.texts[place, name].to_pylist()], np.bool_)
    changed = [parts for parts, here in zip(found, inline.tolist(), strict=True) if parts is not None and here]
    if not changed:
        return [rows]
    reasoning = pa.array([parts[0] for parts in changed], TEXT)
    own = {"content": pa.array([parts[2] for parts in changed], TEXT)}
    own |= {"reasoning_content": reasoning, "thinking": reasoning}
    with_block = rows.only(inline)
    texts = {**with_block.texts, **{(place, name): column for name, column in own.items()}}
    others = [] if inline.all() else [rows.only(~inline)]
    return [replace(with_block, texts=texts), *others]
