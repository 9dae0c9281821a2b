"""Data files that are broken, or made to break their reader: one error that names them, at once, and no memory lost."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.errors import DataError, InstructFmtError, UsageError
from instruct_fmt.run.read import folder_io
from instruct_fmt.run.read.dataset import open_dataset

# Processor time and memory for one file that is refused.
SECONDS, MEGABYTES = 2, 500


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rows_of(dataset: datasets.Dataset) -> list[dict[str, Any]]:
    return table_rows(dataset.with_format("arrow")[:])


def refused(path: Path | str, kind: type[InstructFmtError] = DataError) -> str:
    with pytest.raises(kind, match=r"(?s): found .*; expected .*; fix: ") as caught:
        open_dataset(str(path))
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def put(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize("packing", PACKERS)
def test_packed_files_that_are_cut_or_go_on(tmp_path: Path, packing: str) -> None:
    whole = PACKERS[packing](b'{"a": "x"}\n' * 2000)
    for content in (whole[:-3], whole[: len(whole) // 2], whole[:3], whole + b"garbage", whole + whole[:20]):
        assert "cannot be unpacked" in refused(put(tmp_path, f"a.jsonl{packing}", content))
    assert "no rows" in refused(put(tmp_path, f"a.jsonl{packing}", PACKERS[packing](b"")))
    assert len(open_dataset(str(put(tmp_path, f"a.jsonl{packing}", whole + whole)))) == 4000


def repeated(block: bytes, times: int, before: bytes = b"") -> bytes:
    """What gzip makes of a block, many times."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(before) + b"".join(packer.compress(block) for _ in range(times)) + packer.flush()


MEGABYTE = 1 << 20
BOMBS: dict[str, Callable[[], bytes]] = {
    "zeros.jsonl.gz": lambda: repeated(b"\0" * MEGABYTE, 300),
    "zeros.json.gz": lambda: repeated(b"\0" * MEGABYTE, 300, b"["),
    "text.json.gz": lambda: repeated(b"x" * MEGABYTE, 300, b'[{"a": "'),
    "lists.json.gz": lambda: repeated(b"[]," * MEGABYTE, 60, b'[{"a": ['),
    "quoted.csv.gz": lambda: repeated(b"\0" * MEGABYTE, 300, b'a,b\n1,"'),
    "lines.csv.gz": lambda: repeated(b"\n" * MEGABYTE, 300, b"a,b\n"),
    "zeros.txt.gz": lambda: repeated(b"\0" * MEGABYTE, 300),
    "blank.jsonl.gz": lambda: repeated(b" " * MEGABYTE, 300, b'{"a": 1}\n'),
    "lines.jsonl.gz": lambda: repeated(b"\n" * MEGABYTE, 300, b'{"a": 1}\n'),
    "long.jsonl": lambda: b'{"a": "' + b"x" * (150 * MEGABYTE),
    "numbers.jsonl": lambda: b'{"a": [' + b"1," * (50 * MEGABYTE) + b"1]}",
    "wide.jsonl": lambda: ('{"a": "' + "x" * (100 * MEGABYTE) + '😀"}').encode(),
    "unclosed.csv": lambda: b'a,b\n1,"x\n' + b"1,2\n" * (25 * MEGABYTE),
    "header.csv": lambda: b"a" * (100 * MEGABYTE),
    "columns.csv": lambda: b"c," * 100_000 + b"c\n",
    "keys.jsonl": lambda: b"".join(b'{"k%d": 1}\n' % i for i in range(10_000)),
    "key.jsonl": lambda: json.dumps({f"k{i}": i for i in range(100_000)}).encode(),
    "dictionary.parquet": lambda: parquet(
        pa.table({"a": pa.array(["x" * MEGABYTE]).dictionary_encode().take([0] * 9999)})
    ),
    "nulls.parquet": lambda: parquet(pa.table({"a": pa.nulls(200_000_000, pa.int8())})),
    "columns.parquet": lambda: parquet(pa.table({f"c{i}": [i] for i in range(10_000)})),
}


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


# In a process of its own, since only that has figures of its own.
MEASURE = """
import resource, sys, time
from instruct_fmt.errors import DataError
from instruct_fmt.run.read.dataset import open_dataset
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    start = time.process_time()
    try:
        print(path, "was read:", len(open_dataset(path)), "rows")
    except DataError as error:
        if path not in str(error):
            print(path, "is not in:", error)
    seconds = time.process_time() - start
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    if seconds > SECONDS or megabytes > MEGABYTES:
        print(path, f"took {seconds:.1f} s and {megabytes} MB")
"""


def measured(cache: Path, *paths: Path, seconds: float) -> list[str]:
    """What another process says of files that should be refused within these seconds of processor time."""
    code = MEASURE.replace("SECONDS", str(seconds)).replace("MEGABYTES", str(MEGABYTES))
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)],
        env={**os.environ, "HF_DATASETS_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_bombs_are_refused_in_bounded_time_and_memory(tmp_path: Path) -> None:
    paths = [put(tmp_path, name, content()) for name, content in BOMBS.items()]
    # Ten times what they take on a quiet machine: it tells bounded from endless.
    assert measured(tmp_path / "cache", *paths, seconds=10 * SECONDS) == []


def test_a_large_row_is_read_in_bounded_memory(tmp_path: Path) -> None:
    large, text = 100 * MEGABYTE, b"x" * (100 * MEGABYTE)
    lines = put(tmp_path, "a.jsonl", b'{"a": "' + text + b'"}\n{"a": "y"}\n')
    array = put(tmp_path, "a.json", b'[{"a": "' + text + b'"}, {"a": "y"}]')
    del text
    said = measured(tmp_path / "cache", lines, array, seconds=60)
    assert said == [f"{path} was read: 2 rows" for path in (lines, array)]
    assert pc.binary_length(open_dataset(str(array)).data["a"]).to_pylist() == [large, 1]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize(("opening", "inner", "closing"), [("[", "", "]"), ('{"b":', "1", "}")])
def test_one_limit_of_depth(tmp_path: Path, name: str, opening: str, inner: str, closing: str) -> None:
    def nested(depth: int) -> Path:
        # The row is the first level.
        row = '{"a": ' + opening * (depth - 1) + inner + closing * (depth - 1) + "}"
        return put(tmp_path, name, f"[{row}]".encode() if name.endswith(".json") else row.encode())

    for depth in (2, 31, 32, 33, 34, 64, 65, 99, 100):
        assert json.loads(nested(depth).read_text()) in (found := rows_of(open_dataset(str(nested(depth)))), found[0])
    for depth in (101, 102, 300, 500, 900, 1100, 100_000):
        assert "line 1: found values nested more than 100 deep" in refused(nested(depth))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.jsonl.gz"])
def test_texts_with_a_byte_order_mark(tmp_path: Path, name: str, encoding: str) -> None:
    kind = name.split(".")[1]
    content = {"jsonl": '{"text": "é😀"}\r\n', "json": '[{"text": "é😀"}]', "csv": "text\né😀\n", "txt": "é😀\n"}[kind]
    marked = content if encoding in ("utf-16", "utf-32", "utf-8-sig") else "\ufeff" + content
    raw = marked.encode(encoding)
    assert rows_of(open_dataset(str(put(tmp_path, name, gzip.compress(raw) if ".gz" in name else raw)))) == [
        {"text": "é😀"}
    ]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.jsonl", '{"a": "é"}'.encode("utf-16-le"), "looks like UTF-16LE"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16-be"), "looks like UTF-16BE"),
        ("a.jsonl", '\ufeff{"a": "é"}'.encode("utf-16-le")[:-1], "bytes that are not UTF-16"),
        ("a.jsonl", b"\0" * 1000, "line 1: found '\\x00"),
        ("a.jsonl", b'{"a": "x\0y"}', "Invalid control character at column 9"),
        ("a.jsonl", rb'{"a\u0000b": "x"}', "whose name holds a NUL"),
        ("a.csv", b"a,\0b\n1,2\n", "whose name holds a NUL"),
        ("a.jsonl", b'{"a": 1}{"a": 2}\n', "found several objects on one line"),
        ("a.jsonl", b'{"a": 1}\n{"a": 2}{"a": 3}\n', 'line 2: found \'{"a": 2}{"a": 3}\' (Extra data'),
        ("a.json", b'[{"a": 1}][{"a": 2}]', "put one `]` at the end"),
        ("a.json", b'[{"a": 1},\n{"a": 2}', "line 2: found the end of the file"),
        ("a.json", b'[{"a": 1},\n{"a": "x', 'line 2: found \'{"a": "x\' (Unterminated string'),
        ("a.json", b'[{"a": 1},\n\n{"a": tru}]', "line 3: found '{\"a\": tru}]' (Expecting value"),
        ("a.json", b'[{"a": "' + b"y" * 3_000_000 + b'"},\n{"a": "\xff"}]', "line 2: found bytes that are not UTF-8"),
        ("a.json", b'[{"a": "' + b"y" * 3_000_000 + b'"},\n{"a" 1}]', "line 2: found '{\"a\" 1}]'"),
    ],
)
def test_broken_texts(tmp_path: Path, name: str, content: bytes, found: str) -> None:
    assert found in refused(put(tmp_path, name, content))


def test_an_array_is_read_through_a_window(tmp_path: Path) -> None:
    """Values, words and escapes that lie across the window's edge, wherever that is."""
    block = '{"a": "é\\u00e9\\n", "b": [true, null, -1.5e3], "c": {"d": {}}}'
    for shift in range(0, 80, 3):
        rows = [{"n": "x" * (MEGABYTE - shift)}, *([json.loads(block)] * 3), {"n": "y" * (2 * MEGABYTE)}]
        text = json.dumps(rows[:1])[:-1] + f" , {block}, {block} ,\n{block}," + json.dumps(rows[4:])[1:]
        found = rows_of(open_dataset(str(put(tmp_path, "a.json", text.encode()))))
        assert [json.dumps(row["n"] if row["n"] else row["b"]) for row in found] == [
            json.dumps(row.get("n") or row["b"]) for row in rows
        ]


SCHEMAS: dict[str, Callable[[], pa.Array]] = {
    "map<": lambda: pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
    "sparse_union<": lambda: pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1]), pa.array(["b"])]),
    "run_end_encoded<": lambda: pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array(["a"])),
    "list_view<": lambda: pa.array([["a"]], pa.list_view(pa.string())),
    "month_day_nano_interval": lambda: pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
    "extension<arrow.uuid>": lambda: pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16], pa.binary(16))),
}


def stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def feather(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


WRITERS = {"a.arrow": stream, "b.arrow": feather, "a.parquet": parquet}


@pytest.mark.parametrize("kind", SCHEMAS)
@pytest.mark.parametrize("name", WRITERS)
def test_columns_that_cannot_be_held_are_named(tmp_path: Path, name: str, kind: str) -> None:
    table = pa.table({"fine": pa.array(["x"]), "odd": SCHEMAS[kind]().slice(0, 1)})
    try:
        content = WRITERS[name](table)
    except pa.ArrowNotImplementedError:
        pytest.skip("Parquet has no such type")
    said = refused(put(tmp_path, name, content))
    assert "the column 'odd' of type" in said
    assert kind in said


@pytest.mark.parametrize("name", WRITERS)
def test_fields_of_structs_have_names_of_their_own(tmp_path: Path, name: str) -> None:
    field = pa.field("x", pa.int64())
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], fields=[field, field])
    listed = pa.table({"s": pa.ListArray.from_arrays([0, 1], twice)})
    assert "the field 'x' twice in the column 's[]'" in refused(put(tmp_path, name, WRITERS[name](listed)))


BROKEN_METADATA = [
    b"{",
    b"[]",
    b"1",
    b"\xff",
    b"[" * 100_000,
    b'{"info": null}',
    b'{"info": {"features": 5}}',
    b'{"info": {"features": {"a": {"_type": "Nope"}}}}',
    b'{"info": {"features": {"a": {"dtype": "nope", "_type": "Value"}}}}',
]


@pytest.mark.parametrize("metadata", BROKEN_METADATA, ids=range(len(BROKEN_METADATA)))
@pytest.mark.parametrize("name", WRITERS)
def test_broken_metadata_of_datasets(tmp_path: Path, name: str, metadata: bytes) -> None:
    table = pa.table({"a": ["x"]})
    content = WRITERS[name](table.replace_schema_metadata({"huggingface": metadata}))
    assert "found metadata of `datasets`" in refused(put(tmp_path, name, content))
    assert len(open_dataset(str(put(tmp_path, name, WRITERS[name](table)))))


@pytest.mark.parametrize("name", WRITERS)
def test_texts_that_are_not_utf8(tmp_path: Path, name: str) -> None:
    buffers = [None, pa.py_buffer(struct.pack("ii", 0, 2)), pa.py_buffer(b"\xff\xfe")]
    table = pa.table({"a": pa.Array.from_buffers(pa.string(), 1, buffers)})
    assert "found data that cannot be read" in refused(put(tmp_path, name, WRITERS[name](table)))


@pytest.mark.parametrize("name", WRITERS)
def test_broken_bytes_never_end_the_process(tmp_path: Path, name: str) -> None:
    table = pa.table({"a": [f"x{i}" for i in range(300)], "b": [["y"] * (i % 3) for i in range(300)]})
    whole = WRITERS[name](table)
    for cut in (0, 1, 9, 100, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        refused(put(tmp_path, name, whole[:cut]))
    read, places = 0, range(0, len(whole), max(1, len(whole) // 150))
    for place in places:
        broken = bytearray(whole)
        broken[place : place + 4] = bytes(byte ^ 0xFF for byte in broken[place : place + 4])
        # Read, or refused; anything else that is raised fails here.
        with suppress(DataError):
            rows_of(open_dataset(str(put(tmp_path, name, bytes(broken)))))
            read += 1
    assert read < len(places)  # what is broken in the right place is refused


def test_a_stream_without_its_end(tmp_path: Path) -> None:
    whole = stream(pa.table({"a": ["x"]}))
    assert "found no mark of the end" in refused(put(tmp_path, "a.arrow", whole[:-8]))
    assert "found 7 bytes behind the end" in refused(put(tmp_path, "a.arrow", whole + b"garbage"))


def test_a_packed_arrow_file(tmp_path: Path) -> None:
    table = pa.table({"a": ["x" * 1000] * 100})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema, options=options) as writer:
        writer.write_table(table)
    assert rows_of(open_dataset(str(tmp_path / "a.arrow"))) == table.to_pylist()


ODD: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link that leads to itself": lambda path: path.symlink_to(path),
    "a link to": lambda path: path.symlink_to(path.parent / "gone"),
}


@pytest.mark.parametrize("found", ODD)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.arrow", "a.txt", "a.jsonl.gz", "a"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str, found: str) -> None:
    ODD[found](tmp_path / name)
    assert f"found {found}" in refused(tmp_path / name, UsageError)


def test_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("a.jsonl")
    assert "found a socket" in refused("a.jsonl", UsageError)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, "a.jsonl", b'{"a": 1}\n')
    # Asked rather than tried: nothing is forbidden to root, as which tests may run.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "found no permission" in refused(path, UsageError)


NAMES = {
    "": "an empty name",
    " ": "an empty name",
    "~nosuchuser/x.jsonl": "no such user",
    "a\0b.jsonl": "a name that no file can have",
    "x" * 5000: "a path that cannot be read",
    "/" + "x/" * 3000 + "a.jsonl": "a path that cannot be read",
    "a\nb.jsonl": "no such file",
    "a\udcff.jsonl": "no such file",
    "/dev/zero": "a device",
    "s3://bucket/a.jsonl": "no such file",
}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_that_lead_nowhere(name: str) -> None:
    assert f"found {NAMES[name]}" in refused(name, UsageError)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst", ".parquet"])
@pytest.mark.parametrize("stem", ["a\nb", "a\udcff"])
def test_odd_names_of_files(tmp_path: Path, stem: str, suffix: str) -> None:
    lines = b'{"a": 1}\n'
    content = {".jsonl": lines, ".jsonl.zst": zstd(lines), ".parquet": parquet(pa.table({"a": [1]}))}[suffix]
    assert rows_of(open_dataset(str(put(tmp_path, f"{stem}{suffix}", content)))) == [{"a": 1}]
    refused(put(tmp_path, f"{stem}{suffix}", content[:-3]))


MEMBERS: dict[str, Callable[[Path], object]] = {
    "a pipe among the data": lambda folder: os.mkfifo(folder / "b.jsonl"),
    "a link that leads nowhere": lambda folder: (folder / "b.jsonl").symlink_to(folder / "gone"),
    "a link to a folder": lambda folder: (folder / "sub").symlink_to(folder),
}


@pytest.mark.parametrize("found", MEMBERS)
def test_strange_members_of_a_folder(tmp_path: Path, found: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    put(folder, "a.jsonl", b'{"a": 1}\n')
    assert len(open_dataset(str(folder))) == 1
    MEMBERS[found](folder)
    assert f"found {found}" in refused(folder, UsageError)


def test_a_folder_of_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_io, "_MOST_FILES", 20)
    for number in range(21):
        put(tmp_path, f"{number}.jsonl", b'{"a": 1}\n')
    assert "found more than 20 files" in refused(tmp_path, UsageError)


@pytest.mark.parametrize("card", [b"---\nconfigs: [\n---\n", b"---\nconfigs: 5\n---\n"])
def test_broken_cards(tmp_path: Path, card: bytes) -> None:
    put(tmp_path, "README.md", card)
    put(tmp_path, "a.jsonl", b'{"a": 1}\n')
    assert "no dataset that can be loaded" in refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", b"{"),
        ("state.json", b"{}"),
        ("dataset_info.json", b'{"features": {"a": {"_type": "Nope"}}}'),
        ("data-00000-of-00001.arrow", b"x" * 500),
    ],
)
def test_broken_saved_datasets(tmp_path: Path, name: str, content: bytes) -> None:
    datasets.Dataset(pa.table({"a": ["x"] * 1000})).save_to_disk(str(tmp_path / "saved"))
    assert len(open_dataset(str(tmp_path / "saved"))) == 1000
    put(tmp_path / "saved", name, content)
    assert str(tmp_path / "saved") in refused(tmp_path / "saved")


@pytest.mark.parametrize("rows", [1, 2000])
def test_a_parquet_file_behind_another(tmp_path: Path, rows: int) -> None:
    """The footer counts from the beginning of its own file: the first one's rows would be read in its place."""
    content = b""
    for text in ("a", "b"):
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.table({"text": [f"{text}{number}" for number in range(rows)]}), buffer)
        content += buffer.getvalue().to_pybytes()
    path = put(tmp_path, "a.parquet", content)
    with pytest.raises(DataError, match=r"found a second file behind the first, at byte .*; expected one; fix: name"):
        open_dataset(str(path))


def test_a_parquet_file_whose_text_looks_like_two(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["PAR1PAR1"]}), path, compression="none")
    assert open_dataset(str(path))[:] == {"text": ["PAR1PAR1"]}


def test_a_folder_named_from_here_with_two_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    put(tmp_path, "data/a.jsonl", b'{"text": "x"}')
    put(tmp_path, "data/b.csv", b"text\nx\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"found files of several kinds \(a.jsonl and b.csv\)"):
        open_dataset("data")
