"""What a template may use up: for one row, and while it is compiled.

Counted, not timed, so that a row's fate is the same on every machine. *Steps* are nodes of the template that are run,
and what filters, methods and comparisons look at besides; *characters* are built text, and places of built lists. Each
is paid before it is done where it could be much. A row's allowance grows with the row: each turn of a conversation is
rendered with all that is before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import jinja2

from instruct_fmt.types import Conversation, Record

# A step takes about a microsecond, most of it for following who wrote what.
MAX_STEPS = 1_000_000
MAX_CHARACTERS = 32_000_000
# For each message, and so many more, as often as there are messages.
STEPS_OF_MESSAGE, TIMES_PRINTED, RENDERINGS = 4_000, 20, 8
COMPILE_STEPS, COMPILE_CHARACTERS = 1_000_000, 16_000_000
FOLDED_STEPS, FOLDED_CHARACTERS = 100_000, 1_000_000
MAX_DEPTH = 200
# A row has at most 1,000,000 values.
MAX_PARTS = 4_000_000
# So many characters are looked through, or compared, in a step.
CHARACTERS_OF_STEP = 128
# A place in a list, in characters.
PLACE = 8
# What weighs less is weighed again each time.
_LIGHT = 16


class BudgetExceeded(jinja2.TemplateError):
    """The template ran more steps, or built more text, than one row may."""


class Budget:
    """What may still be used.

    Args:
        steps, characters: the allowance.
        more: what to add once that is used up; asked for at most once.
    """

    def __init__(self, steps: int, characters: int, more: Callable[[], tuple[int, int]] | None = None) -> None:
        self.steps, self.characters = steps, characters
        self._more = more
        self._weights: dict[int, tuple[object, int]] = {}

    @property
    def used_up(self) -> bool:
        """Whether something was refused."""
        return self.steps < 0 or self.characters < 0

    def step(self, count: int = 1) -> None:
        """Pay for steps."""
        self.steps -= count
        if self.steps < 0:
            self._refuse("steps")

    def build(self, count: int) -> None:
        """Pay for characters of new text."""
        self.characters -= count
        if self.characters < 0:
            self._refuse("characters built")

    def look(self, value: Any) -> None:
        """Pay for going through a value: a text, or all that is in a list or mapping."""
        if isinstance(value, str):
            self.step(str.__len__(value) // CHARACTERS_OF_STEP)
        elif isinstance(value, list | tuple | dict):
            self.step(self.weigh(value))
        elif isinstance(value, range):
            self.step(len(value))

    def write(self, value: Any) -> None:
        """Pay for writing a value out as text, whatever is in it."""
        if isinstance(value, list | tuple | dict):
            weight = self.weigh(value)
            self.step(weight)
            self.build(weight * CHARACTERS_OF_STEP // 16)

    def hold(self, value: Any) -> None:
        """Refuse what unfolds to more than any row holds.

        What holds itself twice over, again and again, is short to write; to print, compare or hash it never ends.
        """
        if self.weigh(value) > MAX_PARTS:
            self.steps = -1
            raise BudgetExceeded(f"a value with more than {MAX_PARTS:,} parts")

    def weigh(self, value: Any, depth: int = 0) -> int:
        """The steps that it takes to go through a value.

        What is in it several times is weighed once and counted each time: a list that holds another one twice, which
        holds a third one twice … is short to write, and takes for ever to print or to compare.
        """
        if isinstance(value, str):
            return 1 + str.__len__(value) // CHARACTERS_OF_STEP
        if not isinstance(value, list | tuple | dict):
            return 1
        known = self._weights.get(id(value))
        if known is not None and known[0] is value:
            return known[1]
        if depth > MAX_DEPTH:
            raise BudgetExceeded(f"a value nested more than {MAX_DEPTH} deep")
        inside: Iterable[Any] = value
        if isinstance(value, dict):  # a subclass may take such questions for the template's
            inside = (*dict.keys(value), *dict.values(value))
        elif isinstance(value, list):
            inside = list.__iter__(value)
        weight = 1 + sum([self.weigh(item, depth + 1) for item in inside])
        if weight > _LIGHT:
            self._weights[id(value)] = value, weight
        return weight

    def _refuse(self, what: str) -> None:
        if self._more is not None:
            steps, characters = self._more()
            self._more = None
            self.steps += steps
            self.characters += characters
            if not self.used_up:
                return
        raise BudgetExceeded(f"more {what} than a row like this one may take")


_budget: ContextVar[Budget | None] = ContextVar("instruct_fmt_budget", default=None)
_clock: ContextVar[datetime | None] = ContextVar("instruct_fmt_clock", default=None)


def budget() -> Budget:
    """What is left to whatever is being rendered or compiled."""
    found = _budget.get()
    return Budget(FOLDED_STEPS, FOLDED_CHARACTERS) if found is None else found


def clock() -> datetime | None:
    """The pinned clock."""
    return _clock.get()


@contextmanager
def allowance(new: Budget) -> Iterator[Budget]:
    """Everything in the block is paid from one budget."""
    token = _budget.set(new)
    try:
        yield new
    finally:
        _budget.reset(token)


def compile_budget() -> Budget:
    """For trying out a template that is new."""
    return Budget(COMPILE_STEPS, COMPILE_CHARACTERS)


def folding_budget() -> Budget:
    """For what Jinja works out while it compiles."""
    return Budget(FOLDED_STEPS, FOLDED_CHARACTERS)


def row_budget(example: Conversation | Record) -> Budget:
    """For all renderings of one row."""
    if isinstance(example, Record):
        seen: list[Any] = [dict(example.values)]
        messages = 1
    else:
        seen = [list(example.messages), example.tools, example.documents, dict(example.template_kwargs)]
        messages = len(example.messages)

    def more() -> tuple[int, int]:
        times = messages + RENDERINGS
        weight = Budget(MAX_STEPS, MAX_CHARACTERS).weigh(seen)
        steps = (STEPS_OF_MESSAGE * messages + TIMES_PRINTED * weight) * times
        return steps, TIMES_PRINTED * CHARACTERS_OF_STEP * weight * times

    return Budget(MAX_STEPS, MAX_CHARACTERS, more)


@contextmanager
def limits(now: datetime | None = None) -> Iterator[Budget]:
    """One rendering: the pinned clock, and a budget of its own where none is set for more than it."""
    known = _budget.get()
    tokens = _budget.set(known or Budget(MAX_STEPS, MAX_CHARACTERS)), _clock.set(now)
    try:
        yield budget()
    finally:
        _budget.reset(tokens[0])
        _clock.reset(tokens[1])
