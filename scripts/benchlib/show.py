"""Results for people: two tables, a JSON file, a plot."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchlib.child import Job
from benchlib.claim import Claim
from benchlib.lab import Lab, Series
from benchlib.rows import NEW_SHARE, Rows
from instruct_fmt.version import __version__

PACKAGES = (
    "trl", "transformers", "tokenizers", "gigatoken", "fastokens", "datasets", "pyarrow", "torch",
)  # fmt: skip
MEASURED = (
    "side",
    "rows of",
    "rows",
    "set-up s",
    "first rows/s",
    "CPU s",
    "MB/s",
    "warm rows/s",
    "µs/token",
    "peak MB",
)
CLAIMED = ("case", "what", "ours", "theirs", "value", "target", "reached")


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table with columns of equal width."""
    cells = [list(head), *map(list, lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    cells.insert(1, ["-" * width for width in widths])
    padded = ([text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in cells)
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def measured(lab: Lab) -> str:
    """Every side on its own: medians."""
    shown = [series for series in lab.series.values() if series.results[0].first]
    return table(MEASURED, map(_measured, shown))


def _name(series: Series) -> str:
    job = series.job
    changes = [job.backend] if job.backend != "auto" else []
    changes += ["one block"] if not job.batch_size else []
    changes += [f"{job.num_proc} workers"] if job.num_proc else []
    return f"{job.side} ({', '.join(changes)})" if changes else job.side


def _kind(series: Series) -> str:
    return f"{Path(series.data.path).stem.split('-')[0]}, {Path(series.job.tokenizer).name}"


def _measured(series: Series) -> list[str]:
    first, tokens, peak = (series.median(name) for name in ("first", "tokens", "peak"))
    return [
        _name(series),
        _kind(series),
        f"{series.data.rows:,}",
        f"{series.median('setup'):.2f}",
        f"{series.rate():,.0f}",
        f"{series.median('cpu'):.2f}",
        f"{series.data.megabytes / first:.1f}",
        f"{series.rate(warm=True):,.0f}" if series.warmed else "",
        f"{1e6 * first / tokens:.3f}" if tokens else "",
        f"{peak / 1e6:,.0f}" if peak else "",
    ]


def claimed(claims: Sequence[Claim]) -> str:
    """The targets, and below them what else was seen."""
    verdicts = {True: "yes", False: "NO", None: ""}
    lines = [
        [
            claim.case,
            claim.what,
            claim.ours,
            claim.theirs,
            f"{claim.value:.3g} {claim.unit}" if claim.value < 100 else f"{claim.value:,.0f} {claim.unit}",
            f"{claim.sense} {claim.target:g}" if claim.sense else "",
            verdicts[claim.reached],
        ]
        for claim in claims
    ]
    notes = [f"{claim.case}, {claim.what}: {claim.note}" for claim in claims if claim.note]
    return "\n".join([table(CLAIMED, lines), "", *notes])


def data(lab: Lab) -> str:
    """The rows that were measured on, and how many of their words are new."""
    lines = [f"Words replaced by new ones in repeated rows: {NEW_SHARE:.0%}. Never seen before, in all:"]
    for made in dict.fromkeys(lab.rows.values()):
        share = made.new / made.words
        lines.append(f"  {Path(made.path).stem}: {made.rows:,} rows, {made.megabytes:.1f} MB, {share:.1%} of the words")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What it ran on."""
    found = {"instruct-fmt": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"python": platform.python_version(), "cores": cores, "load": load, "packages": found}


def write_json(path: Path, lab: Lab, claims: Sequence[Claim], about: dict[str, Any]) -> None:
    """Everything, run by run."""
    series = [
        {
            "job": _named(one.job, data=Path(one.data.path).name, tokenizer=Path(one.job.tokenizer).name),
            "data": _named(one.data, path=Path(one.data.path).name),
            "runs": [{name: value for name, value in asdict(run).items() if name != "sample"} for run in one.results],
        }
        for one in lab.series.values()
    ]
    found = {
        "machine": about,
        "new_words": NEW_SHARE,
        "claims": [{**asdict(claim), "reached": claim.reached} for claim in claims],
        "series": series,
    }
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _named(value: Job | Rows, **changes: str) -> dict[str, Any]:
    return {**asdict(value), **changes}


def plot(path: Path, lab: Lab) -> None:
    """Rows per second of every side on the first pass, set-up apart, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    shown = [series for series in lab.series.values() if series.results[0].first]
    shown.sort(key=lambda series: (_kind(series), series.rate()))
    if not shown:
        return
    ours = ("prepare", "core", "map_batched", "map_rows")
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.3 * len(shown)), layout="constrained")
    colours = ["#2a7f62" if series.job.side in ours else "#9a9a9a" for series in shown]
    bars = axes.barh(range(len(shown)), [series.rate() for series in shown], color=colours)
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    names = [f"{_name(one)}: {_kind(one)}, {one.data.rows:,} rows" for one in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("rows per second, first pass, set-up apart")
    axes.margins(x=0.15)
    figure.savefig(path)
    pyplot.close(figure)


USES_HEAD = """# Uses and their speed

Each use of the package on {rows:,} rows that it had not seen, first pass: `fmt.prepare`, output written, on {cores}
cores (Python {python}, {packages}).
Beside it TRL's `SFTTrainer` preparing {others:,} rows: the same ones where it takes them, and its own Qwen3 template
with `assistant_only_loss`; under other templates plain messages without a mask, which is all that it can do there.
The ratio is of tokens per second; set-up is on neither side. {runs}.

Made by `scripts/bench --cases uses --write docs/uses.md`; the rows are those of [speed.md](speed.md).

"""
USED = ("use", "here", "TRL", "×", "by plan")


def used(claims: Sequence[Claim], lab: Lab, about: dict[str, Any]) -> str:
    """The table of all uses."""
    sizes = [series.data.rows for job, series in lab.series.items() if job.side == "prepare"]
    others = [series.data.rows for job, series in lab.series.items() if job.side.startswith("trl")]
    runs = lab.options.runs
    head = USES_HEAD.format(
        rows=max(sizes),
        others=max(others),
        cores=about["cores"],
        python=about["python"],
        packages=", ".join(f"{name} {about['packages'][name]}" for name in ("trl", "transformers", "gigatoken")),
        runs="One run of each" if runs == 1 else f"Medians of {runs} runs",
    )
    lines = [
        [
            claim.what,
            claim.ours,
            claim.theirs,
            f"{claim.value:,.0f}" if claim.value >= 10 else f"{claim.value:.1f}",
            claim.note,
        ]
        for claim in claims
        if claim.case == "uses"
    ]
    return head + table(USED, lines) + "\n"
