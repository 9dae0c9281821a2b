"""Hostile rows: `hostile_values` in every place of a row, and rows that are odd as a whole.

In: nothing. Out: `cases()`. Each goes through `encode`, and where Arrow holds it, through `encode_batch` and
`datasets.map`; what comes out is trained on the assistant's own words and their stop, or it is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import datasets
import hostile_labels
import pyarrow as pa
from hostile_case import SECONDS, Case, Outcome
from hostile_scene import formatter, say
from hostile_values import VALUES, Value
from hostile_whole_rows import WHOLE

import instruct_fmt as ifmt

Row = dict[str, Any]
USER, ANSWER = "usralpha usrbeta", "ansgamma ansdelta"
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": {"where": "here"}}}
# What Arrow says of values that it cannot hold, those of a user's class included.
_UNFIT = (ValueError, TypeError, OverflowError, NotImplementedError, AttributeError, RuntimeError, KeyError)
_MAPPED = 5  # every so manieth row is mapped too
STOPS = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "alpaca": "<|im_end|>"}
TOKENIZERS = {"chatml": "chatml", "llama3": "llama3", "alpaca": "chatml"}


def _messages(user: Any = USER, answer: Any = ANSWER, **more: Any) -> Row:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer, **more}]}


def _record(**fields: Any) -> Row:
    return {"instruction": USER, "input": "", "output": ANSWER, **fields}


PLACES: Mapping[str, tuple[str, Callable[[Any], Row]]] = {
    "the answer": ("chatml", lambda v: _messages(answer=v)),
    "the question": ("chatml", lambda v: _messages(user=v)),
    "the answer, Llama 3": ("llama3", lambda v: _messages(answer=v)),
    "a role": ("chatml", lambda v: {"messages": [{"role": v, "content": USER}, *_messages()["messages"]]}),
    "messages": ("chatml", lambda v: {"messages": v}),
    "a message": ("chatml", lambda v: {"messages": [v, *_messages()["messages"]]}),
    "an unknown field": ("chatml", lambda v: _messages(mood=v)),
    "reasoning": ("chatml", lambda v: _messages(reasoning_content=v)),
    "calls": ("chatml", lambda v: _messages(tool_calls=v)),
    "arguments": ("chatml", lambda v: _messages(tool_calls=[{**CALL, "function": {"name": "look", "arguments": v}}])),
    "tools": ("chatml", lambda v: {**_messages(), "tools": v}),
    "a system column": ("chatml", lambda v: {**_messages(), "system": v}),
    "another column": ("chatml", lambda v: {**_messages(), "source": v}),
    "a weight": ("chatml", lambda v: _messages(weight=v)),
    "the output of a record": ("alpaca", lambda v: _record(output=v)),
    "the instruction of a record": ("alpaca", lambda v: _record(instruction=v)),
}
# Much honest work, done once for each way.
_HONEST = {"1,000 messages": 6.0, "5,000 messages": 40.0, "a role of 1 MB": 4.0}
_TEXTS = ("the answer", "the question", "the output of a record", "the answer, Llama 3", "arguments")


def cases() -> Iterator[Case]:
    """Each value in each place, large texts where texts belong; then the odd rows."""
    number = 0
    for place, (template, build) in PLACES.items():
        for name, value in VALUES.items():
            if value.large and place not in _TEXTS:
                continue
            number += 1
            arrow = value.arrow and not value.large
            how = _how(template, arrow, arrow and not number % _MAPPED)
            run = _runner(template, partial(_made, build, value), arrow, arrow and not number % _MAPPED)
            tries = "a value that nobody expects there"
            # The judge reads each id of a large text itself, which takes longer than the encoding.
            allowed = SECONDS + (10 if value.large else 2 if name.startswith("JSON, deep") else 0)
            family = f"a strange value as {place}"
            yield Case("rows", f"{name} as {place}", tries, how, run, family=family, seconds=allowed)
    for template, answer in (("chatml", "a"), ("chatml", "ab"), ("llama3", "a")):
        for place in ("answer", "user"):
            run = _runner(template, partial(_large, place, answer), False, False)
            name = f"{len(answer)}0 MB in one word as the {place}, {template}"
            allowed = SECONDS + 10 * len(answer)
            yield Case("rows", name, "a text of a size", _how(template, False, False), run, seconds=allowed)
    for name, (template, tries, make, arrow) in WHOLE.items():
        run = _runner(template, make, arrow, arrow)
        seconds = _HONEST.get(name, SECONDS)
        yield Case("rows", name, tries, _how(template, arrow, arrow), run, seconds=seconds)


def _made(build: Callable[[Any], Row], value: Value) -> Row:
    return build(value.make())


def _large(place: str, text: str) -> Row:
    return _messages(**{place: text * 10_000_000})


def _how(template: str, arrow: bool, mapped: bool) -> str:
    return f"{template}: encode" + (", encode_batch" if arrow else "") + (", map" if mapped else "")


def _runner(template: str, make: Callable[[], Any], arrow: bool, mapped: bool) -> Callable[[], Outcome]:
    return lambda: judge(template, make(), arrow, mapped)


def judge(template: str, row: Any, arrow: bool, mapped: bool) -> Outcome:
    """What becomes of a row, in each way."""
    fmt = formatter(template, TOKENIZERS[template])
    found = [say(lambda: _encode(fmt, template, row))]
    if arrow:
        try:
            table = pa.Table.from_pylist([row])
        except _UNFIT:
            return found[0]
        found.append(say(lambda: _encode_table(fmt, template, row, table)))
        if mapped:
            found.append(say(lambda: _map(fmt, template, row, table)))
    same = len({one.result for one in found}) == 1
    words = [found[0].result] if same else [one.result for one in found]
    return Outcome("; ".join(words), tuple(wrong for one in found for wrong in one.wrong))


def _encode(fmt: ifmt.Formatter, template: str, row: Row) -> Outcome:
    encoded = fmt.encode(row)
    return Outcome(f"ok: {len(encoded['input_ids'])} ids", tuple(wrong_labels(fmt, template, row, encoded)))


def _encode_table(fmt: ifmt.Formatter, template: str, row: Row, table: pa.Table) -> Outcome:
    batch = fmt.encode_batch(table)
    if batch.rejected:
        raise batch.rejected[0].to_error()
    encoded = batch.table.to_pylist()[0]
    return Outcome(f"ok: {len(encoded['input_ids'])} ids", tuple(wrong_labels(fmt, template, row, encoded)))


def _map(fmt: ifmt.Formatter, template: str, row: Row, table: pa.Table) -> Outcome:
    dataset = datasets.Dataset(table)
    mapped = dataset.map(fmt, batched=True, remove_columns=dataset.column_names)
    wrong = [fault for encoded in mapped for fault in wrong_labels(fmt, template, row, encoded)]
    return Outcome(f"ok: {len(mapped)} row mapped", tuple(wrong))


def _conversation(row: Row) -> Any:
    """The messages of a row, whatever their column is called."""
    found = row.get("messages") or row.get("conversations") or row.get("completion")
    return json.loads(found) if isinstance(found, str) else found


def wrong_labels(fmt: ifmt.Formatter, template: str, row: Row, encoded: Mapping[str, list[int]]) -> list[str]:
    """The exact oracle where the answers are plain text, else that no word of the user's is trained."""
    turns = [row["output"]] if "output" in row else hostile_labels.texts(_conversation(row))
    if turns is not None and all(type(turn) is str for turn in turns):
        turns = [turn.strip() for turn in turns] if template == "llama3" else turns
        return hostile_labels.as_served(fmt, encoded, turns, STOPS[template])
    found = hostile_labels.trained(fmt, encoded)
    return hostile_labels.aligned(fmt, encoded) + [f"trained {word!r}" for word in USER.split() if word in found]
