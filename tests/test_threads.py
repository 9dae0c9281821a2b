"""One formatter in many threads, in forks, in other Pythons: the same ids everywhere, on every engine; nobody waits."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest

import instruct_fmt as ifmt
from instruct_fmt.common import engines, forks
from instruct_fmt.common.forks import Undivided

ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed"))
    for name in engines.ENGINES
] + ["tokenizers"]
ROWS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "Say " + "word " * (n % 40)}, {"role": "assistant", "content": f"{n}!"}]}
    for n in range(120)
]
TABLE = pa.Table.from_pylist(ROWS)


@pytest.fixture(scope="module", params=ENGINES)
def fmt(request: pytest.FixtureRequest) -> ifmt.Formatter:
    return ifmt.compile("chatml", "embedded", backend=request.param)


@pytest.fixture(scope="module")
def wanted(fmt: ifmt.Formatter) -> list[dict[str, Any]]:
    return listed(fmt.encode_table(TABLE))


def listed(table: pa.Table) -> list[dict[str, Any]]:
    return [dict(row) for row in table.to_pylist()]


def by_row(fmt: ifmt.Formatter) -> list[dict[str, Any]]:
    return [{name: list(value) for name, value in fmt.encode(row).items()} for row in ROWS]


def by_table(fmt: ifmt.Formatter) -> list[dict[str, Any]]:
    return listed(fmt.encode_table(TABLE))


def by_map(fmt: ifmt.Formatter) -> list[dict[str, Any]]:
    rows = datasets.Dataset(TABLE)
    return list(rows.map(fmt, batched=True, batch_size=31, remove_columns=["messages"], load_from_cache_file=False))


WAYS: list[Callable[[ifmt.Formatter], list[dict[str, Any]]]] = [by_row, by_table, by_map]


def test_eight_threads(fmt: ifmt.Formatter, wanted: list[dict[str, Any]]) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = [threads.submit(WAYS[number % len(WAYS)], fmt) for number in range(24)]
    assert all(future.result() == wanted for future in found)


def test_a_few_long_rows(fmt: ifmt.Formatter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one or two rows go through an engine at the same time."""
    long = [{"messages": [{"role": "user", "content": "word " * 200_000}, ROWS[n]["messages"][1]]} for n in range(5)]
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    found = listed(fmt.encode_table(pa.Table.from_pylist(long)))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert found == [{name: list(value) for name, value in fmt.encode(row).items()} for row in long]


@contextmanager
def busy(fmt: ifmt.Formatter) -> Iterator[None]:
    """Four threads encode all the time."""
    over = threading.Event()

    def work(way: Callable[[ifmt.Formatter], object]) -> None:
        while not over.is_set():
            way(fmt)

    with ThreadPoolExecutor(4) as threads:
        found = [threads.submit(work, way) for way in (by_row, by_table) * 2]
        try:
            yield
        finally:
            over.set()
    for future in found:
        future.result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forks_while_threads_encode(fmt: ifmt.Formatter, wanted: list[dict[str, Any]]) -> None:
    with busy(fmt):
        for _ in range(12):
            child = os.fork()
            if not child:
                signal.alarm(60)  # a copy that waits for ever is ended, and seen
                same = by_row(fmt) == wanted and by_table(fmt) == wanted
                os._exit(0 if same else 1)
            assert os.waitpid(child, 0)[1] == 0


def test_map_in_processes_while_threads_encode(fmt: ifmt.Formatter, wanted: list[dict[str, Any]]) -> None:
    rows = datasets.Dataset(TABLE)
    with busy(fmt):
        found = rows.map(fmt, batched=True, num_proc=2, remove_columns=["messages"], load_from_cache_file=False)
    assert list(found) == wanted


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_of_other_kinds(fmt: ifmt.Formatter, wanted: list[dict[str, Any]], method: str) -> None:
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(by_table, (fmt,)) == wanted


SECOND_PYTHON = """
import pickle, sys
from pathlib import Path
fmt, table = pickle.loads(Path(sys.argv[1]).read_bytes())
Path(sys.argv[2]).write_bytes(pickle.dumps([dict(row) for row in fmt.encode_table(table).to_pylist()]))
"""


def test_another_python(fmt: ifmt.Formatter, wanted: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(pickle.dumps((fmt, TABLE)))
    command = [sys.executable, "-c", SECOND_PYTHON, str(tmp_path / "in"), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder)}
    subprocess.run(command, check=True, env=environment)
    assert pickle.loads((tmp_path / "out").read_bytes()) == wanted


@pytest.mark.trainers
def test_data_loader_workers(fmt: ifmt.Formatter, wanted: list[dict[str, Any]]) -> None:
    from torch.utils.data import DataLoader

    def encoded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: list(value) for name, value in fmt.encode(row).items()} for row in rows]

    loader: Any = DataLoader(ROWS, batch_size=16, num_workers=2, collate_fn=encoded)
    with busy(fmt):
        found = [row for batch in loader for row in batch]
    assert found == wanted


def test_a_fork_waits_for_a_marked_call() -> None:
    marked = Undivided()
    seen: list[str] = []
    entered = threading.Event()

    def call() -> None:
        with marked, marked:
            entered.set()
            time.sleep(0.2)
            seen.append("left")

    thread = threading.Thread(target=call)
    thread.start()
    entered.wait()
    marked.before_fork()
    seen.append("fork")
    late = threading.Thread(target=call)
    late.start()
    time.sleep(0.1)
    assert seen == ["left", "fork"]
    marked.after_fork()
    thread.join()
    late.join()
    assert seen == ["left", "fork", "left"]


def test_a_fork_in_a_marked_call_goes_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "LONGEST_WAIT_SECONDS", 0.01)
    marked = Undivided()
    with marked:
        marked.before_fork()
        marked.after_fork_in_child()
        with marked:
            pass
    seen = []
    marked.before_fork()
    marked.after_fork()
    with marked:
        seen.append("again")
    assert seen == ["again"]
