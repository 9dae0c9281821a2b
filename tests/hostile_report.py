"""Verdicts on hostile cases as Markdown: a summary, violations, and a line for each case or family of cases."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import gettempdir

from hostile_case import GROUPS, MEGABYTES, SECONDS, Verdict

ROOT = Path(__file__).resolve().parent.parent

HEAD = f"""# Hostile input

What becomes of templates, rows, files, configurations and folders that were made to do harm, or were damaged. Made by
`scripts/hostile_table`; the cases are in `tests/hostile_*.py`. Each runs in a process of its own, forked from one that
has everything loaded; what it costs is counted from there, with the processes that it starts.

A violation is: a traceback or an exception that is not one of this package; more than {SECONDS:.0f} s of processor time
(honest work on much text has more: 1 s a megabyte of a row, 6 s for files of 50 MB and more); more than {MEGABYTES} MB
of memory; a hang; a death by signal; a label that is not the assistant's; a file of the user's gone or changed; a file
written outside of the output folder; a question on standard input; a module of the current folder, or code of a
tokenizer's folder, that runs. Where two worker processes are started, their own start is not
counted. *ok*: it comes out, and is right; *refused*: a rejected row with its reason, or an error that says what to do.

"""
TITLES = {
    "templates": "Templates",
    "rows": "Rows",
    "files": "Configurations and data files",
    "folders": "Output folders, tokenizers and modules",
}
_COUNTS = ["cases", "ok", "refused", "violations", "most s", "most MB"]


def ordered(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """By group and name, so that two runs can be compared."""
    return sorted(verdicts, key=lambda v: (GROUPS.index(v.group), v.name))


def report(verdicts: Sequence[Verdict]) -> str:
    """The whole document."""
    parts = [HEAD, summary(verdicts), "\n## Violations\n\n", _violations(ordered(verdicts))]
    for group in GROUPS:
        found = [v for v in ordered(verdicts) if v.group == group]
        if found:
            parts.append(f"\n## {TITLES[group]}\n\n{_families(found)}{_cases([v for v in found if not v.family])}")
    return "".join(parts)


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many cases of each group, and how many violate."""
    groups = [group for group in GROUPS if any(v.group == group for v in verdicts)]
    rows = [[group, *_counts([v for v in verdicts if v.group == group])] for group in groups]
    return _table([["", *_COUNTS], *rows, ["all", *_counts(verdicts)]])


def violation(verdict: Verdict) -> str:
    """One line about a case with violations."""
    return _plain(f"{verdict.group} / {verdict.name}: {'; '.join(verdict.violations)} [{verdict.result}]")


def _violations(verdicts: Sequence[Verdict]) -> str:
    lines = [f"- {_escaped(violation(v))}\n" for v in verdicts if v.violations]
    return "".join(lines) or "None.\n"


def _families(verdicts: Sequence[Verdict]) -> str:
    families = Counter(v.family for v in verdicts if v.family)
    if not families:
        return ""
    members = {name: [v for v in verdicts if v.family == name] for name in families}
    rows = [[name, members[name][0].how, *_counts(found), _answers(found)] for name, found in members.items()]
    return _table([["family", "run as", *_COUNTS, "answers"], *rows]) + "\n"


def _answers(verdicts: Sequence[Verdict]) -> str:
    """The commonest answers, each by its first words."""
    found = Counter(":".join(v.result.split(":")[:2])[:50] for v in verdicts if not v.result.startswith("ok"))
    return ", ".join(f"{answer} {count}" for answer, count in found.most_common(4))


def _cases(verdicts: Sequence[Verdict]) -> str:
    rows = [[v.name, v.tries, v.how, v.result, f"{v.seconds:.1f}", f"{v.megabytes:.0f}", _verdict(v)] for v in verdicts]
    return _table([["case", "tries", "run as", "result", "s", "MB", "verdict"], *rows])


def _counts(verdicts: Sequence[Verdict]) -> list[str]:
    ok = sum(v.result.startswith(("ok", "exit 0")) and not v.violations for v in verdicts)
    bad = sum(bool(v.violations) for v in verdicts)
    seconds = max((v.seconds for v in verdicts), default=0)
    megabytes = max((v.megabytes for v in verdicts), default=0)
    return [str(len(verdicts)), str(ok), str(len(verdicts) - ok - bad), str(bad), f"{seconds:.1f}", f"{megabytes:.0f}"]


def _verdict(verdict: Verdict) -> str:
    return "violation: " + "; ".join(verdict.violations) if verdict.violations else "holds"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    lines = [head, ["---"] * len(head), *([_escaped(_plain(cell)) for cell in row] for row in rest)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in _of_no_machine(text))


def _of_no_machine(text: str) -> str:
    """A text without the places of the machine that it was written on, which may be cut off at its end."""
    text = text.replace(str(ROOT), "PACKAGE")
    return re.sub(rf"{re.escape(gettempdir())}/(?:hostile-\w+(?:/\d+)?(?:/work)?|\w*(?=…))", "WORK", text)


def _escaped(text: str) -> str:
    for sign in "\\|<>*_`[]":
        text = text.replace(sign, f"\\{sign}")
    return text
