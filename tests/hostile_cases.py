"""All hostile cases, by group.

In: names of groups. Out: their cases, each name once in its group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import hostile_files
import hostile_folders
import hostile_rows
import hostile_templates
from hostile_case import Case

GROUPS = {
    "templates": hostile_templates.cases,
    "rows": hostile_rows.cases,
    "files": hostile_files.cases,
    "folders": hostile_folders.cases,
}


def cases(groups: Iterable[str] = tuple(GROUPS)) -> Iterator[Case]:
    """The cases of some groups."""
    for group in groups:
        seen: set[str] = set()
        for case in GROUPS[group]():
            assert case.group == group, case
            assert case.name not in seen, f"{group}: {case.name} twice"
            seen.add(case.name)
            yield case
