"""The virtual environment that the scripts share: made once, reused while it fits.

In: extras of the package. Out: the path of a Python that has the package and those extras. The environment is
`.venv` in the repository, or the folder that INSTRUCT_FMT_VENV names. What the package and its tests need comes in the
versions of requirements.lock, checked by their hashes; INSTRUCT_FMT_VERSIONS=newest and =lowest take the ends of what
pyproject.toml allows.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
LOCK = REPOSITORY / "requirements.lock"
PROJECT = REPOSITORY / "pyproject.toml"
LOCKED = {"test"}
VERSIONS = ("locked", "newest", "lowest")
# Installed before everything else and as exactly this: a plain `torch` may bring gigabytes of GPU libraries.
TORCH = "torch==2.13.0"


def prepare(extras: list[str]) -> Path:
    """The Python of an environment with the package (editable) and the extras, made or completed at need."""
    if sys.version_info < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        sys.exit(f"Python: found {sys.version.split()[0]} ({sys.executable}); expected {wanted} or newer")
    folder = Path(os.environ.get("INSTRUCT_FMT_VENV") or REPOSITORY / ".venv").absolute()
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not _usable(python):
        _create(folder, python)
    stamp = folder / "instruct_fmt.json"
    versions = os.environ.get("INSTRUCT_FMT_VERSIONS") or VERSIONS[0]
    if versions not in VERSIONS:
        sys.exit(f"INSTRUCT_FMT_VERSIONS: found {versions!r}; expected one of {', '.join(VERSIONS)}")
    given = PROJECT.read_bytes() + (LOCK.read_bytes() if versions == "locked" else versions.encode())
    project = hashlib.sha256(given).hexdigest()
    known = json.loads(stamp.read_text("utf-8")) if stamp.is_file() else {}
    fits = known.get("project") == project and known.get("repository") == str(REPOSITORY)
    present = set(known.get("extras", ())) if fits else set()
    if not fits or not present.issuperset(extras):
        everything = sorted(present.union(extras))
        _install(python, everything, versions)
        state = {"project": project, "repository": str(REPOSITORY), "extras": everything}
        stamp.write_text(json.dumps(state) + "\n", encoding="utf-8")
    return python


def run(command: list[str | Path], **environment: str) -> int:
    """Runs a command in the repository, without standard input; returns its exit code."""
    sys.stdout.flush()
    settings = {**os.environ, **environment}
    done = subprocess.run(command, cwd=REPOSITORY, env=settings, stdin=subprocess.DEVNULL, check=False)
    return done.returncode


def _usable(python: Path) -> bool:
    if not python.exists():
        return False
    check = f"import pip, sys; sys.exit(sys.version_info < {OLDEST})"
    return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0


def _create(folder: Path, python: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        sys.exit(f"{folder}: found no virtual environment; fix: set INSTRUCT_FMT_VENV to another folder")
    print(f"making a virtual environment in {folder}")
    if (folder / "pyvenv.cfg").is_file():
        shutil.rmtree(folder)
    if run([sys.executable, "-m", "venv", folder]) or not _usable(python):
        sys.exit("venv: it failed; fix: install your system's package for it, often called python3-venv")


def _install(python: Path, extras: list[str], versions: str) -> None:
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    target = f"{REPOSITORY}[{','.join(extras)}]" if extras else str(REPOSITORY)
    print(f"installing {target} ({versions})")
    if versions == "locked" and run([*pip, "--require-hashes", "--requirement", LOCK]):
        sys.exit("pip: could not install what requirements.lock names; its messages are above")
    if "train" in extras and run([*pip, TORCH]):
        sys.exit(f"pip: could not install {TORCH}; its messages are above")
    alone = ["--no-deps", "--no-build-isolation"] if versions == "locked" and LOCKED.issuperset(extras) else []
    exactly = _lowest() if versions == "lowest" else []
    if run([*pip, *alone, *exactly, "--editable", target]):
        sys.exit("pip: could not install the package; its messages are above")


def _lowest() -> list[str]:
    """What the package itself needs, each in the lowest version that it allows."""
    needed = tomllib.loads(PROJECT.read_text("utf-8"))["project"]["dependencies"]
    return [one.replace(">=", "==").partition(",")[0] for one in needed]
