"""Verdicts on "as served" as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from served_cells import Verdict

TRIED = ("default", "option", "refused")
SHARES = """## Shares

Of the conversations that render and print all texts of the row; the last two columns without the {count} templates
listed at the end."""
EXPANDED = """## One row of each turn

`history="expand"` on the conversations with several turns, or with a last message of the user's: how many rows, or
the reason."""
ASIDE = """## Set aside

Guards, reward models, retrievers, user simulators, told by what they write (`tests/served_aside.py`): six words or more
behind the answer, a prompt that ends in a score or in EOS where the answer would not, a prompt that asks for the user,
one that asks for nobody while the answer has a header; and a few by name."""


def report(verdicts: Sequence[Verdict], kinds: Sequence[str]) -> str:
    """Tables by kind: what comes out, with which option, why not, and how often."""
    aside = {v.template: v.aside for v in verdicts if v.aside}
    parts = [
        _outcomes(verdicts, kinds),
        SHARES.format(count=len(aside)),
        _shares(verdicts, kinds, set(aside)),
        _options(verdicts, kinds),
        _reasons(verdicts, kinds),
        f"Options that were named and do not help: {sum(len(v.useless) for v in verdicts)}.",
        EXPANDED,
        _expanded(verdicts, kinds),
        ASIDE,
        _table(["template", "set aside because"], sorted(aside.items())),
    ]
    return "\n\n".join(parts) + "\n"


def share(verdicts: Iterable[Verdict]) -> tuple[float, float]:
    """Of the conversations that render and print their fields, the shares emitted by default and in all."""
    states = Counter(v.state for v in verdicts)
    total = max(1, sum(states[state] for state in TRIED))
    return states["default"] / total, (states["default"] + states["option"]) / total


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def _by_kind(
    kinds: Sequence[str], verdicts: Sequence[Verdict], row: Callable[[list[Verdict]], list[object]]
) -> list[list[object]]:
    found = [[kind, *row([v for v in verdicts if v.kind == kind])] for kind in kinds]
    return [*found, ["all", *row(list(verdicts))]]


def _outcomes(verdicts: Sequence[Verdict], kinds: Sequence[str]) -> str:
    def row(own: list[Verdict]) -> list[object]:
        states = Counter(v.state for v in own)
        counts = [states[state] for state in ("raises", "unprinted", "unsaid", "default", "option", "refused")]
        left = sum(v.turns - v.trained for v in own if v.state == "default")
        return [len(own), *counts, left, sum(bool(v.problems) for v in own)]

    head = ["conversation", "cells", "raises", "unprinted", "unsaid", "by default", "with a named option", "refused"]
    return _table([*head, "turns left out by default", "violations"], _by_kind(kinds, verdicts, row))


def _shares(verdicts: Sequence[Verdict], kinds: Sequence[str], set_aside: Collection[str]) -> str:
    def row(own: list[Verdict]) -> list[object]:
        kept = [v for v in own if v.template not in set_aside]
        return [f"{100 * value:.1f} %" for part in (own, kept) for value in share(part)]

    head = ["conversation", "by default", "with a named option too", "by default, others set aside"]
    return _table([*head, "with a named option too, others set aside"], _by_kind(kinds, verdicts, row))


def _counts(names: Sequence[str], kinds: Sequence[str], pairs: Sequence[tuple[str, str]], head: str) -> str:
    counts = Counter(pairs)
    ordered = sorted(set(names), key=lambda name: -sum(counts[name, kind] for kind in kinds))
    rows = [
        [name, *(counts[name, kind] for kind in kinds), sum(counts[name, kind] for kind in kinds)] for name in ordered
    ]
    return _table([head, *kinds, "all"], rows)


def _options(verdicts: Sequence[Verdict], kinds: Sequence[str]) -> str:
    pairs = [(f"`{v.option}`", v.kind) for v in verdicts if v.state == "option"]
    return _counts([name for name, _ in pairs], kinds, pairs, "emitted with")


def _reasons(verdicts: Sequence[Verdict], kinds: Sequence[str]) -> str:
    pairs = [(v.reason, v.kind) for v in verdicts if v.state == "refused"]
    return _counts([name for name, _ in pairs], kinds, pairs, "refused because")


def _expanded(verdicts: Sequence[Verdict], kinds: Sequence[str]) -> str:
    pairs = [(v.expanded, v.kind) for v in verdicts if v.expanded]
    shown = [kind for kind in kinds if any(kind == name for _, name in pairs)]
    return _counts([name for name, _ in pairs], shown, pairs, 'history="expand"')
