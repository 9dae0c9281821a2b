"""Alpaca-like rows in (instruction, input, output, history), conversations for chat templates out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from instruct_fmt.adapt.canonical import IS_TEXT, Canonical
from instruct_fmt.adapt.extras import Extras
from instruct_fmt.adapt.fields import Fields
from instruct_fmt.adapt.formats import BESIDE, Format
from instruct_fmt.adapt.values import Path, as_list, at, bad_field, root, text
from instruct_fmt.types import Conversation, Message


def adapter(fields: Fields, extras: Extras) -> tuple[Sequence[str], Callable[[Mapping[str, Any]], Conversation]]:
    """Make the adapter: the user's message is instruction, newline, input; the answer is the output.

    Returns:
        The columns that are read, and what reads a row.

    Raises:
        UsageError: the instruction or the output has no column.
    """
    instruction, output, context = columns_of(fields)
    history = fields.find("history")
    pair = (at(root(instruction)), at(root(output)))

    def adapt(row: Mapping[str, Any]) -> Conversation:
        question = text(row.get(instruction), root(instruction))
        more = row.get(context) if context else None
        if more is not None:
            more = text(more, root(context or ""))
            question = f"{question}\n{more}" if question and more else question or more
        messages: list[Message] = []
        paths: tuple[str, ...] = pair
        if history is not None and row.get(history) is not None:
            messages, earlier = _history(row[history], root(history))
            paths = (*earlier, *pair)
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": text(row.get(output), root(output))})
        size = len(messages)
        return extras.conversation(Canonical(messages, (None,) * size, (IS_TEXT,) * size, paths), row)

    own = (instruction, output, context, history)
    return (*(name for name in own if name is not None), *extras.columns), adapt


def columns_of(fields: Fields) -> tuple[str, str, str | None]:
    """The columns of instruction and output, and of the input, if there is one.

    Raises:
        UsageError: the instruction or the output has no column.
    """
    mapped = fields.mapped
    # LLaMA-Factory calls the instruction `prompt`.
    instruction = mapped.get("prompt") if "instruction" not in mapped else None
    output = mapped.get("completion") if "output" not in mapped else None
    return (
        instruction or fields.need("instruction", "alpaca"),
        output or fields.need("output", "alpaca"),
        fields.find("input"),
    )


def is_named(fields: Fields) -> bool:
    """Whether somebody names a field of records: then these are records, whatever else there is."""
    return any(field in fields.mapped for field in ("instruction", "input", "output"))


def _recognises(fields: Fields) -> bool:
    return bool((fields.find("instruction") or "prompt" in fields.mapped) and fields.find("output"))


FORMAT = Format(
    "alpaca",
    takes=("instruction", "input", "output", "history", "prompt", "completion", *BESIDE),
    recognises=_recognises,
    make=lambda given: adapter(given.fields, given.extras),
)


def _history(value: object, path: Path) -> tuple[list[Message], tuple[str, ...]]:
    """Earlier turns, oldest first: a list of pairs (question, answer)."""
    turns = as_list(value)
    if turns is None:
        raise bad_field(path, value, "a list of pairs [question, answer]", "convert the column, or drop it")
    messages: list[Message] = []
    paths: list[str] = []
    for i, turn in enumerate(turns):
        pair = as_list(turn)
        if pair is None or len(pair) != 2:
            raise bad_field((path, i), turn, "a pair [question, answer]", "repair it, or drop the column")
        for k, role in enumerate(("user", "assistant")):
            here = ((path, i), k)
            messages.append({"role": role, "content": text(pair[k], here)})
            paths.append(at(here))
    return messages, tuple(paths)
