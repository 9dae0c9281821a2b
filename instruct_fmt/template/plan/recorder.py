"""What symbolic renders record: the questions that a template asked of a row's fields, with their answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from instruct_fmt.template.label.turn import Turn
from instruct_fmt.template.plan.steps import Step, stepped
from instruct_fmt.template.trace.origins import Field

PLACEHOLDER = re.compile("\ue0f0[\ue100-\ue1ff]{2}\ue0f1")


class Expression(NamedTuple):
    """A field, and the steps from its text to what is meant."""

    field: Field
    steps: tuple[Step, ...] = ()

    def then(self, name: str, *args: Hashable) -> Expression:
        """It, a step further."""
        return self._replace(steps=(*self.steps, Step(name, args)))

    def moved(self, by: int) -> Expression:
        """The same of a message that is so much further behind."""
        place = self.field.place
        return self._replace(field=self.field._replace(place=place + by)) if place >= 0 else self

    def of(self, text: str) -> str:
        """Its value where the field says `text`."""
        for step in self.steps:
            text = stepped(text, step)
        return text


SAME = "same"
"""The question whether two expressions say the same."""


class Guard(NamedTuple):
    """A question about an expression (see `steps.py`), or about two, and its answer."""

    question: str
    subject: Expression
    value: Any
    answer: bool

    def moved(self, by: int) -> Guard:
        """The same of messages that are so much further behind."""
        value = self.value.moved(by) if isinstance(self.value, Expression) else self.value
        return self._replace(subject=self.subject.moved(by), value=value)


@dataclass(slots=True)
class Recorder:
    """What symbolic renders recorded: expressions and their placeholders, guards, and refusals.

    Attributes:
        literals: what stands around placeholders in texts of the row.
        wholes: texts of several placeholders that are one expression, cut.
        turns: the trained turns, by their first messages.
        counted: what each of the model's turns counted.
        variables: where the text of the row's template variables is.
    """

    guards: dict[Guard, None] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    placeholders: dict[Expression, str] = field(default_factory=dict)
    literals: set[str] = field(default_factory=set)
    wholes: dict[str, Expression] = field(default_factory=dict)
    turns: dict[int, Turn] = field(default_factory=dict)
    counted: dict[int, Counter[str]] = field(default_factory=dict)
    variables: list[tuple[int, int]] = field(default_factory=list)
    _expressions: dict[str, Expression] = field(default_factory=dict)
    _actual: dict[str, str] = field(default_factory=dict)

    def placeholder(self, expression: Expression, actual: str) -> str:
        """What stands for an expression in texts; `actual` is its value in the row that answers questions."""
        if expression not in self.placeholders:
            high, low = divmod(len(self.placeholders), 256)
            placeholder = f"\ue0f0{chr(0xE100 + high)}{chr(0xE100 + low)}\ue0f1"
            self.placeholders[expression] = placeholder
            self._expressions[placeholder] = expression
            self._actual[placeholder] = actual
        return self.placeholders[expression]

    def actual(self, text: str) -> str:
        """A text of placeholders and literals as it is in the row that answers questions."""
        try:
            return PLACEHOLDER.sub(lambda match: self._actual[match[0]], text)
        except KeyError:
            raise Refused("a text of another row") from None

    def expression(self, placeholder: str) -> Expression:
        """What a placeholder stands for."""
        try:
            return self._expressions[placeholder]
        except KeyError:
            raise Refused("a text of another row") from None

    @property
    def why(self) -> str:
        """What was refused first; where nothing was, the plan gave something else than Jinja."""
        return self.refused[0] if self.refused else "it differs from Jinja"

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
