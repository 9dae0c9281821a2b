"""The columns of a dataset in, its format out: by what the user says, or by the columns alone.

Rows never change the outcome: the same columns always mean the same format, whatever batch is seen first.
"""

from __future__ import annotations

from instruct_fmt.adapt.fields import COLUMNS, Fields, listed
from instruct_fmt.adapt.formats import Format
from instruct_fmt.adapt.rows import alpaca, messages, prompt_completion, text
from instruct_fmt.common.names import hint
from instruct_fmt.errors import UsageError
from instruct_fmt.types import TemplateSource

RECORD = "record"
FORMATS: tuple[Format, ...] = (
    prompt_completion.FORMAT,
    messages.FORMAT,
    alpaca.FORMAT,
    text.FORMAT,
    messages.SHAREGPT,
    prompt_completion.INSTRUCTION,
)
"""All formats for chat templates, in the order in which they are asked whether columns show them."""
_BY_NAME = {name: format for format in FORMATS for name in (format.name, *format.same)}
_SHOWN = (*(format.name for format in FORMATS), RECORD)
NAMES = (*_BY_NAME, RECORD)
"""What `format` may be."""


def named(format: str, source: TemplateSource) -> Format | None:
    """The format that the user names, checked against the template; None for a record template's columns.

    Raises:
        UsageError: an unknown name, or a format that the template cannot take.
    """
    found = _BY_NAME.get(format)
    if found is None and format != RECORD:
        raise UsageError(f"unknown format {format!r}{hint(format, NAMES)}; known: {listed(_SHOWN)}")
    if source.kind == "record":
        if found in (messages.FORMAT, messages.SHAREGPT):
            raise UsageError(
                f"format {format!r} needs a chat template, but {source.name!r} is a record template over "
                f"{listed(source.columns)}; fix: choose a chat template, or leave `format` out"
            )
        return text.FORMAT if found is text.FORMAT else None
    if found is None:
        raise UsageError(
            f"format 'record' needs a record template, but {source.name!r} is a chat template; "
            "fix: leave `format` out, or choose a record template"
        )
    return found


def format_of(fields: Fields, named: Format | None) -> Format:
    """The format of a dataset's rows: the one that the user named, or the one that the columns show.

    Raises:
        UsageError: no format fits, or names are given for fields that it does not have.
    """
    format = recognise(fields) if named is None else named
    if named is prompt_completion.INSTRUCTION:
        format = of_instructions(fields)
    check_used(format, fields)
    return format


def recognise(fields: Fields) -> Format:
    """The format that the columns show, for a chat template.

    Raises:
        UsageError: preference data, or columns that fit no format; lists the columns.
    """
    _refuse_preference(fields)
    for format in FORMATS:
        if format.recognises(fields):
            return format
    columns = fields.columns
    guess = ""
    answer = fields.find("output")
    if "prompt" in columns and answer:
        guess = f", here perhaps field_map={{'instruction': 'prompt', 'output': {answer!r}}}"
    raise UsageError(
        f"the columns fit no known format: the dataset has {listed(columns)}; expected 'messages', "
        "'conversations', 'instruction' and 'output', 'prompt' and 'completion', or 'text'; "
        "fix: name them with field_map={'messages': …} or "
        f"field_map={{'instruction': …, 'output': …}}{guess}"
    )


def of_instructions(fields: Fields) -> Format:
    """What ``instruction`` reads: a prompt and its completion, or the columns of ``alpaca``.

    Raises:
        UsageError: both could be meant, or neither is there.
    """
    prompt, instruction = fields.find("prompt"), fields.find("instruction")
    if "instruction" in fields.mapped or (instruction and not prompt):
        return alpaca.FORMAT
    if prompt and instruction and "prompt" not in fields.mapped:
        raise UsageError(
            "format 'instruction'",
            f"the columns {prompt!r} and {instruction!r}",
            "one that asks",
            f"format=\"alpaca\" takes {instruction!r}, field_map={{'prompt': {prompt!r}}} takes {prompt!r}",
        )
    fields.need("prompt", "instruction")
    return prompt_completion.INSTRUCTION


def check_used(format: Format, fields: Fields) -> None:
    """Refuse names for fields that the format does not have, which would be ignored in silence.

    Raises:
        UsageError: lists the fields of the format.
    """
    unused = [field for field in fields.mapped if field not in format.takes]
    if unused:
        raise UsageError(
            f"the format {format.name!r} has no field {unused[0]!r}; it has {listed(format.takes)}; "
            "fix: take the name out of field_map, or name another format"
        )


def _refuse_preference(fields: Fields) -> None:
    """Preference data is refused, unless the user says which side is to be trained."""
    pair = [fields.mapped.get(name, name) for name in ("chosen", "rejected")]
    asked = any(name in fields.mapped for name in ("chosen", "rejected", "kto_tag"))
    if not asked and not all(name in fields.columns for name in pair):
        return
    if not asked and any(fields.mapped.get(name) in pair for name in ("messages", "output", "completion", "prompt")):
        return
    raise UsageError(
        f"the dataset holds preference data ({listed(pair)}); the dataset has {listed(fields.columns)}; fix: "
        "fmt.prepare_pairs(dataset) makes the ids that preference trainers take; or "
        f"field_map={_chosen_alone(fields, pair[0])} trains on the chosen answers "
        f"only, or, where {pair[0]!r} holds whole conversations, field_map={{'messages': {pair[0]!r}}}"
    )


def _chosen_alone(fields: Fields, chosen: str) -> dict[str, str]:
    """The names under which the chosen answers are read as those of ordinary rows."""
    messages = next((name for name in COLUMNS["messages"] if name in fields.columns), None)
    if messages is not None:
        return {"prompt": messages, "completion": chosen}
    if "prompt" in fields.columns:
        return {"completion": chosen}
    return {"output" if "instruction" in fields.columns else "messages": chosen}
