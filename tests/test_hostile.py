"""Hostile templates, rows, files and folders: a sample of what `scripts/hostile_table` judges, and the judge itself."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping

import hostile_cases
import hostile_report
import hostile_run
import pytest
from hostile_case import GROUPS, Verdict
from hostile_guilty import GUILTY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are measured by /proc")

EVERY = 23  # no number of a crossing's values divides by it, so that a sample has all of them
FEWEST = {"templates": 100, "rows": 250, "files": 250, "folders": 250}


@pytest.fixture(scope="module")
def sample() -> list[Verdict]:
    return list(hostile_run.verdicts(GROUPS, every=EVERY))


@pytest.fixture(scope="module")
def guilty() -> Mapping[str, Verdict]:
    return {verdict.name: verdict for verdict in hostile_run.verdicts([hostile_run.GUILTY])}


@pytest.mark.parametrize("group", GROUPS)
def test_no_case_does_what_it_tries(group: str, sample: list[Verdict]) -> None:
    found = [verdict for verdict in sample if verdict.group == group]
    bad = [hostile_report.violation(verdict) for verdict in hostile_report.ordered(found) if verdict.violations]
    assert not bad, "\n".join(bad)
    assert {verdict.result.startswith(("ok", "exit 0")) for verdict in found} == {True, False}


@pytest.mark.parametrize("name", GUILTY)
def test_the_judge_sees(name: str, guilty: Mapping[str, Verdict]) -> None:
    words = GUILTY[name][1]
    found = guilty[name].violations
    assert any(words in violation for violation in found) if words else not found, found


def test_there_are_enough_cases() -> None:
    found = Counter(case.group for case in hostile_cases.cases())
    assert all(found[group] >= fewest for group, fewest in FEWEST.items()), found


def test_the_document_names_every_violation(guilty: Mapping[str, Verdict]) -> None:
    text = hostile_report.report(list(guilty.values()))
    assert all(f"files / {name}:" in text for name, (_, words) in GUILTY.items() if words)
    assert f"| all | {len(GUILTY)} |" in text
