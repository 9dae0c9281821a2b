"""What is published: a wheel and a source archive, built, and used where no repository is; and a lock that fits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = ["py.typed", "template/library/alpaca.jinja", "embedded/chat.jsonl", "embedded/tokenizer/tokenizer.json"]
PROGRAM = """
import sys, instruct_fmt as ifmt
assert ifmt.__file__.startswith(sys.argv[1]), ifmt.__file__
print(ifmt.compile("alpaca", "embedded").encode({"instruction": "Say hello.", "input": "", "output": "Hello!"}))
"""


def _call(*arguments: str | Path, cwd: Path, path: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else dict(os.environ)
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel that was built of it."""
    if tuple(map(int, version("setuptools").split(".")[:1])) < (77,):
        pytest.skip("needs setuptools 77 or newer to build")
    folder = tmp_path_factory.mktemp("built")
    code = f"import setuptools.build_meta as b; b.build_sdist({str(folder)!r})"
    _call("-W", "ignore", "-c", code, cwd=_copy(tmp_path_factory.mktemp("copy")))
    archive = next(folder.glob("*.tar.gz"))
    pip = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir"]
    _call(*pip, folder, archive, cwd=folder)
    return folder


def _copy(folder: Path) -> Path:
    """The files of the repository, so that building leaves nothing in it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((REPOSITORY / name).read_bytes())
    return folder


def test_what_is_in_the_archives(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    assert all(f"instruct_fmt/{name}" in names for name in NEEDED)
    assert any(name.endswith("LICENSE") for name in names)
    assert not any(name.startswith(("tests", "scripts")) for name in names)
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        assert any(name.endswith("/LICENSE") for name in archive.getnames())


def test_the_wheel_works_where_no_repository_is(built: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    pip = ["-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(target)]
    _call(*pip, next(built.glob("*.whl")), cwd=tmp_path)
    assert "input_ids" in _call("-P", "-c", PROGRAM, str(target), cwd=tmp_path, path=target)
    command = ["-P", "-m", "instruct_fmt.cli"]
    assert "alpaca" in _call(*command, "templates", "list", cwd=tmp_path, path=target)
    assert "trained" in _call(*command, "prepare", "embedded", "-o", "out", cwd=tmp_path, path=target)
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_the_lock_is_of_this_project() -> None:
    """Each direct dependency is pinned at or above its bound, with hashes; `scripts/lock` writes it."""
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE))
    direct = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    for requirement in direct:
        found = re.match(r"([a-z0-9-]+)>=([0-9.]+)", requirement)
        assert found is not None, requirement
        name, bound = found.groups()
        assert _numbers(pins[name]) >= _numbers(bound), requirement
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)]
