"""The command `check`: the doctor over a configuration.

In: a configuration file. Out: the findings on standard output; exit code 1 where there is an error among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from instruct_fmt.doctor.check import check
from instruct_fmt.doctor.findings import Findings

if TYPE_CHECKING:
    from instruct_fmt.run.work import Source

__all__ = ["check_sources"]


def check_sources(sources: Iterable[Source], rows: int) -> list[Findings]:
    """The findings for each dataset of a configuration with its formatter."""
    found = []
    for source in sources:
        fmt: Any = source.fmt
        findings = check(fmt, source.dataset, rows)
        found.append(Findings(f"{source.name}: {findings.name}", findings.items))
    return found
