"""Judges hostile cases: each in a process of its own, two at a time, forked from one that has everything loaded.

In: cases. Out: a `Verdict` for each: what came back, what it cost, and what it may not have done.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import signal
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import hostile_fork
import hostile_scene
from hostile_case import MEGABYTES, Case, Verdict
from hostile_fork import Run

JOBS = 2
_TRACE = ("Traceback (most recent call last)", "Fatal Python error", "panicked at", "internal error")
_HASHED = 1 << 20


def judge_all(cases: Sequence[Case], folder: Path, jobs: int = JOBS) -> Iterator[Verdict]:
    """The verdicts, in the order in which the cases end."""
    hostile_scene.load(folder / "tokenizers")
    gc.collect()
    gc.freeze()  # or each case would pay for a look at all of this
    extra = _worker_seconds(folder) if any(case.workers for case in cases) else 0.0
    running: dict[int, tuple[Case, Path]] = {}
    waiting = list(enumerate(cases))
    while waiting or running:
        if waiting and len(running) < jobs:
            number, case = waiting.pop(0)
            place = folder / str(number)
            running[_start(case, place, extra)] = case, place
        else:
            pid, _ = os.wait()
            if pid in running:
                yield _finished(*running.pop(pid))


def _worker_seconds(folder: Path) -> float:
    """What a harmless run with two workers costs: their start, which no case is blamed for."""
    case = Case("files", "harmless", "nothing", "", hostile_scene.with_two_workers, workers=True)
    place = _folders(folder / "harmless")
    run = hostile_fork.run(case, place)
    if run.outcome is None or not run.outcome.result.startswith("ok"):
        raise RuntimeError(f"a harmless run failed: {run.outcome}\n{run.err}")
    return run.seconds


def _start(case: Case, place: Path, extra: float) -> int:
    """A process that sets the scene, forks the case, looks at what is left and writes the verdict down."""
    pid = os.fork()
    if pid:
        return pid
    try:
        verdict = judge(case, place, extra if case.workers else 0.0)
        (place / "verdict.json").write_text(json.dumps(asdict(verdict)), encoding="utf-8")
    finally:
        hostile_fork.leave()


def _finished(case: Case, place: Path) -> Verdict:
    path = place / "verdict.json"
    if path.is_file():
        found = Verdict(**json.loads(path.read_text(encoding="utf-8")))
    else:
        found = Verdict(case.group, case.name, case.tries, case.how, "", 0, 0, ["the judge gave no verdict"])
    shutil.rmtree(place, ignore_errors=True)
    return found


def judge(case: Case, place: Path, extra: float) -> Verdict:
    work = _folders(place) / "work"
    os.chdir(work)
    if case.setup:
        case.setup(work)
    root = set(Path("/").iterdir())
    before = snapshot(work)
    run = hostile_fork.run(case, place)
    violations = [*of_run(run, case.seconds, extra), *of_files(case, before, snapshot(work), killed=bool(run.signal))]
    violations += [f"wrote into /: {path.name}" for path in sorted(set(Path("/").iterdir()) - root)]
    mark = place / "mark"
    if mark.exists():
        violations.append(f"ran the user's code: {mark.read_text()[:80]}")
    return Verdict(
        case.group,
        case.name,
        case.tries,
        case.how,
        result(run),
        round(run.seconds, 2),
        round(run.megabytes),
        violations,
        case.family,
    )


def _folders(place: Path) -> Path:
    for name in ("work", "home", "tmp", "cache"):
        (place / name).mkdir(parents=True)
    return place


def result(run: Run) -> str:
    """What came back, in a few words; of a command, the beginning of what it complains of."""
    if run.outcome is None:
        lines = run.err.strip().splitlines() or [""]
        return hostile_scene.short(f"died: {lines[-1]}")
    found = run.outcome
    if found.result.startswith("exit "):
        said = " ".join(line for line in run.err.splitlines() if line.startswith(("error:", "rejected:", "Usage", "│")))
        found = replace(found, result=f"{found.result}: {said}" if said else found.result)
    return hostile_scene.short(found.result, 110)


def of_run(run: Run, allowed: float, extra: float) -> list[str]:
    """What a process may not have done."""
    found = [f"wrong labels: {one}" for one in run.outcome.wrong] if run.outcome else []
    if run.hung:
        found.append("hang")
    elif run.signal:
        found += [] if run.signal == signal.SIGXCPU else [f"died of signal {run.signal}"]  # of that the seconds tell
    elif run.outcome is None or any(mark in run.err + run.out for mark in _TRACE):
        found.append(f"traceback: {_raised(run)}")
    if run.seconds > allowed + extra:
        found.append(f"{run.seconds - extra:.1f} s of processor time")
    if run.megabytes > MEGABYTES:
        found.append(f"{run.megabytes:.0f} MB")
    if run.asked:
        found.append("asked a question on standard input")
    return found


def _raised(run: Run) -> str:
    """The last line of a traceback that names an exception, and the place in the package that it came from."""
    lines = (run.err + "\n" + run.out).splitlines()
    places = [line.split("instruct_fmt/", 1)[1] for line in lines if 'File "' in line and "instruct_fmt/" in line]
    names = [
        line for line in lines if line[:1].isalpha() and ("Error" in line or "Exception" in line or "panicked" in line)
    ]
    where = places[-1].replace('", line ', ":").split(",")[0] if places else "?"
    return hostile_scene.short(f"{names[-1] if names else (lines or ['?'])[-1]} ({where})", 140)


def snapshot(folder: Path) -> dict[str, str]:
    """What lies in a folder: of each path its kind, and of files and links what is in them."""
    found: dict[str, str] = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent) / name
            found[str(path.relative_to(folder))] = _state(path)
    return found


def _state(path: Path) -> str:
    about = path.lstat()
    if stat.S_ISLNK(about.st_mode):
        return f"link to {path.readlink()}"
    if not stat.S_ISREG(about.st_mode):
        return f"kind {stat.S_IFMT(about.st_mode)}"
    digest = ""
    if about.st_size < _HASHED and os.access(path, os.R_OK):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"file {about.st_size} {about.st_mtime_ns} {digest}"


def of_files(case: Case, before: dict[str, str], after: dict[str, str], *, killed: bool) -> list[str]:
    """Files of the user's that are gone or changed, and new ones outside of the output, unless nobody could tidy up."""

    def theirs(path: str) -> bool:
        written = case.output and (f"{path}/".startswith(f"{case.output}/") or case.output.startswith(f"{path}/"))
        return path in case.keeps or not written

    gone = [f"the user's {path} is gone" for path in before if theirs(path) and path not in after]
    changed = [
        f"the user's {path} has changed"
        for path in before
        if theirs(path) and after.get(path, before[path]) != before[path]
    ]
    new = [path for path in after if theirs(path) and path not in before and not killed]
    return [*gone, *changed, *(f"written outside of the output: {path}" for path in new[:3])]
