"""Lists of Arrow put together: the messages of a prompt and those of its completion, the parts of a content."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from instruct_fmt.adapt.content import TEXT_TYPES
from instruct_fmt.types import Bools

TRAIN = "train"
_MANY = pa.large_string()


def joined_lists(prompts: pa.Array, completions: pa.Array) -> tuple[pa.Array, Bools] | None:
    """Each row's messages, those of the prompt marked as not trained, and which rows have both; None for other types.

    >>> said = pa.array([[{"role": "user", "content": "Hi"}]])
    >>> joined_lists(said, said)[0].to_pylist()[0][0]
    {'role': 'user', 'content': 'Hi', 'train': False}
    """
    kind = prompts.type
    if kind != completions.type or not _is_list(kind) or not pa.types.is_struct(kind.value_type):
        return None
    if kind.value_type.get_field_index(TRAIN) >= 0:
        return None
    whole = _mask(pc.and_(pc.is_valid(prompts), pc.is_valid(completions)))
    values, starts, sizes = [], [], []
    before = 0
    for lists in (prompts, completions):
        offsets = np.asarray(lists.offsets, np.int64)
        values.append(lists.values)
        starts.append(offsets[:-1] + before)
        sizes.append(np.diff(offsets))
        whole &= sizes[-1] > 0
        before += len(lists.values)
    count = np.stack(sizes, axis=1).reshape(-1)
    first = np.stack(starts, axis=1).reshape(-1)
    ends = np.cumsum(count)
    places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - count), count)
    messages = pa.concat_arrays(values).take(pa.array(places))
    trained = pa.array(places < len(values[0]))
    flags = pc.if_else(trained, pa.scalar(False), pa.scalar(None, pa.bool_()))
    names = [member.name for member in messages.type]
    marked = pa.StructArray.from_arrays([*messages.flatten(), flags], names=[*names, TRAIN], mask=messages.is_null())
    offsets = np.concatenate([[0], ends[1::2]]) if len(ends) else np.zeros(1, np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), marked), whole


def joined_parts(contents: pa.Array) -> tuple[pa.Array, Bools] | None:
    """Contents that are lists of text parts as one text each, and which of them are; None for other types.

    >>> parts = pa.array([[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]])
    >>> joined_parts(parts)[0].to_pylist()
    ['ab']
    """
    kind = contents.type
    if not _is_list(kind) or not pa.types.is_struct(kind.value_type):
        return None
    members = {member.name: member.type for member in kind.value_type}
    if not all(name in members and _is_text(members[name]) for name in ("type", "text")):
        return None
    values, offsets = contents.values, np.asarray(contents.offsets, np.int64)
    children = dict(zip(members, values.flatten(), strict=True))
    good = _mask(
        pc.and_(pc.is_in(children["type"], pa.array(sorted(TEXT_TYPES), members["type"])), pc.is_valid(values))
    )
    good &= _mask(pc.is_valid(children["text"]))
    for name, child in children.items():
        if name not in ("type", "text"):
            good &= _mask(pc.is_null(child))
    right = np.diff(np.concatenate([[0], np.cumsum(~good)])[offsets]) == 0
    texts = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pc.fill_null(children["text"].cast(_MANY), ""))
    found = pc.binary_join(texts, pa.scalar("", _MANY))
    return pc.if_else(pc.is_valid(contents), found, pa.scalar(None, _MANY)), right


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _mask(array: pa.Array) -> Bools:
    mask: Bools = array.to_numpy(zero_copy_only=False)
    return mask
