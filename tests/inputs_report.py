"""Verdicts on kinds of input as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from inputs_cells import Verdict
from inputs_rows import INPUTS

HEAD = ["input", "templates", "emitted", "in a role of the template's own", "refused", "wrong", "refused because"]


def report(verdicts: Sequence[Verdict], kinds: Sequence[str]) -> str:
    """A row for each kind, and one for all."""
    rows: list[list[object]] = [[kind, *_counts([v for v in verdicts if v.kind == kind])] for kind in kinds]
    lines: list[list[object]] = [[*HEAD], ["---"] * len(HEAD), *rows, ["all", *_counts(verdicts)]]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def _counts(verdicts: Sequence[Verdict]) -> list[object]:
    states = Counter(v.state for v in verdicts)
    own = sum(v.own and v.state == "emitted" for v in verdicts)
    wrong = sum(bool(v.problems) for v in verdicts)
    return [len(verdicts), states["emitted"], own or "", states["refused"], wrong, _reasons(verdicts)]


def _reasons(verdicts: Sequence[Verdict]) -> str:
    reasons = Counter(v.reason for v in verdicts if v.state == "refused")
    always = {INPUTS[v.kind].always for v in verdicts}
    shown = (f"{reason} {count}" for reason, count in reasons.most_common())
    return f"always: {', '.join(reasons)}" if reasons and always == set(reasons) else ", ".join(shown)
