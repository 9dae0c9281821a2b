"""Runs hostile cases, each in a forked process of its own, and judges what became of them.

In: a `Case`. Out: a `Verdict`: what the package answered, the processor time and memory that it took, and what was
wrong with that, if anything: a traceback, an error of no kind of ours, a hang, a file of the user's that is gone or changed,
a file that was written where none belongs, a wrong label.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from instruct_fmt.errors import InstructFmtError

MAX_SECONDS, MAX_MEGABYTES, MAX_WALL = 2.0, 500, 30.0
_CPU_LIMIT, _MEMORY_LIMIT = 25, 12 << 30
_SHOWN = 100


class Wrong(Exception):
    """What a case found that must not be."""


@dataclass(frozen=True, slots=True)
class Case:
    """One hostile input.

    Attributes:
        name: of the case.
        tries: what it tries, in a few words.
        run: does it in the current folder, which is empty; returns what the package answered, raises what it raised.
    """

    name: str
    tries: str
    run: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a case; `wrong` is empty where all is well."""

    name: str
    answer: str
    seconds: float
    megabytes: int
    wrong: str


def judge(case: Case) -> Verdict:
    """Run a case in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _child(case, Path(folder), writer)
        os.close(writer)
        told = _told(reader, child)
        _, status, used = os.wait4(child, 0)
        _end_group(child)
    seconds = used.ru_utime + used.ru_stime
    if told is None:
        end = f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "said nothing"
        return Verdict(case.name, end, seconds, 0, end)
    answer, wrong, megabytes, before = told
    seconds -= before
    if not wrong and seconds > MAX_SECONDS:
        wrong = f"{seconds:.1f} s of processor time"
    if not wrong and megabytes > MAX_MEGABYTES:
        wrong = f"{megabytes} MB"
    return Verdict(case.name, answer, seconds, megabytes, wrong)


def _told(reader: int, child: int) -> tuple[str, str, int, float] | None:
    """What the child writes; None where it dies or takes too long."""
    text = b""
    deadline = time.monotonic() + MAX_WALL
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(deadline - time.monotonic(), 0))[0]:
            block = pipe.read(65536)
            if not block:
                break
            text += block
        else:
            os.kill(child, signal.SIGKILL)
            return None
    if not text:
        return None
    answer, wrong, megabytes, before = json.loads(text)
    return answer, wrong, megabytes, before


def _end_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _child(case: Case, folder: Path, writer: int) -> None:
    """The far end: no terminal, no input, a folder of its own; ends the process."""
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_LIMIT, _CPU_LIMIT))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    said = os.open(folder / ".said", os.O_CREAT | os.O_RDWR)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the process ends with it
    sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    here = folder / "here"
    here.mkdir()
    os.chdir(here)
    (here / "thesis.txt").write_text("the user's own")
    begin()
    answer, wrong = "", ""
    try:
        answer = case.run()
    except InstructFmtError as error:
        answer = f"{type(error).__name__}: {error}"
    except Wrong as error:
        wrong = str(error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the judge looks for
        wrong = f"{type(error).__name__}: {error}"
    sys.stdout.flush()
    sys.stderr.flush()
    megabytes = _megabytes("VmHWM") - _Begun.megabytes
    words = (folder / ".said").read_text("utf-8", errors="replace")
    answer = answer or _last_line(words)
    if not wrong and "Traceback (most recent call last)" in words:
        wrong = "a traceback: " + words.strip().splitlines()[-1]
    if not wrong and (here / "thesis.txt").read_text() != "the user's own":
        wrong = "a file of the user's was changed"
    if not wrong and (here / "imported").exists():
        wrong = "a module of the current folder was imported"
    text = json.dumps([_short(answer), _short(wrong), max(megabytes, 0), _Begun.seconds])
    os.write(writer, text.encode("utf-8", errors="replace"))
    os._exit(0)


def _last_line(words: str) -> str:
    lines = [line for line in words.strip().splitlines() if line.strip()]
    error = next((line for line in lines if line.startswith("error")), None)
    return error or (lines[-1] if lines else "")


def _short(text: str) -> str:
    line = " ".join(text.split()).encode("utf-8", errors="replace").decode()
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


class _Begun:
    """What the process had used before the case began."""

    megabytes = 0
    seconds = 0.0


def begin() -> None:
    """Count time and memory from here on; what a case needs is there now."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    used = resource.getrusage(resource.RUSAGE_SELF)
    _Begun.seconds = used.ru_utime + used.ru_stime
    _Begun.megabytes = _megabytes("VmRSS")


def _megabytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(name))


def as_dict(verdict: Verdict) -> dict[str, object]:
    """For a table."""
    return asdict(verdict)
