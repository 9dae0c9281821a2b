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
    foreign: set[str] = set()
    spoken: set[str] = set()
    elsewhere: set[str] = set()
    for trace, messages in probes:
        for start, end, run in trace.positions():
            if run.field is not None:
                continue
            role = None if run.owner is None else messages[run.owner].get("role")
            found = spoken if role in SPEAKING else elsewhere if role in (None, "system") else foreign
            found.update(stops.tokens_in(trace.text[start:end]))
    tails = [stops.tokens_in(tail) for tail in prompt_tails]
    header = {token for tail in tails for place, token in enumerate(tail) if place == 0 or token in foreign}
    spoken |= {token for tail in tails for token in tail}
    special = {token for token in elsewhere if stops.is_special(token)}  # others may be talked about in a system text
    return foreign | header | (special - (spoken - header))
