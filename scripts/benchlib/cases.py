"""The cases: what is measured against what, and the target of each.

In: a `Lab`. Out: `Claim`s, each a number, its target, and whether it is reached.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from benchlib.child import SCRIPTS, run
from benchlib.claim import Claim
from benchlib.lab import Lab, Series
from benchlib.rows import TURNS
from benchlib.uses import uses

SIZE = 100_000
TOOL_ROWS = 20_000
MILLION = 1_000_000
SMALL = 25_000
SAME_ROWS = 1_000
CORE_BATCH = 25_000
# 0 is one call for everything.
BARE_BATCHES = (1000, 8000, 0)
KEPT = "tokenizer kept from an earlier process"
# The same rows for us and for TRL.
PAIRS = (("alpaca", "pairs"), ("messages", "messages"))


def times(case: str, what: str, ours: Series, theirs: Series, target: float | None) -> Claim:
    """How many times faster we are, with the set-up of both sides counted; theirs is a rate."""
    number = ours.data.rows
    mine, others = ours.seconds(number), theirs.seconds(number)
    sense: Literal[">="] | None = None if target is None else ">="
    cheaper = theirs.median("cpu") / theirs.data.rows / (ours.median("cpu") / ours.data.rows)
    return Claim(
        case,
        what,
        f"{number / mine:,.0f} rows/s",
        f"{number / others:,.0f} rows/s",
        others / mine,
        "×",
        target,
        sense,
        f"without set-up {ours.rate() / theirs.rate():.1f} ×, in processor time {cheaper:.1f} ×"
        + _agreement(ours, theirs),
    )


def _agreement(ours: Series, theirs: Series) -> str:
    mine, others = ours.results[0].sample, theirs.results[0].sample
    both = sorted(mine.keys() & others.keys())
    if not both:
        return ""
    ids = sum(mine[row][0] == others[row][0] for row in both)
    labels = sum(mine[row] == others[row] for row in both)
    return f"; equal ids {ids}, ids and labels {labels} of {len(both)} rows"


def alpaca(lab: Lab) -> Iterator[Claim]:
    size, rate = lab.options.size(SIZE), lab.options.rate(SIZE)
    job = replace(lab.job("prepare", "alpaca", size), warm=True)
    ours, kept, trl = lab.measure(job, replace(job, kept=True), lab.job("trl", "pairs", rate))
    yield times("alpaca", "fmt.prepare / TRL prompt/completion", ours, trl, 50)
    yield times("alpaca", f"the same, {KEPT}", kept, trl, 50)


def messages(lab: Lab) -> Iterator[Claim]:
    size, rate = lab.options.size(SIZE), lab.options.rate(SIZE)
    job = replace(lab.job("prepare", "messages", size), warm=True)
    others = lab.job("trl", "messages", rate), lab.job("transformers_mask", "messages", rate)
    ours, kept, trl, mask = lab.measure(job, replace(job, kept=True), *others)
    yield times("messages", "fmt.prepare / TRL messages", ours, trl, 40)
    yield times("messages", f"the same, {KEPT}", kept, trl, 40)
    yield times("messages", "fmt.prepare / apply_chat_template with mask", ours, mask, None)


def glaive(lab: Lab) -> Iterator[Claim]:
    size, rate = lab.options.size(TOOL_ROWS), lab.options.rate(TOOL_ROWS)
    job = replace(lab.job("prepare", "tools", size), warm=True)
    ours, trl = lab.measure(job, lab.job("trl", "tool_messages", rate))
    yield times("glaive", "fmt.prepare / TRL messages with tools", ours, trl, 12)


def million(lab: Lab) -> Iterator[Claim]:
    size, rate = lab.options.size(MILLION), lab.options.rate(SIZE)
    for kind, other in PAIRS:
        ours, trl = lab.measure(lab.job("prepare", kind, size), lab.job("trl", other, rate))
        yield times("million", f"fmt.prepare, {kind} / TRL", ours, trl, 80)


def memory(lab: Lab) -> Iterator[Claim]:
    large = lab.options.size(MILLION)
    small = min(SMALL, max(1, large // 4))
    for kind, options in (("alpaca", "{}"), ("messages", "{}"), ("multi", '{"history": "expand"}')):
        jobs = (replace(lab.job("prepare", kind, size), options=options) for size in (small, large))
        few, many = lab.measure(*jobs)
        before, after = few.median("peak") / 1e6, many.median("peak") / 1e6
        what = f"anonymous memory, {kind}, {small:,} → {large:,} rows"
        yield Claim("memory", what, f"{after:,.0f} MB", f"{before:,.0f} MB", after - before, "MB", 300, "<=")


def core(lab: Lab) -> Iterator[Claim]:
    size = lab.options.size(SIZE)
    for kind, other in PAIRS:
        bare = replace(lab.bare("gigatoken_bare", other, size), warm=True)
        job = replace(lab.job("core", kind, size), warm=True, batch_size=CORE_BATCH)
        ours, *limits = lab.measure(job, *(replace(bare, batch_size=rows) for rows in BARE_BATCHES))
        limit = min(limits, key=lambda series: series.median("first"))
        yield against("core", f"encode_batch, {kind} / bare gigatoken", ours, limit, 2, "<=")


def slow(lab: Lab) -> Iterator[Claim]:
    size = lab.options.rate(SIZE)
    for kind, other in PAIRS:
        jobs = [
            replace(lab.job(side, kind, size), backend="tokenizers", batch_size=CORE_BATCH)
            for side in ("core", "prepare")
        ]
        series = lab.measure(*jobs, lab.bare("tokenizers_bare", other, size))
        for name, ours in zip(("encode_batch", "fmt.prepare"), series, strict=False):
            yield against("slow", f"{name}, {kind}, tokenizers / bare encode_batch", ours, series[-1], 0.85, ">=")


def against(case: str, what: str, ours: Series, limit: Series, target: float, sense: Literal[">=", "<="]) -> Claim:
    """Against a bare engine: its time in ours (`<=`) or our speed in its (`>=`); no set-up on either side."""
    longer = ours.median("first") / limit.median("first")
    note = f"warm {ours.median('warm') / limit.median('warm'):.2f} ×" if ours.warmed and limit.warmed else ""
    mine, others = (f"{series.rate():,.0f} rows/s" for series in (ours, limit))
    value, unit = (longer, "× time") if sense == "<=" else (1 / longer, "× speed")
    return Claim(case, what, mine, others, value, unit, target, sense, note)


def mapped(lab: Lab) -> Iterator[Claim]:
    size, rate = lab.options.size(SIZE), lab.options.rate(SIZE)
    for kind, other in PAIRS:
        jobs = lab.job("map_batched", kind, size), lab.job("map_rows", kind, rate), lab.job("trl", other, rate)
        batched, single, trl, prepare = lab.measure(*jobs, replace(lab.job("prepare", kind, size), warm=True))
        yield against("map", f"dataset.map(batched=True), {kind} / fmt.prepare", batched, prepare, 0.5, ">=")
        yield against("map", f"dataset.map by row, {kind} / TRL", single, trl, 1, ">=")


def turns(lab: Lab) -> Iterator[Claim]:
    size = max(lab.options.size(400_000), 20 * TURNS)
    sizes = {f"turns_{TURNS}": size // TURNS, "turns_1": size}
    for tokenizer in ("qwen3", "llama3_1"):
        jobs = (
            replace(lab.job("core", kind, rows, tokenizer), warm=True, batch_size=max(1, CORE_BATCH * rows // size))
            for kind, rows in sizes.items()
        )
        long, short = lab.measure(*jobs)
        cost = [1e6 * series.median("first") / series.median("tokens") for series in (long, short)]
        shown = [f"{microseconds:.3f} µs/token" for microseconds in cost]
        warm = [series.median("warm") / series.median("tokens") for series in (long, short)]
        what = f"{TURNS} assistant turns / 1, {tokenizer}"
        note = f"warm {warm[0] / warm[1]:.2f} ×"
        yield Claim("turns", what, shown[0], shown[1], cost[0] / cost[1], "× time", 1.2, "<=", note)


def start(lab: Lab) -> Iterator[Claim]:
    job = lab.job("start", "messages", 1000)
    folder = lab.options.out / "runs"
    folder.mkdir(exist_ok=True)
    what = "process start to the first 1,000 rows encoded"
    with tempfile.TemporaryDirectory(dir=folder) as kept:
        for script, cache, done, target in (
            ("floor", "off", "datasets, AutoTokenizer and gigatoken loaded, one after the other", None),
            ("start", "off", f"{what}, nothing kept", 5),
            ("start", kept, f"{what}, {KEPT}", 5),
        ):
            command = [sys.executable, str(SCRIPTS / "benchlib" / f"{script}.py"), job.data, job.tokenizer]
            # The first one writes byte code, and keeps the tokenizer.
            seconds = [_whole(command, folder, cache) for _ in range(1 + max(3, lab.options.runs))][1:]
            value = statistics.median(seconds)
            sense: Literal["<="] | None = None if target is None else "<="
            yield Claim("start", done, f"{value:.2f} s", "", value, "s", target, sense, f"all runs: {_list(seconds)}")


def _whole(command: list[str], folder: Path, cache: str) -> float:
    """Seconds from the start of a process to what it writes down at its end."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        begun = time.time()
        run(command, Path(name), INSTRUCT_FMT_CACHE=cache)
        return float((Path(name) / "done").read_text(encoding="utf-8").split()[0]) - begun


def _list(seconds: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in seconds)


def same(lab: Lab) -> Iterator[Claim]:
    size = lab.options.size(SAME_ROWS)
    for kind in ("alpaca", "messages", "tools"):
        facts = lab.measure(lab.job("same", kind, size))[0].results[0].facts
        digests: dict[str, str] = facts["digests"]
        others = [name for name, value in digests.items() if value != digests["batches of 1000"]]
        ways = f"{len(digests)} ways"
        note = f"differ: {json.dumps(others)}" if others else ", ".join(digests)
        note += f"; {facts['planned']} rows by plan, one by one {facts['planned one by one']}"
        note += f"; refused: {', '.join(facts['without'])}" if facts["without"] else ""
        found = len(set(digests.values()))
        yield Claim("same", f"results for {kind}, {size:,} rows", ways, "", found, "results", 1, "<=", note)


def packs(lab: Lab) -> Iterator[Claim]:
    size = lab.options.rate(SMALL)
    ours, trl = lab.measure(lab.job("packed", "messages", size), lab.job("trl_packed", "messages", size))
    seconds = [series.median("first") for series in (ours, trl)]
    filled = [series.results[0].facts["filled"] for series in (ours, trl)]
    mine, others = (f"{time:.1f} s, {share:.2%} filled" for time, share in zip(seconds, filled, strict=True))
    what = f"{ours.results[0].rows:,} rows packed / TRL pack_dataset"
    yield Claim("packing", what, mine, others, seconds[1] / seconds[0], "× speed", 1, ">=")


def pairs(lab: Lab) -> Iterator[Claim]:
    size, rate = lab.options.size(20_000), min(lab.options.rate(SMALL), 2000)
    ours, trl = lab.measure(lab.job("pairs_here", "preference", size), lab.job("trl_pairs", "preference", rate))
    shown = [f"{series.rate():,.0f} rows/s" for series in (ours, trl)]
    yield Claim(
        "pairs", "prepare_pairs / TRL DPOTrainer", shown[0], shown[1], ours.rate() / trl.rate(), "× speed", 1, ">="
    )


CASES: dict[str, Callable[[Lab], Iterator[Claim]]] = {
    "start": start,
    "alpaca": alpaca,
    "messages": messages,
    "glaive": glaive,
    "core": core,
    "slow": slow,
    "map": mapped,
    "turns": turns,
    "same": same,
    "memory": memory,
    "million": million,
    "packing": packs,
    "pairs": pairs,
    "uses": uses,
}
