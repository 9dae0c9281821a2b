"""Worker processes: each opens the job once, then encodes the parts that it is sent.

In: a job pickled to a file, and the numbers of rows to encode over a pipe. Out: `Done` values over a pipe.

Plain subprocesses, not `multiprocessing`: its fork deadlocks with threaded tokenizers, and its spawn runs the
user's script again where that has no ``if __name__ == "__main__"``. Nor `concurrent.futures` or loky: when a process
dies they give up all that was under way, without a word on which part it died over.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from instruct_fmt.errors import InstructFmtError
from instruct_fmt.run.work import Done, Job, Part, encode_part

_ONE_THREAD = {
    "TOKENIZERS_PARALLELISM": "false",
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}
# A terminal's interrupt is for this process alone, which ends its workers.
_APART: dict[str, Any] = (
    {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)} if os.name == "nt" else {"process_group": 0}
)
# Modules are found where this process finds them, but for those in the current folder.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from instruct_fmt.run import worker; worker.main()"
Progress = Callable[[int], object]


class WorkerDied(InstructFmtError):
    """A worker process ended without an answer."""


def run_parts(job: Job, parts: list[Part], num_proc: int, progress: Progress) -> list[Done]:
    """Encode all parts, in `num_proc` processes where that is more than one; the order is that of `parts`.

    The part that a process died over is encoded once more by a new one. An error ends all processes at once.

    Raises:
        InstructFmtError: what a worker raised, or that two died over the same part.
        OSError: what a worker raised, such as a full disk.
    """
    if num_proc == 1:
        return [encode_part(job, part, progress) for part in parts]
    job_file = job.folder / "job.pickle"
    job_file.write_bytes(pickle.dumps(job))
    team = _Team(job_file, parts, progress)
    with ThreadPoolExecutor(num_proc, "instruct_fmt") as threads:
        try:
            futures = [threads.submit(team.work) for _ in range(num_proc)]
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            team.end()
    for future in futures:
        team.note(future)
    if team.errors:
        raise team.errors[0]
    job_file.unlink(missing_ok=True)
    return [team.done[part.index] for part in parts]


class _Team:
    """Threads of this process, each with a worker process of its own, take parts until none is left."""

    def __init__(self, job_file: Path, parts: Sequence[Part], progress: Progress) -> None:
        self.done: dict[int, Done] = {}
        self.errors: list[BaseException] = []
        self._job_file, self._progress = job_file, progress
        self._parts: SimpleQueue[Part] = SimpleQueue()
        for part in parts:
            self._parts.put(part)
        self._workers: list[_Worker] = []
        self._ended = False
        self._lock = threading.Lock()

    def work(self) -> None:
        """Encode parts in one worker process, and in another where that dies."""
        worker = self._start()
        while True:
            try:
                part = self._parts.get_nowait()
            except Empty:
                return
            try:
                self.done[part.index] = worker.encode(part, self._progress)
            except WorkerDied:
                worker = self._start()
                self.done[part.index] = worker.encode(part, self._progress)

    def note(self, future: Future[None]) -> None:
        """Remember what a thread raised; the first error is the run's, not what ending the others led to."""
        error = future.exception()
        if error is not None and not isinstance(error, _Ended):
            self.errors.append(error)

    def end(self) -> None:
        """End all processes, and start no other."""
        with self._lock:
            self._ended = True
        for worker in self._workers:
            worker.close()

    def _start(self) -> _Worker:
        with self._lock:
            if self._ended:
                raise _Ended
            self._workers.append(_Worker(self._job_file))
            return self._workers[-1]


class _Ended(Exception):
    """Another part has failed."""


class _Worker:
    """The near end of a worker process."""

    def __init__(self, job_file: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, json.dumps(_module_folders()), str(job_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ONE_THREAD},
            **_APART,
        )

    def encode(self, part: Part, progress: Progress) -> Done:
        """Send a part and wait for its result.

        Raises:
            WorkerDied: the process ended meanwhile.
        """
        inlet: Any = self._process.stdin
        outlet: Any = self._process.stdout
        seen = 0
        try:
            pickle.dump(part, inlet)
            inlet.flush()
            while isinstance(found := pickle.load(outlet), int):
                seen += found
                progress(found)
        except (OSError, EOFError, pickle.UnpicklingError, ValueError) as error:  # the last: closed by `close`
            progress(-seen)
            raise WorkerDied(self._obituary(part)) from error
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, Done)
        return found

    def close(self) -> None:
        """End the process, also if it is busy."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()

    def _obituary(self, part: Part) -> str:
        code = self._process.wait()
        return (
            f"rows {part.start} to {part.stop}: found a worker process that ended with code {code}, and another one "
            "before it (negative: killed by that signal, -9 often for lack of memory); expected it to finish; "
            "fix: use a smaller num_proc or batch_size, or num_proc=1 to see its error here"
        )


def _module_folders() -> list[str]:
    here = str(Path.cwd())
    found = [folder for folder in sys.path if folder and os.path.abspath(folder) != here]  # noqa: PTH100 - no links
    package = str(Path(__file__).parents[2])
    return found if package in found else [*found, package]


def serve(job_file: str, inlet: Any, outlet: Any) -> None:
    """The far end: encode parts until the inlet ends, which it does when the main process dies too."""
    job: Job = pickle.loads(Path(job_file).read_bytes())

    def send(value: object) -> None:
        try:
            pickle.dump(value, outlet)
            outlet.flush()
        except BrokenPipeError:
            os._exit(1)  # the main process is gone

    def answer(future: Future[Done]) -> None:
        error = future.exception()
        send(future.result() if error is None else _portable(error))

    with ThreadPoolExecutor(1) as thread:
        while True:
            try:
                part: Part = pickle.load(inlet)
            except EOFError:
                os._exit(0)  # at once, whatever is under way: nobody waits for it
            thread.submit(encode_part, job, part, send).add_done_callback(answer)


def _portable(error: BaseException) -> BaseException:
    """An error that the main process can raise, with the place where it came from if it is none of ours."""
    if not isinstance(error, (InstructFmtError, OSError)):
        error.add_note("in a worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except (pickle.PicklingError, TypeError, AttributeError):
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def main() -> None:
    """Run as a worker, with standard output kept free of whatever libraries print."""
    import pyarrow as pa

    outlet = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    pa.set_cpu_count(1)
    serve(sys.argv[2], sys.stdin.buffer, outlet)
