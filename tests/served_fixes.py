"""The options that a rejection names, as Python would read them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

Options = Mapping[str, Any]
# What a rejection may name without being a cure: the row then is not what a server asks for.
NO_CURE = ("prompt_mismatch", "boundary", "allow_dropped")
NAMED = re.compile(
    r"\b(template_kwargs|empty_reasoning|reasoning|completion_format|history|control_tokens|append_eos|stop|now|"
    r"train_on|prompt_mismatch|boundary|allow_dropped|roles|field_map)="
)


def alternatives(fix: str) -> Iterator[dict[str, Any]]:
    """The options that a fix names, in its order; those joined by ` and ` are tried together.

    >>> list(alternatives('empty_reasoning="close" closes it; or reasoning="strip" and history="expand"'))
    [{'empty_reasoning': 'close'}, {'reasoning': 'strip', 'history': 'expand'}]
    """
    together: dict[str, Any] = {}
    done = 0
    for match in NAMED.finditer(fix):
        if match.start() < done:
            continue
        literal = _literal(fix[match.end() :])
        if literal is None:
            continue
        if together and fix[done : match.start()] != " and ":
            yield together
            together = {}
        together = {**together, match[1]: ast.literal_eval(literal)}
        done = match.end() + len(literal)
    if together:
        yield together


def _literal(text: str) -> str | None:
    """The Python literal that a text begins with."""
    for end in (m.end() for m in re.finditer(r"""["'\]})]|[\w.]+\b""", text)):
        try:
            ast.literal_eval(text[:end])
        except (SyntaxError, ValueError):
            continue
        return text[:end]
    return None


def cures(options: Options) -> bool:
    """Whether options count as a cure."""
    return not set(options) & set(NO_CURE) and options.get("history") in (None, "expand")


def written(options: Options) -> str:
    """Options as a call writes them; a stated form by its name alone."""
    names = (name if name == "completion_format" else f"{name}={value!r}" for name, value in options.items())
    return " and ".join(names)
