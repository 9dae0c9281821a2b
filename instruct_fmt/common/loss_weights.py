"""How much each part of what the model writes counts in the loss.

In: names of parts and patterns → weights, as the option `loss_weights` has them. Out: `LossWeights`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

PARTS: Mapping[str, str] = {
    "content": "what a message says",
    "reasoning": "its reasoning, in a field of its own",
    "tool_calls": "its calls",
    "inserted": "what the template writes in front of a turn without reasoning, such as an empty block of it",
    "terminator": "the stop behind each turn",
    "last_terminator": "the one behind the row's last turn, in place of `terminator`",
    "message": "the number that a message has as its `weight`, by which all of its turn is multiplied",
}
"""Parts of a turn. Text of the template goes with the field that follows, at the end of a turn with the last one."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of parts; what is not named has the weight 1.

    Attributes:
        parts: names of `PARTS` and their weights.
        patterns: regular expressions and the weights of what they match, the later ones over the earlier.
    """

    parts: tuple[tuple[str, float], ...] = ()
    patterns: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, float]) -> LossWeights:
        """From the option's value: a key in slashes is a pattern.

        >>> LossWeights.of({"reasoning": 0, "/[0-9]+/": 2}).patterns
        (('[0-9]+', 2.0),)
        """
        patterns = tuple((name[1:-1], float(weight)) for name, weight in given.items() if is_pattern(name))
        return cls(tuple((name, float(weight)) for name, weight in given.items() if not is_pattern(name)), patterns)

    def __bool__(self) -> bool:
        return bool(self.parts or self.patterns)

    @property
    def of_messages(self) -> bool:
        """Whether messages' own weights count."""
        return "message" in dict(self.parts)

    @property
    def of_places(self) -> bool:
        """Whether weights depend on more than what a turn is: on its place, or on a number of its message."""
        return self.of_messages or "last_terminator" in dict(self.parts)

    @property
    def is_column(self) -> bool:
        """Whether the weights need a column of their own: 0 and 1 are labels."""
        given = [weight for _, weight in (*self.parts, *self.patterns)]
        return self.of_messages or any(weight not in (0, 1) for weight in given)

    def of_part(self, part: str) -> float:
        """The weight of a part."""
        known = dict(self.parts)
        if part == "last_terminator" and part not in known:
            part = "terminator"
        return known.get(part, 1.0)

    @cached_property
    def compiled(self) -> tuple[tuple[re.Pattern[str], float], ...]:
        """The patterns."""
        return tuple((re.compile(pattern), weight) for pattern, weight in self.patterns)

    def matched(self, text: str) -> list[tuple[int, int, float]]:
        """What the patterns match in a text: ranges in characters, and their weights.

        >>> LossWeights.of({"/b+/": 0}).matched("abba")
        [(1, 3, 0.0)]
        """
        return [
            (*match.span(), weight)
            for pattern, weight in self.compiled
            for match in pattern.finditer(text)
            if match.end() > match.start()
        ]


NO_WEIGHTS = LossWeights()


def is_pattern(name: str) -> bool:
    """Whether a key is a regular expression: in slashes."""
    return len(name) > 2 and name.startswith("/") and name.endswith("/")


def problem_of(name: Any, weight: Any) -> str | None:
    """What is wrong with a key and its weight, if anything."""
    if not isinstance(name, str) or (name not in PARTS and not is_pattern(name)):
        return f"{name!r}"
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        return f"{weight!r} for {name!r}"
    if is_pattern(name):
        try:
            re.compile(name[1:-1])
        except (re.error, OverflowError, RecursionError) as error:
            return f"{name!r} ({error})"
    return None
