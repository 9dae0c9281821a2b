"""One measurement in a fresh process, so that no cache is warm by accident.

In: a `Job`. Out: a `Result`. The near end starts the process, watches its memory and reads what it found; the far
end (`main`) runs one of the functions of `ours` or `theirs`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent.parent
WATCH_SECONDS = 0.02
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        side: the name of a side, such as a function in `ours` or `theirs`.
        data: an Arrow stream of rows.
        tokenizer: its folder.
        template: a library name; None for the tokenizer's own.
        backend: the engine.
        batch_size: rows at a time, where the side goes by batches.
        num_proc: worker processes.
        warm: whether the same is done a second time in the same process.
        kept: whether the tokenizer may be kept for the next process, and taken from there.
        options: more options of `compile`, as JSON.
    """

    side: str
    data: str
    tokenizer: str
    template: str | None = None
    backend: str = "auto"
    batch_size: int = 1000
    num_proc: int | None = None
    warm: bool = False
    kept: bool = False
    options: str = "{}"


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        setup: seconds until the tokenizer and what is made of it were ready; no imports.
        first: seconds of the first pass, without `setup`.
        rows: rows of the data.
        warm: seconds of a second pass in the same process.
        cpu: processor seconds of the first pass, all threads of this process: steadier than `first` on a busy machine.
        tokens: tokens that came out.
        peak: the most anonymous memory of the process and those that it started, in bytes; 0 where unknown.
        facts: what else there is to say.
        sample: row number → ids and labels, to compare.
    """

    setup: float
    first: float
    rows: int
    warm: float | None = None
    cpu: float = 0.0
    tokens: int = 0
    peak: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    sample: dict[str, Any] = field(default_factory=dict)


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, processor seconds and result of some work."""
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - start, time.process_time() - cpu, result


def measure(job: Job, folder: Path) -> Result:
    """Run a job in a fresh process, in a folder of its own below `folder` that is removed afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        own = Path(name)
        data = own / "rows.arrow"  # its own name: what `datasets` caches lies beside the data
        try:
            os.link(job.data, data)
        except OSError:
            shutil.copyfile(job.data, data)
        asked = json.dumps(asdict(replace(job, data=str(data))))
        cache = str(folder / "tokenizers") if job.kept else "off"
        peak = run([sys.executable, "-m", "benchlib.child", asked], own, INSTRUCT_FMT_CACHE=cache)
        found = Result(**json.loads((own / "result.json").read_text(encoding="utf-8")))
        return replace(found, peak=peak)


def run(command: list[str], folder: Path, **variables: str) -> int:
    """Run a Python process in a folder, with these variables; returns its peak of anonymous memory in bytes.

    Raises:
        RuntimeError: it failed; with the end of what it wrote.
    """
    path = os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent)])
    environment = {**os.environ, **QUIET, "PYTHONPATH": path, "HF_HOME": str(folder / "cache"), **variables}
    # Byte code is kept between runs, as it is on a user's machine, whatever this machine's settings.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(folder.parent / "bytecode")
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        peak = 0
        try:
            while process.poll() is None:
                peak = max(peak, anonymous(process.pid))
                time.sleep(WATCH_SECONDS)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise RuntimeError(f"{command[-1]}: code {process.returncode}\n" + log.read_text("utf-8", "replace")[-3000:])
    return peak


def anonymous(process: int) -> int:
    """Anonymous memory of a process and all that it started, in bytes; 0 where the system does not tell."""
    total = 0
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("RssAnon:"):
                total = int(line.split()[1]) * 1024
        for task in Path(f"/proc/{process}/task").iterdir():
            children = (task / "children").read_text(encoding="utf-8").split()
            total += sum(anonymous(int(child)) for child in children)
    return total


def main() -> None:
    """The far end: run the job that the command line holds, write its result."""
    from benchlib import ours, packs, pairs, theirs

    sides: dict[str, Callable[[Job], Result]] = {**ours.SIDES, **theirs.SIDES, **packs.SIDES, **pairs.SIDES}
    job = Job(**json.loads(sys.argv[1]))
    Path("result.json").write_text(json.dumps(asdict(sides[job.side](job))), encoding="utf-8")


if __name__ == "__main__":
    main()
