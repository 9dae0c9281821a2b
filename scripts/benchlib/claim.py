"""What a case of the benchmark says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Claim:
    """One line of the table.

    Attributes:
        case: the case's name.
        what: what is compared.
        ours, theirs: both sides, for people.
        value: the number that is judged.
        unit: what it counts.
        target: what it must be.
        sense: whether `value` must be at least or at most `target`; None where nothing is asked.
        note: what else was seen.
    """

    case: str
    what: str
    ours: str
    theirs: str
    value: float
    unit: str
    target: float | None
    sense: Literal[">=", "<="] | None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.target is None or self.sense is None:
            return None
        return self.value >= self.target if self.sense == ">=" else self.value <= self.target
