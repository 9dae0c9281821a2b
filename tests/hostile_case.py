"""What a hostile case is, and what is said about it.

In: nothing. Out: `Case` (what is tried, and how), `Outcome` (what the package answered) and `Verdict` (whether it may).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 2.0
MEGABYTES = 500
GROUPS = ("templates", "rows", "files", "folders")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back: `result` in a few words, and what is wrong with the labels, if anything."""

    result: str
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One hostile thing.

    Attributes:
        group: a word of `GROUPS`.
        name: its name, once in a group.
        tries: what it tries, in a short line.
        how: how it is run, in a short line.
        run: runs it, in the current folder, which is the user's.
        setup: writes the user's files into that folder, before anything is measured.
        output: the path in the user's folder that may be written; empty for none.
        keeps: paths below `output` that must stay as they are.
        family: the name of many cases that differ in a value only, which share a line in the document; empty for none.
        seconds: the processor time that it may take: more where the work is honest, such as 1 s a megabyte of text.
        workers: two worker processes are started, whose own start is not counted.
        dangerous: it aims at the machine itself, and is left out where nothing guards that.
    """

    group: str
    name: str
    tries: str
    how: str
    run: Callable[[], Outcome]
    setup: Callable[[Path], object] | None = None
    output: str = "out"
    keeps: tuple[str, ...] = ()
    family: str = ""
    seconds: float = SECONDS
    workers: bool = False
    dangerous: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured of a case, and the violations, none for a case that went well."""

    group: str
    name: str
    tries: str
    how: str
    result: str
    seconds: float
    megabytes: float
    violations: list[str] = field(default_factory=list)
    family: str = ""
