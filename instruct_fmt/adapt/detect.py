"""The columns of a dataset in, the name of its format out: by what the user says, or by the columns alone.

Rows never change the outcome: the same columns always mean the same format, whatever batch is seen first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruct_fmt.adapt.fields import COLUMNS, MESSAGE, TAGS, Fields, listed
from instruct_fmt.adapt.rows.messages import is_sharegpt
from instruct_fmt.adapt.values import as_list, decoded
from instruct_fmt.common.names import hint
from instruct_fmt.errors import UsageError
from instruct_fmt.types import TemplateSource

FORMATS = ("messages", "sharegpt", "alpaca", "prompt_completion", "instruction", "text", "record")
_SAME = {
    "openai": "messages",
    "prompt-completion": "prompt_completion",
    "instruct": "instruction",
    "prompt_response": "instruction",
}
_BESIDE = ("system", "tools", "documents", "chat_template_kwargs", "images", "audios", "videos")
_FIELDS: dict[str, tuple[str, ...]] = {
    "messages": ("messages", *MESSAGE, *TAGS, *_BESIDE),
    "sharegpt": ("messages", *MESSAGE, *TAGS, *_BESIDE),
    "alpaca": ("instruction", "input", "output", "history", "prompt", "completion", *_BESIDE),
    "prompt_completion": ("prompt", "completion", *MESSAGE, *TAGS, *_BESIDE),
    "instruction": ("prompt", "completion", "output", *MESSAGE, *TAGS, *_BESIDE),
    "text": ("text",),
}


def named(format: str, source: TemplateSource) -> str:
    """The format that the user names, checked against the template.

    Raises:
        UsageError: an unknown name, or a format that the template cannot take.
    """
    name = _SAME.get(format, format)
    if name not in FORMATS:
        raise UsageError(f"unknown format {format!r}{hint(format, FORMATS)}; known: {listed(FORMATS)}")
    if source.kind == "record":
        if name in ("messages", "sharegpt"):
            raise UsageError(
                f"format {format!r} needs a chat template, but {source.name!r} is a record template over "
                f"{listed(source.columns)}; fix: choose a chat template, or leave `format` out"
            )
        return "text" if name == "text" else "record"
    if name == "record":
        raise UsageError(
            f"format 'record' needs a record template, but {source.name!r} is a chat template; "
            "fix: leave `format` out, or choose a record template"
        )
    return name


def recognise(fields: Fields) -> str:
    """The format that the columns show, for a chat template.

    Raises:
        UsageError: preference data, or columns that fit no format; lists the columns.
    """
    mapped, columns = fields.mapped, fields.columns
    _refuse_preference(fields)
    if "prompt" in mapped and "completion" in mapped:
        return "prompt_completion"
    if fields.find("messages"):
        return "messages"
    # Who names an instruction, an input or an output means records, whatever else there is.
    records = any(field in mapped for field in ("instruction", "input", "output"))
    if fields.find("prompt") and fields.find("completion") and not records:
        return "prompt_completion"
    if (fields.find("instruction") or "prompt" in mapped) and fields.find("output"):
        return "alpaca"
    if fields.find("text"):
        return "text"
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


def of_instructions(fields: Fields) -> str:
    """What ``instruction`` reads: a prompt and its completion, or the columns of ``alpaca``.

    Raises:
        UsageError: both could be meant, or neither is there.
    """
    prompt, instruction = fields.find("prompt"), fields.find("instruction")
    if "instruction" in fields.mapped or (instruction and not prompt):
        return "alpaca"
    if prompt and instruction and "prompt" not in fields.mapped:
        raise UsageError(
            f"format 'instruction': found the columns {prompt!r} and {instruction!r}; expected one that asks; "
            f"fix: format=\"alpaca\" takes {instruction!r}, field_map={{'prompt': {prompt!r}}} takes {prompt!r}"
        )
    fields.need("prompt", "instruction")
    return "instruction"


def shown_name(format: str, fields: Fields, sample: Mapping[str, Any] | None, *, texts_as_messages: bool) -> str:
    """The name for reports: a `messages` column may hold ShareGPT's messages, and a prompt may become a message."""
    if format == "prompt_completion" and texts_as_messages:
        value = sample.get(fields.find("prompt") or "") if sample else None
        return "instruction" if value is None or isinstance(value, str) else format
    if format != "messages":
        return format
    column = fields.find("messages")
    value = sample.get(column) if sample and column else None
    first = as_list(decoded(value) if isinstance(value, str) else value)
    if first:
        return "sharegpt" if is_sharegpt(first[0]) else "messages"
    return "messages" if column == "messages" else "sharegpt"


def check_used(format: str, fields: Fields) -> None:
    """Refuse names for fields that the format does not have, which would be ignored in silence.

    Raises:
        UsageError: lists the fields of the format.
    """
    takes = _FIELDS[format]
    unused = [field for field in fields.mapped if field not in takes]
    if unused:
        raise UsageError(
            f"the format {format!r} has no field {unused[0]!r}; it has {listed(takes)}; "
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
        f"the dataset holds preference data ({listed(pair)}), which is not supported yet; the dataset has "
        f"{listed(fields.columns)}; fix: field_map={_chosen_alone(fields, pair[0])} trains on the chosen answers "
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
