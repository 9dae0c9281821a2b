"""When plans are made, and how often they are compared with Jinja."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Planning:
    """When plans are made, and how often they are compared with Jinja.

    Attributes:
        min_rows: a shape is traced when so many of its rows were seen: a trace costs several renders. A long
            conversation is traced at once. None for no plans at all.
        check_every: after the first of its rows, a plan is compared again behind so many, and then behind ever more,
        max_check_every: up to so many.
        checked: so many rows are compared at a time.
    """

    min_rows: int | None = 4
    check_every: int = 1000
    max_check_every: int = 16_000
    checked: int = 3


PLANS_OFF = Planning(min_rows=None)
"""Every row goes through Jinja."""
EVERY_ROW_CHECKED = Planning(min_rows=1, check_every=1, max_check_every=1, checked=10**9)
"""Plans at once, and every row of theirs compared with Jinja."""
