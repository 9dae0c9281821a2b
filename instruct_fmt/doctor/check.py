"""The doctor: a template, a tokenizer and a sample of the data, examined before a run.

In: a formatter, and a dataset where there is one. Out: `Findings`. Everything in them comes from short probe
conversations, and from rows, that were rendered and encoded by the same code as in a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instruct_fmt.doctor.data import check_data
from instruct_fmt.doctor.ends import check_ends, check_markers, check_start
from instruct_fmt.doctor.findings import Finding, Findings
from instruct_fmt.doctor.probes import Bench, ProbeRecord
from instruct_fmt.doctor.template import check_template
from instruct_fmt.doctor.tokenizer import check_tokenizer
from instruct_fmt.errors import UsageError
from instruct_fmt.formatter import Formatter
from instruct_fmt.types import Marked, Record

__all__ = ["check"]


def check(fmt: Formatter, dataset: Any = None, rows: int = 200) -> Findings:
    """Examine a formatter, and a sample of the data.

    Args:
        fmt: the formatter.
        dataset: a `datasets.Dataset`, an Arrow table, or rows; None examines template and tokenizer only.
        rows: how many rows are encoded, spread evenly over the dataset.

    Raises:
        UsageError: `rows` is less than 1, or `dataset` is nothing that has rows.

    >>> import instruct_fmt as ifmt
    >>> found = check(ifmt.compile(None, "embedded"))
    >>> found.ok
    True
    """
    if rows < 1:
        raise UsageError("rows", rows, "at least 1", "leave it out for 200")
    findings = [*_of_template(fmt), *check_tokenizer(fmt)]
    if dataset is not None:
        sample = check_data(fmt, dataset, rows)
        if not sample.has_history:
            findings = [finding for finding in findings if not finding.code.startswith("history-rewritten")]
        findings += sample.findings
    return Findings.of(f"{fmt.settings.template_name} × {_name(fmt)}", findings)


def _of_template(fmt: Formatter) -> Iterator[Finding]:
    if fmt.stages.chat is not None:
        yield from _of_chat(fmt, Bench(fmt, fmt.stages.chat))
    elif fmt.source.kind == "record":
        yield from _of_record(fmt)
    else:
        yield Finding(
            "warning",
            "no-template",
            "the tokenizer has no chat template, and none was given",
            "only rows of finished text (`text`, textual `prompt`/`completion`) can be encoded",
            'pass template="chatml", another library name, Jinja text or a path',
        )


def _of_chat(fmt: Formatter, bench: Bench) -> Iterator[Finding]:
    yield from check_template(bench)
    found = {name: bench.mark(name) for name in ("plain", "system", "plain turns", "call")}
    probes = {name: marked for name, marked in found.items() if isinstance(marked, Marked)}
    if "plain" not in probes:
        return
    policy = fmt.settings.history
    mismatch = fmt.settings.prompt_mismatch
    turns = bench.mark("plain turns", history="auto" if policy == "error" else policy, prompt_mismatch=mismatch)
    yield from check_ends(fmt, probes["plain"], turns if isinstance(turns, Marked) else None, probes.get("call"))
    yield from check_start(fmt, bench.conversations["plain"], probes["plain"])
    probes.pop("call", None)  # its literals are the format of calls, not headers
    yield from check_markers(fmt, probes, bench.tail() or "")


def _of_record(fmt: Formatter) -> Iterator[Finding]:
    try:
        probe = ProbeRecord.of(fmt)
    except UsageError as error:
        yield Finding("error", "answer-unknown", str(error), "expected a trained column", "say it with train_on=[…]")
        return
    if not isinstance(probe.marked, Marked):
        found, expected, fix = probe.marked.found, probe.marked.expected, probe.marked.fix
        yield Finding("warning", "refuses-probe", f"a row of plain words: {found}", f"expected {expected}", fix)
        return
    yield Finding(
        "note",
        "prompt",
        f"the prompt of a row ends with {probe.prompt[-20:]!r}",
        "spaces behind it belong to the answer, so that its first token is the one that the model writes",
        "send fmt.prompt(row).input_ids when you serve",
    )
    yield from check_ends(fmt, probe.marked, None, None)
    yield from check_start(fmt, Record(probe.values), probe.marked)
    yield from check_markers(fmt, {"record": probe.marked}, "")


def _name(fmt: Formatter) -> str:
    """The tokenizer's name as far as it tells it; of a path, the last two folders."""
    return "/".join(Path(str(getattr(fmt.tokenizer, "name_or_path", "") or "tokenizer")).parts[-2:])
