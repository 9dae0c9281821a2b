"""Rows with a prompt and a completion in, both text or both messages; `Text` or a `Conversation` out.

Messages are a conversation. Texts are read in one way in all rows of a dataset, whatever they hold: as a user's
message and the assistant's answer, or as a template's output that is ready. Where nobody said which, it is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.canonical import IS_TEXT, Canonical, Dialect, canonical_messages, message_list
from instruct_fmt.adapt.extras import Extras
from instruct_fmt.adapt.fields import MESSAGE, TAGS, Fields
from instruct_fmt.adapt.formats import BESIDE, Format, Given, Made, Row
from instruct_fmt.adapt.rows.alpaca import is_named
from instruct_fmt.adapt.rows.messages import dialects, is_sharegpt
from instruct_fmt.adapt.rows.sharegpt import link_results
from instruct_fmt.adapt.system import Unplaced
from instruct_fmt.adapt.values import Path, at, bad_field, root, text
from instruct_fmt.errors import Change, RowError, UsageError, option
from instruct_fmt.types import Conversation, Message, TemplateSource, Text

Texts = Literal["messages", "text", "only_text", "undecided"]
Reader = Callable[[Row, str, str], Conversation | Text]


def reading(format: str | None, source: TemplateSource) -> Texts:
    """How textual prompts and completions are read: what the user asked for decides, never a row."""
    if format == "instruction":
        return "messages"
    if not source.text:
        return "only_text"
    if format == "prompt_completion":
        return "text"
    return "undecided" if source.own else "messages"


def reader(texts: Texts, fields: Fields, extras: Extras, asked: Asked) -> Reader:
    """What reads the textual prompt and completion of a row, of the columns that are named behind it."""
    if texts == "undecided":
        return _undecided
    if texts == "messages":
        return _messages(extras, asked.markers)
    option = 'format="instruction"' if texts == "text" else 'template="chatml", or another chat template,'
    cure = f"{option} makes messages of prompt and completion"
    return _text(Unplaced.of(asked, fields.find("system"), "ready text", cure))


def adapter(
    fields: Fields, extras: Extras, spoken: tuple[Dialect, Dialect], read: Reader
) -> tuple[Sequence[str], Callable[[Row], Conversation | Text]]:
    """Make the adapter. Messages of the prompt are never trained; the completion is as the formatter says.

    Args:
        fields: the columns and what the user says about them.
        extras: the columns beside them.
        spoken: how messages may be written: in OpenAI's way, and in ShareGPT's.
        read: reads a row whose prompt and completion are text.

    Returns:
        The columns that are read, and what reads a row.

    Raises:
        UsageError: the prompt or the completion has no column.
    """
    prompt = fields.need("prompt", "prompt_completion")
    completion = fields.find("completion") or fields.find("output") or fields.need("completion", "prompt_completion")

    def adapt(row: Row) -> Conversation | Text:
        first, second = row.get(prompt), row.get(completion)
        first_text, second_text = _is_text(first), _is_text(second)
        if first_text and second_text:
            return read(row, prompt, completion)
        if first_text or second_text:
            column, value = (completion, second) if first_text else (prompt, first)
            other = "text" if first_text else "messages"
            fix = f"make this one {other}, or the other one {'messages' if first_text else 'text'}"
            raise bad_field(root(column), value, "prompt and completion alike", fix)
        return conversation(row)

    openai, sharegpt = spoken

    def conversation(row: Row) -> Conversation:
        values = message_list(row.get(prompt), root(prompt))
        dialect = sharegpt if is_sharegpt(values[0]) else openai
        before = canonical_messages(values, prompt, dialect)
        after = canonical_messages(message_list(row.get(completion), root(completion)), completion, dialect)
        found = Canonical(
            before.messages + after.messages,
            (False,) * len(before.messages) + after.flags,
            before.names + after.names,
            before.paths + after.paths,
            before.linked or after.linked,
            before.unread + after.unread,
        )
        if found.linked:
            link_results(found.messages)
        return extras.conversation(found, row)

    return (prompt, completion, *extras.columns), adapt


def marker_of(markers: Sequence[str]) -> str:
    """A pattern that matches any of these texts."""
    return "|".join(map(re.escape, sorted(markers, key=len, reverse=True)))


def _messages(extras: Extras, markers: Sequence[str]) -> Reader:
    """Read texts as a question and its answer; those that hold one of `markers` are refused."""
    marker = re.compile(marker_of(markers) or "(?!)")

    def read(row: Row, prompt: str, completion: str) -> Conversation:
        messages: list[Message] = []
        for role, column in (("user", prompt), ("assistant", completion)):
            content = text(row.get(column), root(column))
            marked = marker.search(content)
            if marked is not None:
                raise _marked(marked[0], root(column))
            messages.append({"role": role, "content": content})
        paths = (at(root(prompt)), at(root(completion)))
        return extras.conversation(Canonical(messages, (None, None), (IS_TEXT, IS_TEXT), paths), row)

    return read


def _text(unplaced: Unplaced | None) -> Reader:
    """Read texts as they are; a system prompt beside them has no place."""

    def read(row: Row, prompt: str, completion: str) -> Text:
        path = root(completion)
        found = Text(text(row.get(prompt), root(prompt)), text(row.get(completion), path), at(path))
        if unplaced is not None:
            unplaced.check_default()
            unplaced.check(row)
        return found

    return read


def _undecided(row: Row, prompt: str, completion: str) -> Text:
    """Refuse to read texts, because nobody said what they are.

    Raises:
        UsageError: always, but for a row that is no text.
    """
    for column in (prompt, completion):
        text(row.get(column), root(column))
    raise UsageError(
        f"the columns {prompt!r} and {completion!r} hold text, and the template is the tokenizer's own; "
        'expected a word on what they are; fix: format="instruction" makes them a user message and an assistant '
        'message, format="prompt_completion" takes them as ready text'
    )


def _marked(marker: str, path: Path) -> RowError:
    return RowError(
        "control-token",
        at(path),
        f"{marker!r}, which the chat template writes itself",
        "text without markers, or a word on what it is",
        "take it out of the row, or say what the columns hold",
        changes=[
            Change(
                'format="prompt_completion" and control_tokens="allow"',
                "take prompt and completion as ready text, whose markers are tokens",
                {"format": "prompt_completion", "control_tokens": "allow"},
            ),
            option("format", "instruction", "makes messages of them, whose markers are ordinary text"),
        ],
    )


def _is_text(value: object) -> bool:
    """Null counts as text: the error about it says so."""
    return value is None or isinstance(value, str)


def _make(given: Given) -> Made:
    spoken = dialects(given.fields, given.asked, given.source)
    read = reader(reading(given.named, given.source), given.fields, given.extras, given.asked)
    return adapter(given.fields, given.extras, spoken, read)


def _recognises(fields: Fields) -> bool:
    if "prompt" in fields.mapped and "completion" in fields.mapped:
        return True
    if fields.find("messages") or is_named(fields):
        return False
    return bool(fields.find("prompt") and fields.find("completion"))


def _shown(format: Format, given: Given, sample: Row | None) -> str:
    """A textual prompt may become a message."""
    if reading(given.named, given.source) != "messages":
        return format.name
    value = sample.get(given.fields.find("prompt") or "") if sample else None
    return "instruction" if value is None or isinstance(value, str) else format.name


FORMAT = Format(
    "prompt_completion",
    takes=("prompt", "completion", *MESSAGE, *TAGS, *BESIDE),
    recognises=_recognises,
    make=_make,
    same=("prompt-completion",),
    shown=_shown,
    ready_text=True,
)
INSTRUCTION = Format(
    "instruction",
    takes=("prompt", "completion", "output", *MESSAGE, *TAGS, *BESIDE),
    recognises=lambda fields: False,
    make=_make,
    same=("instruct", "prompt_response"),
    ready_text=True,
)
