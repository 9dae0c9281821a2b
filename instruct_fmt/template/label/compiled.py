"""Jinja text to a compiled template, and the budget for trying it out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import jinja2

from instruct_fmt.errors import TemplateError
from instruct_fmt.template.label.probes import WORDS
from instruct_fmt.template.trace.budget import COMPILE_CHARACTERS, COMPILE_STEPS, allowance, compile_budget
from instruct_fmt.template.trace.environment import TemplateEnvironment
from instruct_fmt.template.trace.spots import spot_of_syntax_error, syntax_error
from instruct_fmt.template.trace.traced_template import TracedTemplate


@lru_cache(maxsize=16)
def compile_template(text: str) -> TracedTemplate:
    """Compile Jinja text.

    Raises:
        TemplateError: it does not compile; the message has the template's line. Or it knows what probes say.
    """
    known = next((word for word in WORDS if word in text.casefold()), None)
    if known is not None:
        raise TemplateError(
            "template",
            f"{known!r} in it, a word that probes say to learn what it does",
            "a template that treats every text alike",
            "remove the word",
        )
    try:
        return TracedTemplate(text)
    except jinja2.TemplateSyntaxError as error:
        raise syntax_error(error, spot_of_syntax_error(TemplateEnvironment(), text, error), "text") from error


@contextmanager
def tried_out() -> Iterator[None]:
    """Trying out a new template, from one budget.

    Raises:
        TemplateError: the template needs more than that.
    """
    with allowance(compile_budget()) as budget:
        yield
    if budget.used_up:
        raise TemplateError(
            "template",
            f"one that takes more than {COMPILE_STEPS:,} steps, or builds more than "
            f"{COMPILE_CHARACTERS:,} characters, for a few short rows",
            "a template that ends",
            "use another template",
        )
