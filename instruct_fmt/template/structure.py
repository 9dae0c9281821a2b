"""Which added tokens structure a conversation, so that no row may write them.

In: rendered probes. Out: the tokens of headers, not those that the model itself writes inside its turns: `<think>` is
no structure, even where a template's generation prompt begins with it or its system prompt speaks of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from instruct_fmt.template.owners import SPEAKING
from instruct_fmt.template.provenance import Trace
from instruct_fmt.template.stops import StopFinder

Probe = tuple[Trace, Sequence[Mapping[str, Any]]]


def structural_tokens(probes: Iterable[Probe], prompt_tails: Iterable[str], stops: StopFinder) -> set[str]:
    """The structural tokens of a template, stops aside.

    Args:
        probes: rendered conversations without tools, with their messages.
        prompt_tails: what the template appends to make the model speak.
        stops: knows the added tokens.
    """
    opening: set[str] = set()  # before what a user or a tool says
    spoken: set[str] = set()  # before what the model says, in its own turn
    elsewhere: set[str] = set()
    for trace, messages in probes:
        begun: set[int | None] = set()
        for start, end, run in trace.positions():
            if run.field is not None:
                begun.add(run.owner)
                continue
            role = None if run.owner is None else messages[run.owner].get("role")
            tokens = _at_the_edges(trace.text[start:end], stops)
            if role in SPEAKING and run.owner not in begun:
                spoken |= tokens
            elif role in SPEAKING:
                continue
            elif role in (None, "system"):
                elsewhere |= {token for token in tokens if stops.is_special(token)}
            else:
                (elsewhere if run.owner in begun else opening).update(tokens)
    tails = [stops.tokens_in(tail) for tail in prompt_tails]
    header = {token for tail in tails for place, token in enumerate(tail) if place == 0 or token in opening}
    prefill = {token for tail in tails for token in tail} - header
    return opening | header | (elsewhere - prefill - (spoken - header))


def _at_the_edges(text: str, stops: StopFinder) -> set[str]:
    """The added tokens with which a literal begins or ends; in between it may talk of others."""
    tokens = stops.tokens_in(text)
    found: set[str] = set()
    rest = text.strip()
    for token in tokens:
        if not rest.startswith(token):
            break
        found.add(token)
        rest = rest[len(token) :].lstrip()
    for token in reversed(tokens):
        if not rest.endswith(token):
            break
        found.add(token)
        rest = rest[: -len(token)].rstrip()
    return found
