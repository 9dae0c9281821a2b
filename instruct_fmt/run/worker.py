"""Worker processes: each opens the job once, then encodes the parts that it is sent.

In: a job pickled to a file, and the numbers of rows to encode over a pipe. Out: `Done` values over a pipe.

Plain subprocesses, not `multiprocessing`: its fork deadlocks with threaded tokenizers, and its spawn runs the
user's script again where that has no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from instruct_fmt.errors import InstructFmtError
from instruct_fmt.run.work import Done, Job, Part, encode_part

_ONE_THREAD = {
    "TOKENIZERS_PARALLELISM": "false",
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}
Progress = Callable[[int], object]


def run_parts(job: Job, parts: list[Part], num_proc: int, progress: Progress) -> list[Done]:
    """Encode all parts, in `num_proc` processes where that is more than one; the order is that of `parts`.

    Raises:
        InstructFmtError: what a worker raised, or that it died.
        OSError: what a worker raised, such as a full disk.
    """
    if num_proc == 1:
        return [encode_part(job, part, progress) for part in parts]
    job_file = job.folder / "job.pickle"
    job_file.write_bytes(pickle.dumps(job))
    workers: list[_Worker] = []
    try:
        workers.extend(_Worker(job_file) for _ in range(num_proc))
        return _share_out(workers, parts, progress)
    finally:
        for worker in workers:
            worker.close()
        job_file.unlink(missing_ok=True)


def _share_out(workers: list[_Worker], parts: list[Part], progress: Progress) -> list[Done]:
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def encode(part: Part) -> Done:
        worker = idle.get()
        done = worker.encode(part, progress)
        idle.put(worker)
        return done

    with ThreadPoolExecutor(len(workers)) as threads:
        futures = [threads.submit(encode, part) for part in parts]
        done: list[Done] = []
        try:
            done.extend(future.result() for future in futures)
        finally:
            if len(done) < len(parts):
                # Threads wait for their worker, and the pool for its threads: end the workers first.
                threads.shutdown(wait=False, cancel_futures=True)
                for worker in workers:
                    worker.kill()
        return done


class _Worker:
    """The near end of a worker process."""

    def __init__(self, job_file: Path) -> None:
        environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "instruct_fmt.run.worker", str(job_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def encode(self, part: Part, progress: Progress) -> Done:
        """Send a part and wait for its result."""
        inlet: Any = self._process.stdin
        try:
            pickle.dump(part, inlet)
            inlet.flush()
            outlet: Any = self._process.stdout
            while isinstance(found := pickle.load(outlet), int):
                progress(found)
        except (BrokenPipeError, EOFError, pickle.UnpicklingError) as error:
            raise InstructFmtError(self._obituary(part)) from error
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, Done)
        return found

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """End the process: at once if it is busy."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()

    def _obituary(self, part: Part) -> str:
        code = self._process.wait()
        return (
            f"rows {part.start} to {part.stop}: found a worker process that ended with code {code} "
            "(negative: killed by that signal, -9 often for lack of memory); expected it to finish; "
            "fix: use a smaller num_proc or batch_size, or num_proc=1 to see its error here"
        )


def serve(job_file: str, inlet: Any, outlet: Any) -> None:
    """The far end: encode parts until the inlet ends, which it does when the main process dies too."""
    job: Job = pickle.loads(Path(job_file).read_bytes())

    def send(value: object) -> None:
        pickle.dump(value, outlet)
        outlet.flush()

    while True:
        try:
            part: Part = pickle.load(inlet)
        except EOFError:
            return
        try:
            send(encode_part(job, part, send))
        except (InstructFmtError, OSError) as error:
            send(error)


def main() -> None:
    """Run as a worker, with standard output kept free of whatever libraries print."""
    import pyarrow as pa

    # An interrupt reaches the main process too, which ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    outlet = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    pa.set_cpu_count(1)
    try:
        serve(sys.argv[1], sys.stdin.buffer, outlet)
    except BrokenPipeError:
        # The main process is gone; nobody waits for what is left in the buffer either.
        os._exit(1)


if __name__ == "__main__":
    main()
