"""Runs a hostile case in a forked process, and says what it used and did.

In: a case, and a folder for it alone. Out: `Run`: how it ended, processor time and memory with those of its children,
whether it read standard input, and its words. Linux only: memory is read from `/proc`.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
import struct
import sys
import tempfile
import termios
import traceback
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import datasets
from hostile_case import Case, Outcome
from hostile_scene import say

MARK = "HOSTILE_MARK"
"""The variable with the path of the file that code writes which ought not to run."""
WALL = 10
WALL_WHILE_RUNNING = 40  # other work on the machine must not make a hang of a slow case, which the processor time tells
CPU_LIMIT = 1  # so long beyond what is allowed
CPU_LIMIT_OF_WORKERS = 20  # each of them has the same limit, and takes seconds to start
MORE_ADDRESSES = 2 << 30
ANSWERS = b"y\ny\ny\n"
_OUTCOME = "outcome.json"
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Run:
    """How a process ended. `signal` is 0 where it ended by itself; `outcome` is None where it said nothing."""

    outcome: Outcome | None
    code: int
    signal: int
    hung: bool
    asked: bool
    seconds: float
    megabytes: float
    out: str
    err: str


def run(case: Case, folder: Path) -> Run:
    """Run a case in `folder/work`; what it leaves behind is in `folder`."""
    inlet, outlet = os.pipe()
    os.write(outlet, ANSWERS)
    os.close(outlet)
    before = _resident()
    pid = _fork()
    if not pid:
        try:
            os.setpgid(0, 0)
            _enter(folder, inlet, case.seconds + (CPU_LIMIT_OF_WORKERS if case.workers else CPU_LIMIT))
            _write_outcome(folder, say(case.run))
        finally:
            leave()
    hung = not _ended(pid)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    asked = _waiting(inlet) < len(ANSWERS)
    os.close(inlet)
    return Run(
        outcome=_read_outcome(folder),
        code=os.waitstatus_to_exitcode(status),
        signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
        hung=hung,
        asked=asked,
        seconds=used.ru_utime + used.ru_stime,
        megabytes=max(0.0, (used.ru_maxrss * 1024 - before) / 1e6),
        out=_text(folder / "stdout"),
        err=_text(folder / "stderr"),
    )


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of threads, of which none is at work
        return os.fork()


def _enter(folder: Path, inlet: int, seconds: float) -> None:
    """Streams, folders and limits of the case's process."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(inlet, 0)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    os.environ.update(
        {
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "INSTRUCT_FMT_CACHE": str(folder / "cache" / "instruct_fmt"),
            MARK: str(folder / "mark"),
        }
    )
    tempfile.tempdir = None
    datasets.config.HF_DATASETS_CACHE = folder / "cache" / "datasets"
    datasets.disable_progress_bars()
    os.chdir(folder / "work")
    warnings.resetwarnings()
    addresses = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE + MORE_ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def leave() -> NoReturn:
    """End a forked process, with a traceback where an exception is under way."""
    failed = sys.exc_info()[0] is not None
    if failed:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(1 if failed else 0)


def _ended(pid: int) -> bool:
    """Wait for a process; False where it hangs: where neither it nor its children work any more."""
    watch = os.pidfd_open(pid)
    try:
        used, seconds, left = 0, WALL, WALL_WHILE_RUNNING
        while left > 0:
            if select.select([watch], [], [], seconds)[0]:
                return True
            before, used = used, _ticks(pid)
            if before == used:
                return False
            seconds, left = 2, left - seconds
        return False
    finally:
        os.close(watch)


def _ticks(group: int) -> int:
    """The processor time of a group of processes, in ticks of the clock."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may have ended
            fields = path.read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
            found += sum(map(int, fields[11:15])) if int(fields[2]) == group else 0
    return found


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _waiting(inlet: int) -> int:
    """How many bytes of a pipe nobody has read."""
    found: tuple[int] = struct.unpack("i", fcntl.ioctl(inlet, termios.FIONREAD, b"\0" * 4))
    return found[0]


def _write_outcome(folder: Path, outcome: Outcome) -> None:
    (folder / _OUTCOME).write_text(json.dumps(asdict(outcome)), encoding="utf-8")


def _read_outcome(folder: Path) -> Outcome | None:
    path = folder / _OUTCOME
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return Outcome(found["result"], tuple(found["wrong"]))


def _text(path: Path) -> str:
    return path.read_bytes()[-200_000:].decode("utf-8", "replace") if path.exists() else ""
