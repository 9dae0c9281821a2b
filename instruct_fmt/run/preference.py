"""Preference data: pairs of answers, and answers with a verdict, as ids for DPO and its kin, KTO and reward models.

In: a formatter and rows that hold a prompt with a chosen and a rejected answer. Out: `prompt_ids` with `chosen_ids` and
`rejected_ids`, or what another trainer takes. The prompt's ids are those that a server sends, and an answer ends with
its stop: both sides of a pair go through the formatter as rows of a prompt and a completion.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.adapt.pairs import COLUMNS as GIVEN
from instruct_fmt.adapt.pairs import Pair, PairReader
from instruct_fmt.adapt.roles import Roles, added_roles
from instruct_fmt.common.names import nearest_name
from instruct_fmt.emit import UNTRAINED
from instruct_fmt.errors import NothingToLearn, Rejection, RowError, TooManyRejected, UsageError, in_order, shown
from instruct_fmt.formatter import Formatter
from instruct_fmt.look.report import Report
from instruct_fmt.run.prepare import Prepared, as_dataset
from instruct_fmt.types import Unread, add_unread

Kind = Literal["dpo", "kto", "reward", "prompt"]
Ids: TypeAlias = npt.NDArray[np.int32]
COLUMNS: Mapping[str, Sequence[str]] = {
    "dpo": ("prompt_ids", "chosen_ids", "rejected_ids"),
    "kto": ("prompt_ids", "completion_ids", "label"),
    "reward": ("chosen_ids", "rejected_ids"),
    "prompt": ("prompt_ids",),
}
_BATCH = 2000


def prepare_pairs(
    fmt: Formatter, dataset: datasets.Dataset | pa.Table, kind: Kind = "dpo", *, batch_size: int = _BATCH
) -> Prepared:
    """Encode preference data.

    Args:
        fmt: the formatter; of its options `history` and `train_on` mean nothing here.
        dataset: rows with `chosen` and `rejected`, and `prompt` or `conversations`, or with the prompt inside of both;
            for KTO also `prompt`, `completion` and `label`; for ``prompt`` also a prompt alone. `field_map` names them.
        kind: ``dpo``: `prompt_ids`, `chosen_ids`, `rejected_ids`, for DPO and its kin; ``kto``: `prompt_ids`,
            `completion_ids`, `label`, two rows of each pair; ``reward``: `chosen_ids` and `rejected_ids`, each with its
            prompt; ``prompt``: `prompt_ids` alone.
        batch_size: rows at a time.

    Returns:
        The dataset, int32, in memory; the report, whose trained tokens are those of answers; the rejected rows.

    Raises:
        UsageError: an argument or an option that cannot work.
        TooManyRejected: more rows were rejected than `max_rejected` allows.
        NothingToLearn: no row is left.

    >>> import instruct_fmt as ifmt
    >>> said = [{"role": "user", "content": "Hi"}]
    >>> row = {"prompt": said, "chosen": "Hello!", "rejected": "What?"}
    >>> found = prepare_pairs(ifmt.compile("chatml", "embedded"), pa.Table.from_pylist([row] * 4)).dataset
    >>> found.column_names
    ['prompt_ids', 'chosen_ids', 'rejected_ids']
    """
    if kind not in get_args(Kind):
        raise UsageError("kind", f"{kind!r}", f"one of {', '.join(get_args(Kind))}", "correct it")
    if fmt.settings.overlength not in ("drop", "error"):
        raise UsageError(
            "overlength",
            f"{fmt.settings.overlength!r}, which may shorten the two prompts of a pair differently",
            "'drop' or 'error'",
            "compile(…, overlength='drop')",
        )
    if fmt.settings.loss_weights:
        found = f"{shown(dict(fmt.settings.loss_weights))}, beside answers that are taken whole"
        raise UsageError("loss_weights", found, "none for preference data", "compile(…) without loss_weights")
    rows = as_dataset(dataset).with_format("arrow")
    names = _names(fmt.settings.columns, fmt.settings.field_map, rows.column_names)
    others = {ours: theirs for ours, theirs in names.items() if ours not in GIVEN}
    policy: dict[str, Any] = {"history": "last", "train_on": "assistant", "max_length": None, "field_map": others}
    whole = Formatter(dataclasses.replace(fmt.settings, **policy), fmt.tokenizer_reference)
    made = _Made(whole, kind, fmt.settings.max_length, PairReader(Roles(added_roles(fmt.settings.roles)), names))
    for start in range(0, len(rows), batch_size):
        made.add(table_rows(rows[start : start + batch_size]), start)
    made.check(fmt.settings.max_rejected)
    made.rejected.sort(key=in_order)
    report = Report.of("dataset", made.counts, made.rejected, made.unread)
    return Prepared(datasets.Dataset(made.table()), report, made.rejected)


def _names(record: Mapping[str, str], names: Mapping[str, str], columns: Sequence[str]) -> Mapping[str, str]:
    """Our names of columns and fields → the dataset's.

    Raises:
        UsageError: a name that the data does not have, or names for the columns of a record template.
    """
    if record:
        fix = f"field_map={{'prompt': {next(iter(record.values()))!r}}}"
        raise UsageError("columns", shown(dict(record)), "none for preference data", fix)
    for ours in GIVEN:
        theirs = names.get(ours)
        if theirs is not None and theirs not in columns:
            near = nearest_name(theirs, columns)
            fix = f"field_map={{{ours!r}: {near!r}}}" if near else f"take {ours!r} out"
            raise UsageError(f"field_map[{ours!r}]", f"{theirs!r}, which is no column", ", ".join(columns), fix)
    return names


class _Made:
    """What was made so far."""

    def __init__(self, fmt: Formatter, kind: Kind, max_length: int | None, reader: PairReader) -> None:
        self._fmt, self._kind, self._max_length, self._reader = fmt, kind, max_length, reader
        self._columns: dict[str, list[Any]] = {name: [] for name in COLUMNS[kind]}
        self.counts: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        self.unread: dict[str, Unread] = {}

    def add(self, rows: Sequence[Mapping[str, Any]], first_row: int) -> None:
        """Encode rows and keep what comes out."""
        self.counts["rows"] += len(rows)
        pairs: dict[int, Pair] = {}
        for number, row in enumerate(rows, first_row):
            try:
                pair = self._reader.read(row, alone=self._kind == "prompt")
                if pair.label is not None and self._kind in ("dpo", "reward"):
                    found, wanted = "one answer with a verdict", "a chosen and a rejected answer"
                    raise RowError("bad-field", "$", found, wanted, 'kind="kto"')
                pairs[number] = pair
                unread = ((name, value) for name, value in pair.unread if name not in self._fmt.settings.allow_dropped)
                add_unread(self.unread, ((f"$.{name}", Unread(1, number, shown(value))) for name, value in unread))
            except RowError as error:
                self._reject(error, number)
        sides = [self._side(pairs, name) for name in ("chosen", "rejected")]
        for number, pair in pairs.items():
            answers = [
                (name, side[number]) for name, side in zip(("chosen", "rejected"), sides, strict=True) if number in side
            ]
            if len(answers) == len(pair.answers):
                self._keep(number, pair, dict(answers))

    def _side(self, pairs: Mapping[int, Pair], name: str) -> dict[int, tuple[Ids, Ids]]:
        """Prompt and answer of each row's chosen, or rejected, side; a row that is rejected is listed once."""
        numbers = [number for number, pair in pairs.items() if name in pair.answers]
        found: dict[int, tuple[Ids, Ids]] = {}
        if not numbers:
            return found
        batch = self._fmt.encode_rows([pairs[number].row(name) for number in numbers])
        known = {rejection.row for rejection in self.rejected}
        for rejection in batch.rejected:
            number = numbers[rejection.row or 0]
            if number not in known:
                path = pairs[number].path(rejection.path, name)
                self._list(dataclasses.replace(rejection, row=number, path=path))
        add_unread(self.unread, ((pairs[numbers[0]].path(path, name), said) for path, said in batch.unread.items()))
        for place, ids, labels in zip(batch.rows.tolist(), *_arrays(batch.table), strict=True):
            trained = np.flatnonzero(labels != UNTRAINED)
            found[numbers[place]] = ids[: trained[0]], ids[trained[0] : trained[-1] + 1]
        return found

    def _keep(self, number: int, pair: Pair, answers: Mapping[str, tuple[Ids, Ids]]) -> None:
        (prompt, _), *others = answers.values()
        if any(not np.array_equal(prompt, other) for other, _ in others):
            found, fix = (
                "a prompt that depends on the answer",
                "leave the row out, or compile(…, prompt_mismatch='as_served')",
            )
            self._reject(RowError("no-prompt", "$.prompt", found, "one prompt for both answers", fix), number)
            return
        if pair.alone:
            answers = {name: (prompt, answer[:0]) for name, (_, answer) in answers.items()}
        longest = len(prompt) + max(len(answer) for _, answer in answers.values())
        if self._max_length is not None and longest > self._max_length:
            size = f"{longest} tokens"
            error = RowError("over-length", "$", size, f"at most {self._max_length}", f"max_length={longest}")
            if self._fmt.settings.overlength == "error":
                raise Rejection.from_error(error, number).to_error()
            self._reject(error, number)
            return
        for values in _rows(self._kind, prompt, {name: answer for name, (_, answer) in answers.items()}, pair.label):
            for name, value in zip(COLUMNS[self._kind], values, strict=True):
                self._columns[name].append(value)
        trained = sum(len(answer) for _, answer in answers.values())
        self.counts.update(emitted=1, tokens=len(prompt) * len(answers) + trained, trained_tokens=trained)

    def _reject(self, error: RowError, number: int) -> None:
        self._list(Rejection.from_error(error, number))

    def _list(self, rejection: Rejection) -> None:
        self.rejected.append(rejection)
        self.counts[f"rejected:{rejection.reason}"] += 1

    def check(self, allowed: float) -> None:
        """Refuse what is no result: too many rejected rows, or none that is left."""
        counted = [rejection for rejection in self.rejected if rejection.reason != "over-length"]
        if len(counted) > allowed * self.counts["rows"]:
            error = TooManyRejected(
                f"found {len(counted):,} of {self.counts['rows']:,} rows rejected; expected at most "
                f"max_rejected={allowed:g}; the first: {counted[0].to_error()}; fix: correct the rows, or raise "
                "max_rejected"
            )
            error.rejected = self.rejected
            raise error
        if not self.counts["emitted"]:
            first = f"; the first: {self.rejected[0].to_error()}" if self.rejected else ""
            raise NothingToLearn(f"found no pair in {self.counts['rows']:,} rows; expected one{first}")

    def table(self) -> pa.Table:
        """All rows."""
        ids = pa.list_(pa.int32())
        kinds = {name: pa.bool_() if name == "label" else ids for name in self._columns}
        return pa.table({name: pa.array(values, kinds[name]) for name, values in self._columns.items()})


def _rows(kind: Kind, prompt: Ids, answers: Mapping[str, Ids], label: bool | None) -> Iterator[Sequence[Any]]:
    """The rows that a pair, or an answer with a verdict, makes."""
    if kind == "kto":
        for name, answer in answers.items():
            yield prompt, answer, (name == "chosen") if label is None else label
    elif kind == "prompt":
        yield (prompt,)
    elif kind == "reward":
        yield [np.concatenate([prompt, answers[name]]) for name in ("chosen", "rejected")]
    else:
        yield prompt, answers["chosen"], answers["rejected"]


def _arrays(table: pa.Table) -> tuple[list[Ids], list[Ids]]:
    """Ids and labels of each row."""
    names = ("input_ids", "labels") if table.num_rows else ()
    ids, labels = ([value.values.to_numpy() for value in table.column(name)] for name in names) if names else ([], [])
    return ids, labels
