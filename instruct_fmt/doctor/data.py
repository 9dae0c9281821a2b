"""What a sample of the data comes to: formats, rejected rows, lengths, and what is trained of it.

In: a formatter and a dataset. Out: findings; every number is counted on rows that were really encoded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.common.names import meant_fields
from instruct_fmt.doctor.ends import NAME_THE_STOP
from instruct_fmt.doctor.findings import Finding, Level
from instruct_fmt.errors import DataError, Rejection, UsageError
from instruct_fmt.formatter import Formatter
from instruct_fmt.pipeline.pipeline import Pipeline
from instruct_fmt.types import Unread, add_unread

__all__ = ["check_data"]

_OVER_LENGTH = "over-length"
# Fields that name a message and say nothing by themselves.
_LABELS = ("name", "id", "tool_call_id")
Row = Mapping[str, Any]


@dataclass(slots=True)
class _Tally:
    """What was counted over the sample. Lengths are in tokens."""

    counts: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejection] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    seen: Counter[bytes] = field(default_factory=Counter)
    too_long: Counter[str] = field(default_factory=Counter)
    unread: dict[str, Unread] = field(default_factory=dict)
    examples: dict[str, Row] = field(default_factory=dict)
    has_history: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sample of the data comes to.

    Attributes:
        findings: about its rows.
        has_history: whether any row has more than one turn of the model's.
    """

    findings: list[Finding]
    has_history: bool


def check_data(fmt: Formatter, dataset: Any, rows: int) -> Sample:
    """Findings about a sample of `rows` rows, spread evenly where the dataset has a length, else the first.

    Raises:
        UsageError: `dataset` is nothing that has rows.
    """
    tally = _Tally()
    findings = list(_findings(fmt, dataset, rows, tally))
    return Sample(findings, tally.has_history)


def _findings(fmt: Formatter, dataset: Any, rows: int, tally: _Tally) -> Iterator[Finding]:
    unlimited = fmt.pipeline.changed(replace(fmt.settings, max_length=None))
    for number, row in _sample(dataset, rows):
        try:
            _count(fmt, unlimited, number, row, tally)
        except (UsageError, DataError) as error:
            yield Finding("error", "data-unusable", f"row {number}: {error}", "expected rows that fit the template", "")
            return
    if not tally.counts["rows"]:
        yield Finding("error", "no-rows", "the dataset has no rows", "expected at least one", "check the data's path")
        return
    yield _format(tally)
    yield from _rejected(fmt, tally)
    if tally.lengths:
        yield from _lengths(fmt, tally)
        yield from _trained(tally)
        yield from _contents(tally)
    yield from _unread(fmt, tally)


def _sample(dataset: Any, rows: int) -> Iterator[tuple[int, Row]]:
    """Rows with their numbers."""
    if hasattr(dataset, "num_rows") and not isinstance(dataset, Mapping):  # an Arrow table, or a Dataset
        places = _spread(dataset.num_rows, rows)
        if places:
            table = dataset.with_format("arrow")[places] if hasattr(dataset, "with_format") else dataset.take(places)
            yield from zip(places, table_rows(table), strict=True)
        return
    if isinstance(dataset, Mapping | str) or not isinstance(dataset, Iterable):
        raise _no_rows(dataset, "choose one split, such as dataset['train']")
    if isinstance(dataset, Sequence):
        numbered: Iterable[tuple[int, Any]] = ((place, dataset[place]) for place in _spread(len(dataset), rows))
    else:
        numbered = enumerate(islice(dataset, rows))
    for number, row in numbered:
        if not isinstance(row, Mapping):
            raise _no_rows(row, "give each row as a dict of its columns")
        yield number, row


def _no_rows(found: object, fix: str) -> UsageError:
    return UsageError("dataset", f"a {type(found).__name__}", "a Dataset, a table or a list of rows", fix)


def _spread(size: int, count: int) -> list[int]:
    return list(range(size)) if size <= count else [place * size // count for place in range(count)]


def _count(fmt: Formatter, unlimited: Pipeline, number: int, row: Row, tally: _Tally) -> None:
    """Encode one row without a limit, then see what the limit makes of it, and what the template left out."""
    columns = list(row)
    tally.formats[fmt.stages.of(columns, row).adapter.format] += 1
    batch = unlimited.run([row], columns, number)
    tally.counts.update(batch.counts)
    tally.rejected += batch.rejected
    limit = fmt.settings.max_length
    sizes, trained = [], []
    for ids, labels in zip(*(batch.table[name].to_pylist() for name in ("input_ids", "labels")), strict=True):
        sizes.append(len(ids))
        trained.append(sum(label >= 0 for label in labels))
        tally.seen[np.asarray([ids, labels], np.int32).tobytes()] += 1
    tally.lengths += sizes
    tally.trained += trained
    if limit is not None and any(size > limit for size in sizes):
        tally.too_long[_cut(fmt, row, number, sum(trained))] += 1
    tally.has_history |= batch.counts["turns"] > 1
    add_unread(tally.unread, batch.unread.items())
    for path in batch.unread:
        tally.examples.setdefault(path, row)


def _cut(fmt: Formatter, row: Row, number: int, trained: int) -> str:
    """What the over-length policy does to a row, in a few words."""
    if fmt.settings.overlength == "error":
        return "dropped"
    batch = fmt.encode_rows([row], number)
    if not batch.table.num_rows or batch.rejected:
        return "dropped"
    if batch.counts["shortened:drop_turns"]:
        return "without the oldest exchanges"
    return "answer cut" if batch.counts["trained_tokens"] < trained else "shortened"


def _format(tally: _Tally) -> Finding:
    names = ", ".join(f"{name} ({count} rows)" for name, count in tally.formats.most_common())
    other = "format= names another one"
    if "instruction" in tally.formats:
        other = 'prompt and completion become messages; format="prompt_completion" takes them as ready text'
    return Finding("note", "format", f"the rows are read as {names}", other, "")


def _rejected(fmt: Formatter, tally: _Tally) -> Iterator[Finding]:
    """One finding for each reason; errors where the whole run would stop."""
    total, limit = tally.counts["rows"], fmt.settings.max_rejected
    rejected = [rejection for rejection in tally.rejected if rejection.reason != _OVER_LENGTH]
    stops = len(rejected) > limit * total
    level: Level = "error" if stops else "warning"
    for reason, count in Counter(rejection.reason for rejection in rejected).most_common():
        first = next(rejection for rejection in rejected if rejection.reason == reason)
        yield Finding(
            level,
            f"rejected:{reason}",
            f"{_share(count, total)} rows rejected; row {first.row}, {first.path}: found {first.found}",
            f"expected {first.expected}; "
            + (f"more than max_rejected={limit} stops a run" if stops else "the run goes on"),
            first.fix,
        )


def _lengths(fmt: Formatter, tally: _Tally) -> Iterator[Finding]:
    half, most, longest = np.percentile(tally.lengths, [50, 95, 100], method="higher").tolist()
    limit, policy = fmt.settings.max_length, fmt.settings.overlength
    bound = "there is no max_length" if limit is None else f"max_length is {limit}"
    yield Finding(
        "note",
        "lengths",
        f"tokens of a row: median {half}, 95 % up to {most}, longest {longest}; {bound}",
        "",
        "",
    )
    over = sum(tally.too_long.values())
    if not over:
        return
    fates = ", ".join(f"{count} {fate}" for fate, count in tally.too_long.most_common())
    stops = policy == "error"
    keeps = "drop_turns" if tally.has_history else "truncate_prompt"
    yield Finding(
        "error" if stops else "warning",
        "over-length",
        f"{_share(over, tally.counts['rows'])} rows are longer than max_length={limit}",
        f"overlength={policy!r}: " + ("the run stops at the first" if stops else fates),
        f"max_length={longest} keeps all of the sample"
        + ("" if policy in ("truncate_prompt", "drop_turns") else f'; overlength="{keeps}" keeps answers whole'),
    )


def _trained(tally: _Tally) -> Iterator[Finding]:
    """What the loss covers."""
    tokens, trained = sum(tally.lengths), sum(tally.trained)
    yield Finding("note", "trained-share", f"{trained / tokens:.1%} of the tokens are trained", "", "")
    turns, skipped = tally.counts["turns"], tally.counts["turns_skipped:history"]
    if skipped:
        yield Finding(
            "warning",
            "turns-skipped",
            f"{_share(skipped, turns)} assistant turns are not trained",
            "the template writes them differently as history than as they are generated",
            'history="expand" makes one row of each turn',
        )
    unstopped = tally.counts["turns_without_stop"]
    if unstopped:
        yield Finding(
            "warning",
            "turns-without-stop",
            f"{_share(unstopped, tally.counts['trained_turns'])} trained turns end in no stop",
            "expected a stop behind each; the model learns nothing about where these end",
            NAME_THE_STOP,
        )
    if tally.counts["as_rendered"]:
        yield Finding(
            "warning",
            "prompt-mismatch",
            f"{_share(tally.counts['as_rendered'], tally.counts['rows'])} rows do not start with their prompt",
            'they are trained all the same, because of prompt_mismatch="as_rendered"; serving starts elsewhere',
            "serve with the same template variables as here, and compare fmt.prompt(row)",
        )


def _contents(tally: _Tally) -> Iterator[Finding]:
    """What is odd about the rows themselves."""
    rows = tally.counts["rows"]
    control = tally.counts["neutralised"]
    if control:
        yield Finding(
            "warning" if 2 * control > rows else "note",
            "control-tokens",
            f"{_share(control, rows)} rows spell control tokens in their text; they are encoded as ordinary text",
            "data is never structure; where most rows have them, the data may be a template's output already",
            'a `text` column with control_tokens="allow" takes finished text as it is',
        )
    again = tally.seen.total() - len(tally.seen)
    if again:
        yield Finding(
            "note",
            "duplicates",
            f"{_share(again, tally.seen.total())} encoded rows repeat another of the sample",
            "repeated rows are learnt by heart",
            "remove them, if they are not meant",
        )


def _unread(fmt: Formatter, tally: _Tally) -> Iterator[Finding]:
    """What nothing read: a warning where the model should have said it."""
    rows = tally.counts["rows"]
    for path, found in sorted(tally.unread.items(), key=lambda item: (-item[1].rows, item[0])):
        spoken = "[assistant]" in path and path.rpartition(".")[2] not in _LABELS
        yield Finding(
            "warning" if spoken else "note",
            f"unread:{path}",
            f"{path} says something in {_share(found.rows, rows)} rows, such as {found.example} in row {found.row}",
            "nothing reads it: the rows are trained as if it were not there",
            _cure(fmt, path, tally.examples[path]),
        )


def _cure(fmt: Formatter, path: str, row: Row) -> str:
    """What gets a field of a message read, tried on a row that has it."""
    remove = "use a template that prints it, or remove it"
    match = re.fullmatch(r"\$\.\w+\[\w+\]\.(\w+)", path)
    if match is None or match[1] in (*_LABELS, "reasoning_content", "thinking", "reasoning"):
        return remove
    changes = [change for change in meant_fields(match[1], "") if "field_map" in change.settings]
    worked = [change for change in changes if fmt.pipeline.trials.reads(change, row, path)]
    return "; or ".join([*(f"{change.code} {change.about}" for change in worked), remove])


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})"
