"""The settings of a formatter: its options, and its template as text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from instruct_fmt.errors import UsageError
from instruct_fmt.options import Options


@dataclass(frozen=True, kw_only=True)
class Settings(Options):
    """What a formatter is.

    Attributes:
        template: Jinja text; empty where rows are a template's output already.
        template_name: its name, for messages.
        own_template: whether the template is the tokenizer's own, because none was given.
    """

    template: str
    template_name: str = "<string>"
    own_template: bool = False

    def digest(self) -> str:
        """A hash of every setting but the template."""
        values = {key: value for key, value in asdict(self).items() if key not in ("template", "template_name")}
        values["loss_weights"] = list(self.loss_weights.items())  # of two patterns the later one counts
        values["now"] = self.now.isoformat() if self.now else None
        try:
            text = json.dumps(values, sort_keys=True)
        except TypeError as error:
            raise UsageError(
                f"template_kwargs: {error}; expected plain data (text, numbers, lists, dicts); fix: convert it"
            ) from error
        return hashlib.sha256(text.encode()).hexdigest()


def changed_settings(before: Settings, change: Mapping[str, Any]) -> Settings:
    """Settings with a change: a mapping and a tuple are added to what is there, anything else takes its place."""
    found: dict[str, Any] = {}
    for name, value in change.items():
        old = getattr(before, name)
        found[name] = (
            {**old, **value} if isinstance(old, Mapping) else (*old, *value) if isinstance(old, tuple) else value
        )
    return replace(before, **found)
