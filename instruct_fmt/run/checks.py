"""What a run is refused for: options that cannot work, and results that are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from instruct_fmt.errors import DataError, NothingToLearn, Rejection, TooManyRejected, UsageError
from instruct_fmt.look.report import Report, field_of
from instruct_fmt.pipeline.unread import named_fields
from instruct_fmt.run import store
from instruct_fmt.run.run_options import RunOptions
from instruct_fmt.run.work import FEATURES, Source


def check_options(sources: Sequence[Source], options: RunOptions, target: Path | None) -> None:
    for name, value in (("num_proc", options.num_proc), ("batch_size", options.batch_size)):
        if value is not None and value < 1:
            raise UsageError(name, value, "1 or more", f"leave {name} out")
    if options.output_format not in ("arrow", "parquet"):
        raise UsageError("output_format", f"{options.output_format!r}", "'arrow' or 'parquet'", "use one of them")
    options.recipe.check(sources)
    if clash := set(options.keep_columns) & set(FEATURES):
        raise UsageError(
            "keep_columns",
            f"{sorted(clash)}",
            "columns other than the result's own",
            "rename the dataset's column first",
        )
    for source in sources:
        if not len(source.dataset):
            raise DataError(source.name, "0 rows", "at least one", "check the path and the split")
        if missing := [name for name in options.keep_columns if name not in source.dataset.column_names]:
            raise UsageError(
                "keep_columns",
                f"{missing}, not in {source.name}",
                f"columns among {source.dataset.column_names}",
                "correct the names",
            )
    if target is not None:
        store.check_target(target)
        _check_apart(sources, target)


def capacity_of(sources: Sequence[Source], options: RunOptions) -> int | None:
    """How many tokens a packed sequence may have; None where nothing is packed.

    Raises:
        UsageError: that cannot be told, or something cannot be packed.
    """
    if options.packing is False:
        return None
    longest = [source.fmt.settings.max_length for source in sources]
    if options.packing is True:
        if None in longest:
            raise UsageError("packing", "no max_length", "the length of a sequence", "set max_length, or packing: 4096")
        capacity = max(longest)
    else:
        capacity = options.packing
    if type(capacity) is not int or capacity < 1:
        raise UsageError("packing", f"{capacity!r}", "true, or a number of tokens", "set packing: 4096")
    if options.keep_columns:
        names = ", ".join(options.keep_columns)
        fix = "leave keep_columns out, or do not pack"
        raise UsageError("keep_columns", f"{names} beside packing", "none: a sequence has several rows", fix)
    return capacity


def _check_apart(sources: Sequence[Source], target: Path) -> None:
    """Refuse to replace the folder that a dataset is read from."""
    for source in sources:
        for file in source.dataset.cache_files:
            if target in Path(file["filename"]).resolve().parents:
                raise UsageError(
                    "output",
                    f"{target}, where {source.name} is read from",
                    "a folder of its own",
                    "name another folder",
                )


def check_named(sources: Sequence[Source], counts: Counter[str]) -> None:
    """Refuse a name for a field of messages that no row of any dataset has."""
    for source in sources:
        field_map = source.fmt.settings.field_map
        for ours in named_fields(field_map):
            if not counts[f"named:{ours}"] and counts["emitted"]:
                raise UsageError(
                    f"field_map[{ours!r}]",
                    f"{field_map[ours]!r}, which no message of {source.name} has",
                    "the name of a field",
                    "correct it, or leave it out",
                )


def check_result(sources: Sequence[Source], counts: Counter[str], ledger: list[tuple[str, Rejection]]) -> None:
    report = Report.of("", counts, (rejection for _, rejection in ledger))
    rejected = sum(report.rejected.values())
    allowed = min(source.fmt.settings.max_rejected for source in sources)
    if rejected > allowed * report.rows:
        error = TooManyRejected(
            f"found {rejected:,} of {report.rows:,} rows rejected ({rejected / report.rows:.1%}); expected "
            f"at most max_rejected={allowed:g}; fix: correct the rows below, or raise max_rejected:\n"
            + _reasons(ledger, several=len(sources) > 1)
        )
        error.rejected = [rejection for _, rejection in ledger]
        raise error
    if not report.trained_tokens:
        raise NothingToLearn(
            f"found no token to train in {report.rows:,} rows ({report.over_length:,} over max_length); "
            "expected at least one; fix: check train_on, max_length and the columns"
            + _reasons(ledger, "\n", several=len(sources) > 1)
        )


def _reasons(ledger: list[tuple[str, Rejection]], start: str = "", *, several: bool) -> str:
    """A line for each reason and field, the most frequent first, with the first such row."""
    found: dict[tuple[str, str], list[tuple[str, Rejection]]] = {}
    for name, rejection in ledger:
        found.setdefault((rejection.reason, field_of(rejection)), []).append((name, rejection))
    lines = []
    for (reason, _), rows in sorted(found.items(), key=lambda item: -len(item[1])):
        name, first = rows[0]
        lines.append(f"  {reason}: {len(rows):,} rows, such as {f'{name}, ' if several else ''}{first.to_error()}")
    return start + "\n".join(lines) if lines else ""
