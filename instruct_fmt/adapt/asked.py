"""What the user says about the rows of a dataset, in the words of `compile`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the user says about the rows.

    Attributes:
        columns: the template's name of a column → the dataset's.
        field_map: our name of a field, or a tag of LLaMA-Factory's → the dataset's.
        format: the format's name; None to recognise it by the columns.
        system: the system prompt of rows that have none.
        allow_dropped: roles and fields that may be left out of the text.
        roles: names of roles that the user adds → roles.
        markers: texts that a chat template writes itself. Nobody said what a prompt that holds one is: words of a
            message, or a template's output. Empty where it was said.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    field_map: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    system: str | None = None
    allow_dropped: frozenset[str] = frozenset()
    roles: Mapping[str, str] = field(default_factory=dict)
    markers: tuple[str, ...] = ()
