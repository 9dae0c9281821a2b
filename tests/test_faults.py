"""Machines die, disks fill, users press Ctrl-C: nothing of anybody's is lost, and nothing hangs.

The folder of a result: whose it is, whether it holds, and how it gets its name.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from fake_encoder import FakeEncoder
from filelock import FileLock
from test_prepare import contents, data, run

from instruct_fmt.common.interrupts import interrupts_later
from instruct_fmt.errors import DataError, InstructFmtError, UsageError
from instruct_fmt.run import contents as contents_of_folder
from instruct_fmt.run import store
from instruct_fmt.run.ending import ended_by_exception
from instruct_fmt.run.exchange import exchange
from instruct_fmt.run.manifest import FILE_NAME, read
from instruct_fmt.run.prepare import Source, prepare_sources
from instruct_fmt.run.read import unchanged
from instruct_fmt.run.run_options import RunOptions

# More parts than workers: two of one row each at a time.
MANY: dict[str, Any] = {"num_proc": 2, "batch_size": 1}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of an earlier result."""
    run(data("x"), output_dir=tmp_path / "out")
    return tmp_path / "out"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Whose folder it is


@pytest.mark.parametrize(
    "manifest",
    [
        "{}",
        "[]",
        "null",
        "",
        "{" * 5000,
        '{"parts": 5}',
        '{"parts": {"a": 1}}',
        '{"parts": {}, "files": {"thesis.txt": 4}}',
        '{"parts": {}, "files": {"thesis.txt": {"size": "1", "modified": 2, "digest": "x"}}}',
        '{"parts": {}, "layout": 3}',
        '{"parts": {}, "made_by": "somebody"}',
        '{"parts": {}, "counts": {"rows": 1e400}}',
    ],
)
def test_a_manifest_of_somebody_else(tmp_path: Path, manifest: str) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / FILE_NAME).write_text(manifest)
    (folder / "thesis.txt").write_text("x")
    before = contents(folder)
    with pytest.raises(UsageError, match=r"output: found .*theirs.* in it, .*; expected .*; fix: "):
        run(data("x"), output_dir=folder)
    assert contents(folder) == before


def test_a_file_beside_a_result(out: Path) -> None:
    (out / "notes").mkdir()
    (out / "notes" / "thesis.txt").write_text("x")
    before = contents(out)
    for rows in (data("x"), data("y")):
        with pytest.raises(UsageError, match=r"with 'notes/thesis.txt' in it"):
            run(rows, output_dir=out)
    assert contents(out) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/"),
        lambda path: path.symlink_to("nowhere"),
        lambda path: os.mkfifo(path),
    ],
)
def test_whatever_lies_beside_a_result_stays(out: Path, make: Callable[[Path], None]) -> None:
    make(out / "theirs")
    with pytest.raises(UsageError, match="with 'theirs' in it"):
        run(data("y"), output_dir=out)
    assert "theirs" in names(out)


def test_a_manifest_that_lists_files_elsewhere(tmp_path: Path, out: Path) -> None:
    """What a manifest says is no path to follow: only what lies in the folder is looked at."""
    (tmp_path / "thesis.txt").write_text("x")
    said = json.loads((out / FILE_NAME).read_text())
    said["files"]["../thesis.txt"] = said["files"]["rejected.jsonl"]
    (out / FILE_NAME).write_text(json.dumps(said))
    assert run(data("x"), output_dir=out).report.cache == "miss: ../thesis.txt is missing"
    assert (tmp_path / "thesis.txt").read_text() == "x"


def test_what_datasets_caches_beside_its_files_goes_with_them(out: Path) -> None:
    found = datasets.load_from_disk(str(out))
    found.map(lambda row: {"length": len(row["input_ids"])})
    assert any(name.startswith("cache-") for name in names(out))
    assert run(data("x"), output_dir=out).report.cache == "cache hit"
    assert run(data("y"), output_dir=out).report.cache == "miss: data changed"
    assert not any(name.startswith("cache-") for name in names(out))


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert len(run(data("x"), output_dir=tmp_path / "out").dataset) == 1


@pytest.mark.parametrize("name", ["~nobody-of-that-name/x", "a\0b", "x" * 5000, "loop", "file", "."])
def test_places_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file").write_text("x")
    before = contents(tmp_path)
    with pytest.raises((UsageError, OSError), match=r"output: found .*; expected .*; fix: |File name too long"):
        run(data("x"), output_dir=name)
    assert contents(tmp_path) == before


def test_a_link_to_a_place_that_can_be_made_is_followed(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to("nowhere/at/all")
    run(data("x"), output_dir=tmp_path / "gone")
    assert (tmp_path / "nowhere" / "at" / "all" / "state.json").is_file()


def test_the_folder_that_is_read_is_not_replaced(out: Path) -> None:
    with pytest.raises(UsageError, match=r"where dataset is read from; expected a folder of its own"):
        prepare_sources(
            [Source("dataset", FakeEncoder(), datasets.load_from_disk(str(out)).add_column("text", ["y"]))],
            RunOptions(out, progress=False),
        )


# Whether it holds


@pytest.mark.parametrize("name", ["data-00000-of-00001.arrow", "state.json", "dataset_info.json", "rejected.jsonl"])
def test_a_folder_that_lacks_a_file_is_made_again(out: Path, name: str) -> None:
    (out / name).unlink()
    found = run(data("x"), output_dir=out)
    assert found.report.cache == f"miss: {name} is missing"
    assert found.dataset[0]["input_ids"] == [120]


def test_a_file_with_other_content(out: Path) -> None:
    path = out / "data-00000-of-00001.arrow"
    whole, written = path.read_bytes(), path.stat()
    os.utime(path, (1, 1))
    assert run(data("x"), output_dir=out).report.cache == "cache hit"
    path.write_bytes(bytes(len(whole)))
    found = run(data("x"), output_dir=out)
    assert found.report.cache == f"miss: {path.name} is not what was written"
    assert path.read_bytes() == whole
    path.write_bytes(bytes(len(whole)))
    said = read(out)
    assert said is not None
    os.utime(path, ns=(1, said.files[path.name].modified))
    assert path.stat().st_mtime_ns != written.st_mtime_ns
    assert run(data("x"), output_dir=out, verify=True).report.cache == f"miss: {path.name} is not what was written"
    assert run(data("x"), output_dir=out, verify=True).report.cache == "cache hit"


def test_a_file_replaced_by_a_link(tmp_path: Path, out: Path) -> None:
    path = out / "data-00000-of-00001.arrow"
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    assert run(data("x"), output_dir=out).report.cache == f"miss: {path.name} is not what was written"
    assert (tmp_path / "moved").is_file()


def test_a_ledger_that_is_none(out: Path) -> None:
    run(data("x", "y", "bad"), output_dir=out)
    path = out / "rejected.jsonl"
    written = path.stat()
    path.write_text("x" * (written.st_size - 1) + "\n")
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    with pytest.raises(DataError, match=r"rejected.jsonl, line 1: found no rejected row; expected .*; fix: "):
        run(data("x", "y", "bad"), output_dir=out)


def test_a_damaged_result_in_the_cache_is_named() -> None:
    first = run(data("x"))
    (Path(first.report.output) / "state.json").write_text("")
    assert run(data("x")).report.cache == "miss: state.json is not what was written"
    (Path(first.report.output) / "thesis.txt").write_text("x")
    assert run(data("x")).report.cache == "cache hit"
    with pytest.raises(UsageError, match=r"with 'thesis.txt' in it"):
        prepare_sources([Source("dataset", FakeEncoder(), data("x"))], RunOptions(progress=False, reuse=False))


def test_data_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data("x", "y").save_to_disk(str(tmp_path / "saved"))
    rows = datasets.load_from_disk(str(tmp_path / "saved"))
    file = Path(rows.cache_files[0]["filename"])
    encode = FakeEncoder.encode_batch

    def meanwhile(self: FakeEncoder, *arguments: Any) -> Any:
        os.utime(file)
        return encode(self, *arguments)

    monkeypatch.setattr(FakeEncoder, "encode_batch", meanwhile)
    with pytest.raises(DataError, match=rf"{file.name}: found a file that was changed while it was read"):
        run(rows, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert unchanged.identity(file) != (0, 0, 0, 0)


# How it gets its name


def test_two_folders_change_names(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchange(tmp_path / "one", tmp_path / "two"):
        pytest.skip("this file system cannot exchange two names")
    assert names(tmp_path / "one") == ["two"]
    assert names(tmp_path / "two") == ["one"]
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "one", tmp_path / "none")


@pytest.fixture(params=[True, False], ids=["in one step", "in two steps"])
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(store, "exchange", lambda one, other: False)
    return bool(request.param)


@pytest.mark.usefixtures("steps")
def test_a_new_result_takes_the_place(tmp_path: Path, out: Path) -> None:
    run(data("y"), output_dir=out)
    assert datasets.load_from_disk(str(out))[0]["input_ids"] == [121]
    assert names(tmp_path) == ["out"]


@pytest.mark.usefixtures("steps")
def test_a_file_that_is_put_there_in_the_meantime(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = contents_of_folder.foreign
    looks = []

    def late(folder: Path) -> str | None:
        looks.append(folder)
        if len(looks) == 3:  # after both checks before the work, and just before the third behind it
            (folder / "thesis.txt").write_text("x")
        return described(folder)

    monkeypatch.setattr(store, "foreign", late)
    with pytest.raises(UsageError, match=r"found 'thesis.txt' in .*, put there in the meantime"):
        run(data("y"), output_dir=out)
    assert datasets.load_from_disk(str(out))[0]["input_ids"] == [120]
    assert (out / "thesis.txt").read_text() == "x"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("host", [store._HOST, "another"])
def test_what_a_killed_process_left(tmp_path: Path, out: Path, host: str) -> None:
    left = tmp_path / f".out.tmp-{host}-{os.getpid()}-0badcafe"
    (left / "result").mkdir(parents=True)
    (left / "lock").touch()
    out.rename(left / "earlier")
    alive = tmp_path / f".out.tmp-{host}-1-0badcafe"
    alive.mkdir()
    being_made = tmp_path / ".out.tmp-unlocked-1-0badcafe"
    being_made.mkdir()
    with FileLock(alive / "lock"):
        assert run(data("x"), output_dir=out).report.cache == "cache hit"
        assert names(tmp_path) == sorted([alive.name, being_made.name, "out"])
    os.utime(being_made, (1, 1))
    run(data("x"), output_dir=out)
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["mine", "vm-12-0badcafe"])
def test_somebodys_folder_of_such_a_name_stays(tmp_path: Path, out: Path, name: str) -> None:
    somebodys = tmp_path / f".out.tmp-{name}"
    somebodys.mkdir()
    for file in ("lock", "thesis.txt"):
        (somebodys / file).touch()
    os.utime(somebodys, (1, 1))
    run(data("x"), output_dir=out)
    assert names(somebodys) == ["lock", "thesis.txt"]


def test_a_result_that_another_run_puts_there_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, places = store.load, iter(["y"])

    def late(folder: Path, output_format: Any) -> datasets.Dataset:
        for text in places:
            run(data(text), output_dir=folder)
        return opened(folder, output_format)

    monkeypatch.setattr(store, "load", late)
    with pytest.raises(DataError, match=r"found the result of another run in .*; expected .*; fix: name another"):
        run(data("x"), output_dir=tmp_path / "out")


def test_a_staging_folder_that_is_swept_before_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process takes a folder whose lock is free for a dead one's."""
    acquire, first = FileLock.acquire, iter([True])

    def swept(lock: FileLock, *arguments: Any, **options: Any) -> Any:
        if next(first, False):
            shutil.rmtree(Path(lock.lock_file).parent)
        return acquire(lock, *arguments, **options)

    monkeypatch.setattr(FileLock, "acquire", swept)
    assert run(data("x"), output_dir=tmp_path / "out").dataset[0]["input_ids"] == [120]
    assert names(tmp_path) == ["out"]


# Workers


@pytest.mark.parametrize("text", ["usage", "bug"])
def test_an_error_ends_a_run_of_many_parts(tmp_path: Path, text: str) -> None:
    kind = UsageError if text == "usage" else LookupError
    with pytest.raises(kind):
        run(data(text, *["x"] * 20, "wait", *["y"] * 20), output_dir=tmp_path / "out", **MANY)
    assert names(tmp_path) == []


def test_a_worker_that_dies_once(tmp_path: Path) -> None:
    rows = data("a", "bad", f"die once {tmp_path / 'mark'}", "b", *["c"] * 20)
    found = run(rows, output_dir=tmp_path / "out", num_proc=2, batch_size=12)
    assert [rejection.row for rejection in found.rejected] == [1]
    assert found.dataset[:] == run(rows, output_dir=tmp_path / "alone").dataset[:]


def test_a_worker_that_dies_again(tmp_path: Path) -> None:
    wanted = r"rows 0 to 3: found a worker process that ended with code 3, .*; expected .*; fix: "
    with pytest.raises(InstructFmtError, match=wanted):
        run(data("x", "y", "die", *["z"] * 20), output_dir=tmp_path / "out", **MANY)
    assert names(tmp_path) == []


# Where the tests run in the background, these two may be ignored.
SIGNALLED = """
import signal
import sys
from pathlib import Path
from test_prepare import data, run
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
run(data("x", *["wait"] * 9), output_dir=sys.argv[1], num_proc=int(sys.argv[2]), batch_size=1)
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_run_that_is_told_to_end(tmp_path: Path, number: signal.Signals, workers: int) -> None:
    """While rows are encoded: the process ends, and so do its workers, which share its standard error."""
    command = [sys.executable, "-c", SIGNALLED, str(tmp_path / "out"), str(workers)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 60
    while not any(tmp_path.glob(".out.tmp-*/work/part-00000.jsonl")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert bool(names(tmp_path)) == (number == signal.SIGKILL)
    run(data("x"), output_dir=tmp_path / "out")
    assert names(tmp_path) == ["out"]


def test_signals_that_the_program_handles_stay_its_own() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with ended_by_exception():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_modules_in_the_current_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("pickle", "json", "pyarrow", "datasets", "instruct_fmt"):
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(here))
    assert len(run(data("x", "y"), output_dir=tmp_path / "out", **MANY).dataset) == 2
    assert not (tmp_path / "imported").exists()


def test_errors_travel() -> None:
    error = UsageError("x")
    assert str(pickle.loads(pickle.dumps(error))) == "x"


def test_a_signal_waits_until_a_library_is_left() -> None:
    came: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append("signal"))
    try:
        with interrupts_later():
            signal.raise_signal(signal.SIGTERM)
            came.append("block")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == ["block", "signal"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups of this kind")
def test_workers_are_apart_from_the_terminal(tmp_path: Path) -> None:
    """Ctrl-C goes to all processes of a group; the workers are ended by the run, without a word of their own."""
    command = [sys.executable, "-c", SIGNALLED, str(tmp_path / "out"), "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not any(tmp_path.glob(".out.tmp-*/work/job.pickle")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=20)[1].decode()
    assert told.count("Traceback") == 1, told  # the program's own
