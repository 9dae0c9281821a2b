"""What to say of an error that came out of a template while it was rendering a row."""

from __future__ import annotations

from instruct_fmt.errors import RowError, TemplateError, shown
from instruct_fmt.template.trace.budget import BudgetExceeded
from instruct_fmt.template.trace.helpers import ClockRead, OriginLost, RaisedByTemplate, TemplateDict
from instruct_fmt.template.trace.owners import TracedMessage, TracedMessages
from instruct_fmt.template.trace.traced import Traced
from instruct_fmt.template.trace.traced_template import TracedTemplate

# What a template may raise besides Jinja's own errors: it runs Python's operators and methods on the row's values.
PYTHON_ERRORS = (
    AssertionError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    NameError,  # `inf`, which Jinja writes for a constant that has no other name
)


_STANDING_FOR = ((TracedMessages, "list"), (TracedMessage, "dict"), (Traced, "str"), (TemplateDict, "dict"))


_CLASS_NAMES = (
    *((f"{ours.__module__}.{ours.__qualname__}", plain) for ours, plain in _STANDING_FOR),
    ("'Traced'", "'str'"),
)


def row_error(error: Exception, path: str, template: TracedTemplate) -> RowError | TemplateError:
    """What to raise for an error that came out of a template, with the place in it that was running."""
    spot = template.spot_of(error)
    if isinstance(error, ClockRead):
        here = "template" if spot is None else f"template, {spot}"
        fix = f"{error.message}" if spot is None else f"{error.message}:\n{spot.shown}"
        return TemplateError(here, "a clock that nobody set", "a fixed date, the same for every row", fix)
    if isinstance(error, BudgetExceeded):
        return RowError(
            "template-budget", path, str(error), "a template that ends", "use another template for this row"
        )
    if isinstance(error, OriginLost):
        return RowError(
            "origin-lost",
            path,
            str(error),
            "operations that keep track of whose text it is",
            "simplify the template, or leave the row out",
        )
    found = str(error) if isinstance(error, RaisedByTemplate) else f"{type(error).__name__}: {error}"
    for ours, plain in _CLASS_NAMES:
        found = found.replace(ours, plain)
    return RowError(
        "template-raised",
        path,
        f"{shown(found, 200)}{'' if spot is None else f' at {spot} of the template, `{spot.code}`'}",
        "a row that the template accepts",
        "change the row, or use a template that supports it",
    )


def text_differs(plain: str, traced: str) -> RowError:
    at = next((i for i, (a, b) in enumerate(zip(plain, traced, strict=False)) if a != b), min(len(plain), len(traced)))
    return RowError(
        "text-differs",
        "$",
        f"{shown(traced[at : at + 30])} at character {at} of the traced text",
        f"{shown(plain[at : at + 30])}, as plain Jinja prints it",
        "the template uses a construct that cannot be followed; leave the row out or simplify the template",
    )
