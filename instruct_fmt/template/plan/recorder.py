"""What symbolic renders record: the questions that a template asked of a row's fields, with their answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

from instruct_fmt.template.trace.origins import Field

# What str.strip() strips, spelled out: engines differ in what they call a blank.
BLANKS = "".join(map(chr, [*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)])) + (
    "\u2028\u2029\u202f\u205f\u3000"
)


PLACEHOLDER = re.compile("\ue0f0[\ue100-\ue1ff]{2}\ue0f1")


class Expression(NamedTuple):
    """A field, less what was stripped from it: (side, characters) in order."""

    field: Field
    strips: tuple[tuple[str, str], ...] = ()


class Guard(NamedTuple):
    """A question about an expression and its answer: ``filled``, ``contains``, ``starts``, ``ends``,
    ``matches`` or ``equals``."""

    question: str
    subject: Expression
    value: str
    answer: bool


@dataclass(slots=True)
class Recorder:
    """What symbolic renders recorded: expressions and their placeholders, guards, and refusals."""

    guards: dict[Guard, None] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    placeholders: dict[Expression, str] = field(default_factory=dict)
    _expressions: dict[str, Expression] = field(default_factory=dict)

    def placeholder(self, expression: Expression) -> str:
        if expression not in self.placeholders:
            high, low = divmod(len(self.placeholders), 256)
            placeholder = f"\ue0f0{chr(0xE100 + high)}{chr(0xE100 + low)}\ue0f1"
            self.placeholders[expression] = placeholder
            self._expressions[placeholder] = expression
        return self.placeholders[expression]

    def expressions(self) -> Mapping[str, Expression]:
        """Placeholder → what it stands for."""
        return self._expressions


recorder_now: ContextVar[Recorder] = ContextVar("instruct_fmt_recorder")


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record what templates do to symbolic text."""
    recorder = Recorder()
    token = recorder_now.set(recorder)
    try:
        yield recorder
    finally:
        recorder_now.reset(token)


class Refused(Exception):
    """A symbolic render that is good for nothing, and cannot go on."""


def refuse(why: str) -> None:
    """Note that what happens now cannot be foreseen for other rows."""
    recorder_now.get().refused.append(why)
