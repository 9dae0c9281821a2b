"""Which added tokens structure a conversation, so that no row may write them.

In: rendered probes. Out: the tokens of headers, those that the model itself writes in front of its words included; no
others that it writes inside its turns: `<think>` is no structure, even where a template's generation prompt begins with
it or its system prompt speaks of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from instruct_fmt.template.label.stops import StopFinder
from instruct_fmt.template.trace.owners import SPEAKING
from instruct_fmt.template.trace.trace import Trace

Probe = tuple[Trace, Sequence[Mapping[str, Any]]]


def structural_tokens(probes: Iterable[Probe], prompt_tails: Iterable[tuple[str, str]], stops: StopFinder) -> set[str]:
    """The structural tokens of a template, stops aside.

    Args:
        probes: rendered conversations without tools, with their messages.
        prompt_tails: what the template appends to make the model speak: up to a block of reasoning, and from there on.
        stops: knows the added tokens.
    """
    opening: set[str] = set()  # before what a user or a tool says
    spoken: set[str] = set()  # before what the model says, in its own turn
    elsewhere: set[str] = set()
    leads: list[str] = []
    for trace, messages in probes:
        begun: set[int | None] = set()
        lead: dict[int | None, str] = {}
        for start, end, run in trace.positions():
            if run.field is not None:
                begun.add(run.owner)
                continue
            role = None if run.owner is None else messages[run.owner].get("role")
            tokens = _at_the_edges(trace.text[start:end], stops)
            if role in SPEAKING and run.owner not in begun:
                spoken |= tokens
                lead[run.owner] = lead.get(run.owner, "") + trace.text[start:end]
            elif role in SPEAKING:
                continue
            elif role in (None, "system"):
                elsewhere |= {token for token in tokens if stops.is_special(token)}
            else:
                (elsewhere if run.owner in begun else opening).update(tokens)
        leads += [text for owner, text in lead.items() if owner in begun]
    tails = [(stops.tokens_in(before), stops.tokens_in(block)) for before, block in prompt_tails]
    header = {token for tail, _ in tails for place, token in enumerate(tail) if place == 0 or token in opening}
    prefill = {token for tail, block in tails for token in (*tail, *block)} - header
    header |= {token for lead in leads for token in _written_header(lead, opening, stops)}
    return opening | header | (elsewhere - prefill - (spoken - header))


def _written_header(lead: str, opening: set[str], stops: StopFinder) -> list[str]:
    """The tokens of a header that the model writes itself: what is before its words, if a header's token ends it."""
    tokens = stops.tokens_in(lead)
    return tokens if tokens and tokens[-1] in opening and lead.rstrip().endswith(tokens[-1]) else []


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
