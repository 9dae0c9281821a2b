"""What an input format is: how its columns are recognised, the fields that may be named, and what reads a row.

Each format stands in a file of `adapt/rows/`, as its `FORMAT`; `adapt/detect.py` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from instruct_fmt.adapt.asked import Asked
from instruct_fmt.adapt.extras import Extras, find_extras
from instruct_fmt.adapt.fields import Fields
from instruct_fmt.types import Example, TemplateSource

Row = Mapping[str, Any]
Made = tuple[Sequence[str], Callable[[Row], Example]]
"""The columns that are read, and what reads a row."""

BESIDE = ("system", "tools", "documents", "chat_template_kwargs", "images", "audios", "videos")
"""Fields that may stand beside the messages of every format but ready text."""


@dataclass(frozen=True)
class Given:
    """A dataset whose rows are to be read.

    Attributes:
        fields: its columns and what the user says about them.
        asked: what else the user says about the rows.
        source: the template.
        named: the format's name, where the user gave one.
    """

    fields: Fields
    asked: Asked
    source: TemplateSource
    named: str | None

    @cached_property
    def extras(self) -> Extras:
        """The columns beside the messages."""
        return find_extras(self.fields, self.asked.system, self.asked.allow_dropped)


def _own_name(format: Format, given: Given, sample: Row | None) -> str:
    return format.name


@dataclass(frozen=True, slots=True)
class Format:
    """An input format for chat templates.

    Attributes:
        name: as users give it.
        takes: the fields that `field_map` and `columns` may name.
        recognises: whether columns show it. Formats are asked in the order of `detect.FORMATS`; the first one has it.
        make: makes what reads the rows; raises `UsageError` where a column is missing.
        same: other names of it.
        shown: its name for reports, by a row of the dataset, where nobody named it.
        ready_text: whether a row of it may be a template's output already, which has no place for columns beside it.
    """

    name: str
    takes: tuple[str, ...]
    recognises: Callable[[Fields], bool]
    make: Callable[[Given], Made]
    same: tuple[str, ...] = ()
    shown: Callable[[Format, Given, Row | None], str] = field(default=_own_name)
    ready_text: bool = False
