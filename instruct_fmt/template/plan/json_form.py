"""JSON in the forms in which templates ask for it.

In: the arguments of `tojson`. Out: a `JsonForm`, which writes an object anew, or what a template puts around objects.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class JsonForm:
    """How `json.dumps` writes.

    Attributes:
        ensure_ascii, indent, separators, sort_keys: as `json.dumps` takes them.
        depth: how deep inside of other values, which moves lines to the right where there is an `indent`.
    """

    ensure_ascii: bool = False
    indent: int | None = None
    separators: tuple[str, str] | None = None
    sort_keys: bool = False
    depth: int = 0

    @property
    def key(self) -> str:
        """It as a text."""
        return json.dumps([self.ensure_ascii, self.indent, self.separators, self.sort_keys, self.depth])

    @property
    def is_plain(self) -> bool:
        """Whether an object's own JSON has this form."""
        return not self.ensure_ascii and self.indent is None and self.separators is None and not self.sort_keys

    def between(self) -> tuple[str, str]:
        """What stands between items, and between a name and its value."""
        return self.separators or ("," if self.indent is not None else ", ", ": ")

    def line(self, depth: int) -> str:
        """The beginning of a new line so deep inside; empty where everything is in one line."""
        return "" if self.indent is None else "\n" + " " * (self.indent * depth)

    def dumps(self, value: Any) -> str:
        """A value in this form."""
        text = json.dumps(
            value,
            ensure_ascii=self.ensure_ascii,
            indent=self.indent,
            separators=self.separators,
            sort_keys=self.sort_keys,
        )
        return text.replace("\n", self.line(self.depth)) if self.indent is not None else text


@lru_cache(maxsize=256)
def form_of(key: str) -> JsonForm:
    """The form of a key."""
    ensure_ascii, indent, separators, sort_keys, depth = json.loads(key)
    return JsonForm(ensure_ascii, indent, separators and tuple(separators), sort_keys, depth)


def rewritten(text: str, key: str) -> str:
    """An object's own JSON in another form.

    >>> rewritten('{"a": [1]}', JsonForm(separators=(",", ":")).key)
    '{"a":[1]}'
    """
    return form_of(key).dumps(json.loads(text))
