"""Verdicts on hostile cases as Markdown: a summary, and a line for each case."""

from __future__ import annotations

from collections.abc import Sequence

from hostile_case import GROUPS, MEGABYTES, SECONDS, Verdict

HEAD = f"""# Hostile input

What becomes of templates, rows, files, configurations and folders that were made to do harm, or were damaged. Made by
`scripts/hostile_table`; the cases are in `tests/hostile_*.py`. Each runs in a process of its own, forked from one that
has everything loaded; what it costs is counted from there, with the processes that it starts.

A violation is: a traceback or an exception that is not one of this package; more than {SECONDS:.0f} s of processor time; more
than {MEGABYTES} MB of memory; a hang; a death by signal; a label that is not the assistant's; a file of the user's gone or
changed; a file written outside of the output folder; a question on standard input; a module of the current folder, or
code of a tokenizer's folder, that runs. Where two worker processes are started, their own start is not counted.

"""
TITLES = {
    "templates": "Templates",
    "rows": "Rows",
    "files": "Configurations and data files",
    "folders": "Output folders and tokenizers",
}


def ordered(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """By group and name, so that two runs can be compared."""
    return sorted(verdicts, key=lambda v: (GROUPS.index(v.group), v.name))


def report(verdicts: Sequence[Verdict]) -> str:
    """The whole document."""
    parts = [HEAD, summary(verdicts)]
    for group in GROUPS:
        found = [v for v in ordered(verdicts) if v.group == group]
        if found:
            rows = [[v.name, v.tries, v.how, v.result, f"{v.seconds:.1f}", f"{v.megabytes:.0f}", _verdict(v)] for v in found]
            head = ["case", "tries", "run as", "result", "s", "MB", "verdict"]
            parts.append(f"\n## {TITLES[group]}\n\n" + _table([head, *rows]))
    return "".join(parts)


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many cases of each group, and how many violate."""
    rows = [[group, *_counts([v for v in verdicts if v.group == group])] for group in GROUPS]
    head = ["", "cases", "ok", "refused", "violations", "most seconds", "most MB"]
    return _table([head, *[row for row in rows if row[1] != "0"], ["all", *_counts(verdicts)]])


def violation(verdict: Verdict) -> str:
    """One line about a case with violations."""
    return f"{verdict.group} / {verdict.name}: {'; '.join(verdict.violations)} [{verdict.result}]"


def _counts(verdicts: Sequence[Verdict]) -> list[str]:
    ok = sum(v.result.startswith(("ok", "exit 0")) and not v.violations for v in verdicts)
    bad = sum(bool(v.violations) for v in verdicts)
    seconds = max((v.seconds for v in verdicts), default=0)
    megabytes = max((v.megabytes for v in verdicts), default=0)
    return [str(len(verdicts)), str(ok), str(len(verdicts) - ok - bad), str(bad), f"{seconds:.1f}", f"{megabytes:.0f}"]


def _verdict(verdict: Verdict) -> str:
    return f"**{'; '.join(verdict.violations)}**" if verdict.violations else "holds"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    plain = "".join(char if char.isprintable() else " " for char in text)
    for sign in "\\|<>*_`[]":
        plain = plain.replace(sign, f"\\{sign}") if not plain.startswith("**") else plain
    return plain
