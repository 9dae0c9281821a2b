"""Judges hostile cases in a process of its own, which has few rights where it was started by the superuser.

In: groups, names and a sample (`python hostile_run.py --help`). Out: a line of JSON for each verdict, in a file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hostile_case import Case, Verdict

TESTS = Path(__file__).resolve().parent
GUILTY = "guilty"
_GUARD = "setpriv"
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "COLUMNS": "200",
}


def verdicts(groups: Sequence[str], name: str = "*", every: int = 1, first: int = 0) -> Iterator[Verdict]:
    """Judge cases in a fresh process; their verdicts as they come."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as place:
        Path(place).chmod(0o777)
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTEST")},
            **_QUIET,
            "HF_HOME": f"{place}/hub",
            "TMPDIR": place,
            "INSTRUCT_FMT_CACHE": f"{place}/cache",
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        }
        command = [*_guard(), sys.executable, str(TESTS / "hostile_run.py"), place, *groups]
        command += ["--name", name, "--every", str(every), "--first", str(first)]
        pipes: Any = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
        with subprocess.Popen(command, env=environment, **pipes) as process:
            yield from (Verdict(**json.loads(line)) for line in process.stdout or ())
        if process.returncode:
            raise RuntimeError(f"the judge ended with {process.returncode}")


def _guard() -> list[str]:
    """Of the superuser's rights only that of reading is kept: what reaches out of its folder must not succeed."""
    if os.getuid() or not shutil.which(_GUARD):
        return []
    kept = "-all,+dac_read_search"
    rights = [f"--{name}={kept}" for name in ("inh-caps", "ambient-caps", "bounding-set")]
    return [_GUARD, "--reuid", "65534", "--regid", "65534", "--clear-groups", *rights]


def _asked(groups: Sequence[str]) -> list[Case]:
    """The cases of groups; `guilty` are those with which the judge is judged."""
    import hostile_cases
    import hostile_guilty

    if groups == [GUILTY]:
        return [case for case, _ in hostile_guilty.GUILTY.values()]
    return list(hostile_cases.cases(groups))


def main() -> None:
    import hostile_judge

    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("groups", nargs="+")
    parser.add_argument("--name", default="*")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    asked = _asked(args.groups)[args.first :: args.every]
    chosen = [case for case in asked if fnmatch(case.name, args.name) and (os.getuid() or not case.dangerous)]
    for verdict in hostile_judge.judge_all(chosen, args.place):
        print(json.dumps(asdict(verdict)), flush=True)


if __name__ == "__main__":
    main()
