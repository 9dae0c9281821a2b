"""Whole datasets: the same rows whatever the workers, one result or none, and a cache that knows what changed."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from fake_encoder import FakeEncoder, FakeSettings

from instruct_fmt.errors import (
    DataError,
    InstructFmtError,
    NothingToLearn,
    Rejection,
    TooManyRejected,
    UsageError,
)
from instruct_fmt.look.report import Report
from instruct_fmt.run import store
from instruct_fmt.run.digest import data_hash
from instruct_fmt.run.manifest import Manifest, compare, read
from instruct_fmt.run.prepare import Prepared, Source, prepare, prepare_sources
from instruct_fmt.run.run_options import RunOptions

FMT = FakeEncoder()
MISS = "miss: nothing prepared from this before"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def data(*texts: str) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": list(texts), "number": list(range(len(texts)))})


def many(rows: int = 60) -> datasets.Dataset:
    return data(*("bad" if i % 9 == 0 else "twice" if i % 7 == 0 else f"row {i}" for i in range(rows)))


def run(dataset: Any, fmt: FakeEncoder = FMT, **options: Any) -> Prepared:
    return prepare(fmt, dataset, **{"progress": False, **options})


def changed(**settings: Any) -> FakeEncoder:
    return FakeEncoder(FakeSettings(**settings))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_result(tmp_path: Path) -> None:
    found = run(data("ab", "bad", "twice", "long"), output_dir=tmp_path / "out", keep_columns=["number"])
    assert found.dataset.features == datasets.Features(
        {
            "number": datasets.Value("int64"),
            "input_ids": datasets.List(datasets.Value("int32")),
            "labels": datasets.List(datasets.Value("int32")),
        }
    )
    twice = list(b"twice")
    assert found.dataset[:] == {
        "number": [0, 2, 2],
        "input_ids": [[97, 98], twice, twice],
        "labels": [[97, 98], twice, twice],
    }
    assert [(rejection.row, rejection.reason) for rejection in found.rejected] == [
        (1, "bad-text"),
        (3, "over-length"),
    ]
    ledger = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert ledger == [rejection.to_dict() for rejection in found.rejected]
    assert datasets.load_from_disk(str(tmp_path / "out"))[:] == found.dataset[:]


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 7}, {"num_proc": 2, "batch_size": 4}])
def test_rows_do_not_depend_on_workers(tmp_path: Path, options: dict[str, Any]) -> None:
    one = run(many())
    other = run(many(), output_dir=tmp_path / "out", **options)
    assert other.dataset[:] == one.dataset[:]
    assert other.rejected == one.rejected
    assert other.report.to_dict() | {"cache": "", "output": ""} == one.report.to_dict() | {
        "cache": "",
        "output": "",
    }


def test_parquet(tmp_path: Path) -> None:
    found = run(many(), output_dir=tmp_path / "out", output_format="parquet")
    assert found.dataset[:] == run(many()).dataset[:]
    again = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "hub"))
    assert again[:] == found.dataset[:]


def test_columns_of_json_are_kept() -> None:
    features = datasets.Features({"text": datasets.Value("string"), "about": datasets.Json()})
    rows = datasets.Dataset.from_dict({"text": ["a", "bad", "c"], "about": [1, 2, {"x": None}]}, features=features)
    assert run(rows, keep_columns=["about"]).dataset[:]["about"] == [1, {"x": None}]


def test_inputs() -> None:
    table = pa.table({"text": ["ab", "c", "d"]})
    assert len(run(table).dataset) == 3
    selected = datasets.Dataset(table).select([2, 0]).with_format("numpy")
    assert run(selected).dataset[:]["input_ids"] == [[100], [97, 98]]
    for wrong, fix in [
        (datasets.DatasetDict(a=data("x")), "each split"),
        (data("x").to_iterable_dataset(), "dataset.map"),
        (["x"], "datasets.Dataset"),
    ]:
        with pytest.raises(UsageError, match=f"found {type(wrong).__name__}; expected .*; fix: .*{fix}"):
            run(wrong)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"num_proc": 0}, "num_proc: found 0"),
        ({"batch_size": -1}, "batch_size: found -1"),
        ({"output_format": "csv"}, "output_format: found 'csv'"),
        ({"keep_columns": ["other"]}, "keep_columns: found \\['other'\\]"),
        ({"keep_columns": ["labels"]}, "keep_columns: found \\['labels'\\]"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], part: str) -> None:
    with pytest.raises(UsageError, match=rf"^{part}.*; expected .*; fix: "):
        run(data("x").add_column("labels", [1]), **options)


def test_results_that_are_none() -> None:
    with pytest.raises(DataError, match="found 0 rows; expected at least one; fix: "):
        run(data())
    with pytest.raises(NothingToLearn, match=r"found no token to train in 1 rows .*expected .*fix: "):
        run(data("x"), changed(trained=False))
    with pytest.raises(NothingToLearn, match="over-length: 2 rows, such as row 0"):
        run(data("long", "long"))
    with pytest.raises(TooManyRejected) as error:
        run(data("x", "bad", "bad", "long"), changed(max_rejected=0.49))
    headline, *reasons = str(error.value).splitlines()
    for part in ("found 2 of 4 rows rejected (50.0%); ", "expected at most max_rejected=0.49; ", "fix: "):
        assert part in headline
    assert [line.split(": found")[0] for line in reasons] == [
        "  bad-text: 2 rows, such as row 1, $.text: bad-text",
        "  over-length: 1 rows, such as row 3, $.text: over-length",
    ]


def test_over_length_does_not_enter_max_rejected() -> None:
    assert run(data("x", "long", "long"), changed(max_rejected=0.0)).report.over_length == 2


@pytest.mark.parametrize(("text", "options"), [("usage", {}), ("bad", {}), ("usage", {"num_proc": 2, "batch_size": 1})])
def test_an_error_leaves_the_earlier_output(tmp_path: Path, text: str, options: dict[str, Any]) -> None:
    target = tmp_path / "out"
    run(data("x", "y"), output_dir=target)
    before = contents(target)
    with pytest.raises(InstructFmtError):
        run(data("x", text), changed(max_rejected=0.0), output_dir=target, **options)
    assert contents(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert run(data("x", "y"), output_dir=target).report.cache == "cache hit"


def test_cache_knows_what_changed() -> None:
    assert run(many()).report.cache == MISS
    hit = run(many())
    assert hit.report.cache == "cache hit"
    assert hit.rejected
    assert hit.report.counts == run(many(), changed(template="2")).report.counts
    assert run(many(), changed(template="3")).report.cache == "miss: template changed"
    assert run(many(), changed(tokenizer="2")).report.cache == "miss: tokenizer changed"
    assert run(many(), changed(options="2")).report.cache == "miss: options changed"
    assert run(many(61)).report.cache == "miss: data changed"
    assert run(many(), keep_columns=["number"]).report.cache == "miss: output changed"
    assert run(many()).report.cache == "cache hit"


def test_output_folder_knows_what_changed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(many(), output_dir=out).report.cache == "miss: nothing prepared here before"
    assert run(many(), output_dir=out, batch_size=3).report.cache == "cache hit"
    found = run(many(61), changed(template="2", options="3"), output_dir=out)
    assert found.report.cache == "miss: template, options, data changed"
    assert len(found.dataset) > 0
    next(out.glob("*.arrow")).write_bytes(b"cut")
    again = run(many(61), changed(template="2", options="3"), output_dir=out)
    assert again.report.cache == "miss: data-00000-of-00001.arrow is not what was written"


def test_what_changed_in_a_template_is_shown(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(many(), changed(template="one\ntwo\nthree"), output_dir=out)
    found = run(many(), changed(template="one\n2\nthree"), output_dir=out).report
    assert found.changes == ("-two", "+2")
    assert "the template has changed:\n    -two\n    +2\n" in str(found)
    assert run(many(), changed(template="one\n2\nthree"), output_dir=out).report.changes == ()
    long = changed(template="\n".join(map(str, range(99))))
    assert run(many(), long, output_dir=out).report.changes[-1] == "… 76 lines more"


def test_asked_to_prepare_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [Source("rows", FMT, many())]
    options = RunOptions(tmp_path / "out", progress=False)
    prepare_sources(sources, options)
    forced = prepare_sources(sources, dataclasses.replace(options, reuse=False))
    assert forced.report.cache == "miss: made again as asked"
    monkeypatch.setattr(datasets, "is_caching_enabled", lambda: False)
    assert prepare_sources(sources, options).report.cache == "miss: made again as asked"


SECOND_PROCESS = """
import sys, datasets
from pathlib import Path
datasets.config.HF_DATASETS_CACHE = Path(sys.argv[1])
from fake_encoder import FakeEncoder, FakeSettings
from instruct_fmt.run.prepare import prepare
rows = datasets.Dataset.from_list([{"text": f"row {i}"} for i in range(1500)])
for template in "12":
    print(prepare(FakeEncoder(FakeSettings(template=template)), rows, progress=False).report.cache)
"""


def test_cache_over_processes(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(1500)]})
    assert run(rows).report.cache == MISS
    command = [sys.executable, "-c", SECOND_PROCESS, str(tmp_path / "cache")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.check_output(command, text=True, env=environment)
    assert said.splitlines() == ["cache hit", "miss: template changed"]


def test_data_hash_sees_content_only(tmp_path: Path) -> None:
    rows = [{"text": "ab" * (i % 5), "flag": None if i % 3 else True} for i in range(2100)]
    whole = datasets.Dataset.from_list(rows)
    pieces = datasets.concatenate_datasets([whole.select(range(7)), whole.select(range(7, 2100))])
    shuffled = whole.select(list(reversed(range(2100)))).select(list(reversed(range(2100))))
    whole.save_to_disk(str(tmp_path / "saved"))
    loaded = datasets.load_from_disk(str(tmp_path / "saved"))
    assert {data_hash(found) for found in (whole, pieces, shuffled, loaded)} == {data_hash(whole)}
    assert data_hash(whole) != data_hash(shuffled.select(range(2099)))
    assert data_hash(whole) != data_hash(whole.rename_column("flag", "mark"))
    assert data_hash(whole) != data_hash(pieces.select([1, 0, *range(2, 2100)]))


def test_compare_names_each_part() -> None:
    old = Manifest({"template": "1", "tokenizer": "1", "version": "1"})
    assert compare(old, old) == "cache hit"
    assert compare(old, Manifest({"template": "1", "tokenizer": "2", "version": "2"})) == (
        "miss: tokenizer, version changed"
    )


def test_several_datasets_in_one_result(tmp_path: Path) -> None:
    sources = [Source("first", FMT, data("a", "bad")), Source("second", changed(options="2"), data("b", "c"))]
    found = prepare_sources(sources, RunOptions(tmp_path / "out", progress=False))
    assert found.dataset[:]["input_ids"] == [[97], [98], [99]]
    assert json.loads((tmp_path / "out" / "rejected.jsonl").read_text())["dataset"] == "first"
    assert (found.report.name, found.report.rows) == ("first, second", 4)
    assert prepare_sources(sources, RunOptions(tmp_path / "out", progress=False)).report.cache == "cache hit"
    swapped = prepare_sources(sources[::-1], RunOptions(tmp_path / "out", progress=False))
    assert swapped.report.cache == "miss: options, data changed"
    kept = RunOptions(keep_columns=("number",), progress=False)
    other = Source("other", FMT, data("x").cast_column("number", datasets.Value("string")))
    with pytest.raises(UsageError, match="keep_columns: found different types"):
        prepare_sources([sources[0], other], kept)


def test_another_process_was_first(tmp_path: Path) -> None:
    """Two processes make the same result: the one that is there, perhaps in use already, stays."""
    target = tmp_path / "out"
    run(data("x"), output_dir=target)
    new = read(target)
    assert new is not None
    inode = target.stat().st_ino
    with store.staged(target, new, reuse=True) as staging:
        (staging.result / "manifest.json").write_text("{}")
    assert target.stat().st_ino == inode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_report() -> None:
    counts = Counter(
        {
            "rows": 10, "emitted": 6, "tokens": 600, "trained_tokens": 150, "turns": 9, "trained_turns": 7,
            "rejected:bad-text": 2, "rejected:media": 1, "rejected:over-length": 1, "turns_skipped:history": 2,
            "turns_without_stop": 1, "eos_appended": 3, "neutralised": 1, "as_rendered": 1, "expanded": 4,
            "path:jinja": 2, "path:plan": 4, "backend:tokenizers": 6,
        }
    )  # fmt: skip
    rejections = [Rejection(i, "bad-text", "$.text", "'x'", "a text", "write it") for i in range(5)]
    report = Report.of("demo", counts, rejections)
    assert report.rejected == {"bad-text": 2, "media": 1}
    assert (report.over_length, report.trained_share) == (1, 0.25)
    assert len(report.examples["bad-text"]) == 3
    text = str(report)
    for part in [
        "demo: 10 rows in, 6 emitted, 3 rejected, 1 over max_length",
        "600, 150 trained (25.0%)",
        "7 of 9 assistant turns trained",
        'history="expand" would train 2 of them in as many rows, up to about 200 tokens',
        "1 turns end in no stop",
        "3 rows had an EOS appended",
        "jinja: 2 rows, plan: 4 rows",
        "tokenizers: 6 rows",
        "row 2, $.text: bad-text: found 'x'; expected a text; fix: write it",
    ]:
        assert part in text
    assert json.loads(json.dumps(report.to_dict()))["rejected"] == report.rejected


def test_report_for_the_terminal_says_the_same() -> None:
    from rich.console import Console

    report = Report.of("demo", {"rows": 1, "rejected:bad-text": 1}, [Rejection(0, "bad-text", "$", "[/b]", "", "")])
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report.rich())
    for word in str(report).split():
        assert word in capture.get()


def test_the_summary_tells_what_lengths_would_keep(tmp_path: Path) -> None:
    import instruct_fmt as ifmt

    prepared = ifmt.compile(None, "embedded", max_length=256).prepare(
        ifmt.open_dataset("embedded"), progress=False, output_dir=tmp_path / "out"
    )
    sizes = [len(ids) for ids in prepared.dataset["input_ids"]]
    total = len(sizes) + prepared.report.over_length
    share = sum(size <= 128 for size in sizes) / total
    assert f"128: {share:.1%}, 256: {len(sizes) / total:.1%}" in str(prepared.report)
