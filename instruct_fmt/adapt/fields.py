"""The names of fields in, the dataset's columns out: by `field_map`, else by the usual names.

The names on our side are those of chat APIs, and those of LLaMA-Factory's ``dataset_info.json`` (`columns`
and `tags`), so that such an entry works as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from instruct_fmt.common.names import ANSWERS, hint
from instruct_fmt.errors import UsageError

# Names of columns, by field: the field's own name, then the names under which datasets keep it.
COLUMNS: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation"),
    "instruction": ("instruction", "question"),
    "input": ("input", "context"),
    "output": ANSWERS,
    "history": ("history",),
    "prompt": ("prompt",),
    "completion": ("completion",),
    "text": ("text",),
    "system": ("system", "system_prompt"),
    "tools": ("tools", "functions", "tool_defs", "tool_definitions"),
    "documents": ("documents",),
    "chat_template_kwargs": ("chat_template_kwargs",),
    "images": ("images", "image"),
    "audios": ("audios", "audio"),
    "videos": ("videos", "video"),
}
# Fields of a message.
MESSAGE = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "train", "weight")
# Roles of the dataset: LLaMA-Factory's tags.
TAGS = ("user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag")
PREFERENCE = ("chosen", "rejected", "kto_tag")
# Other names of our fields.
SAME = {
    "query": "input",
    "response": "output",
    "answer": "output",
    "role_tag": "role",
    "content_tag": "content",
}


@dataclass(frozen=True, slots=True)
class Fields:
    """The columns of a dataset and what the user says about them.

    Attributes:
        columns: the names of the columns.
        mapped: our field → the dataset's name; built by `known_fields`, which checks it.
    """

    columns: tuple[str, ...]
    mapped: Mapping[str, str]

    def find(self, field: str) -> str | None:
        """The column of a field: the one that was named, the field's own name, or the one other usual name.

        Raises:
            UsageError: several columns could be meant.
        """
        if field in self.mapped:
            return self.mapped[field]
        own, *others = COLUMNS[field]
        if own in self.columns:
            return own
        found = [name for name in others if name in self.columns]
        if len(found) > 1:
            raise UsageError(
                f"the columns {listed(found)} could all be {field!r}; "
                f"the dataset has {listed(self.columns)}; "
                f"fix: choose one with field_map={{{field!r}: {found[0]!r}}}"
            )
        return found[0] if found else None

    def need(self, field: str, format: str) -> str:
        """The column of a field without which the format cannot be read.

        Raises:
            UsageError: where there is none; lists the columns.
        """
        found = self.find(field)
        if found is None:
            raise UsageError(
                f"format {format!r} needs a column {_or(COLUMNS[field])}; "
                f"the dataset has {listed(self.columns)}; fix: name it with field_map={{{field!r}: …}}"
            )
        return found


def known_fields(columns: Sequence[str], *maps: Mapping[str, str]) -> Fields:
    """Check what the user says about names, and put it together; later maps win.

    Raises:
        UsageError: a name that is no field of ours, or a column that the dataset does not have.
    """
    mapped: dict[str, str] = {}
    for names in maps:
        for field, name in names.items():
            known = SAME.get(field, field)
            if known not in COLUMNS and known not in (*MESSAGE, *TAGS, *PREFERENCE):
                options = (*COLUMNS, *MESSAGE, *TAGS, *PREFERENCE, *SAME)
                raise UsageError(f"field_map: unknown field {field!r}{hint(field, options)}; known: {listed(options)}")
            if known in COLUMNS and name not in columns:
                raise UsageError(missing_column(f"field_map[{field!r}]", name, columns))
            mapped[known] = name
    return Fields(tuple(columns), mapped)


def missing_column(where: str, name: str, columns: Sequence[str]) -> str:
    """The text of the error for a column that does not exist."""
    return f"{where} names the column {name!r}{hint(name, columns)}; the dataset has {listed(columns)}"


def listed(names: Iterable[str]) -> str:
    """Names in an error message."""
    return ", ".join(repr(name) for name in names) or "no columns"


def _or(names: Sequence[str]) -> str:
    return " or ".join(repr(name) for name in names)
