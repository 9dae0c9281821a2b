"""Verdicts as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from corpus import Verdict
from corpus_rows import KINDS


def table(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as Markdown: one row for each kind, then the refusals by reason."""
    head = [
        "conversation", "templates", "plain Jinja renders", "emitted", "content covered, nothing foreign",
        "start = prompt", "end in the text", "end appended", "no end", "history turns equal",
        "history turns left out",         "refused", "wrong",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(map(str, _table_row(kind, verdicts))) + " |" for kind in KINDS]
    reasons = sorted({v.reason for v in verdicts if v.reason})
    lines += ["", "| refused because | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    counts = Counter((v.reason, v.kind) for v in verdicts if v.reason)
    lines += [f"| {reason} | " + " | ".join(str(counts[reason, kind]) for kind in KINDS) + " |" for reason in reasons]
    return "\n".join(lines) + "\n"


def _table_row(kind: str, verdicts: Sequence[Verdict]) -> list[object]:
    own = [v for v in verdicts if v.kind == kind]
    emitted = [v for v in own if v.state == "emitted"]
    covered = [v for v in emitted if not any(p.startswith(("foreign", "content", "dropped")) for p in v.problems)]
    share = f"{len(covered)} ({100 * len(covered) / max(1, len(emitted)):.1f} %)"
    stops = Counter(v.stop for v in emitted)
    return [
        kind,
        len(own),
        sum(v.state != "unrenderable" for v in own),
        len(emitted),
        share,
        sum(v.start for v in emitted),
        stops["text"],
        stops["appended"],
        stops["none"],
        sum(v.equal for v in emitted),
        sum(v.skipped for v in emitted),
        sum(v.state == "refused" for v in own),
        sum(bool(v.problems) for v in own),
    ]
