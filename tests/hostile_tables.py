"""Hostile Arrow and Parquet files: columns of odd types, broken metadata, files that are cut."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hostile_write import ROW, Setup, config, together

_MESSAGES = pa.Table.from_pylist([ROW] * 3)


def _with(column: Callable[[], Any], name: str = "a") -> Callable[[], pa.Table]:
    return lambda: _MESSAGES.append_column(name, column())


def _only(column: Callable[[], Any], name: str = "messages") -> Callable[[], pa.Table]:
    return lambda: pa.table({name: column()})


def _about(text: str) -> Callable[[], pa.Table]:
    return lambda: _MESSAGES.replace_schema_metadata({"huggingface": text})


def _feature(feature: Any) -> Callable[[], pa.Table]:
    return _about(json.dumps({"info": {"features": {"messages": feature}}}))


def _map() -> pa.Array:
    return pa.array([[("k", "v"), ("k", "w")]] * 3, pa.map_(pa.string(), pa.string()))


def _union() -> pa.Array:
    kinds = pa.array([0, 1, 0], pa.int8())
    return pa.UnionArray.from_sparse(kinds, [pa.array(["a", "b", "c"]), pa.array([1, 2, 3])])


def _run_end() -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([3], pa.int32()), pa.array(["a"]))


def _view() -> pa.Array:
    return pa.array([["a"]] * 3, pa.list_view(pa.string()))


def _dictionary() -> pa.Array:
    return pa.array(["a", "b", "a"]).dictionary_encode()


def _bad_text() -> pa.Array:
    """A column of text whose bytes are no text."""
    return pa.Array.from_buffers(
        pa.string(), 3, [None, pa.array([0, 1, 2, 3], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe\xfd")]
    )


def _messages_with(content: Any) -> Callable[[], pa.Table]:
    """Messages whose contents have a type of their own."""

    def make() -> pa.Table:
        roles = pa.array(["user", "assistant"])
        structs = pa.StructArray.from_arrays([roles, content()], ["role", "content"])
        return pa.table({"messages": pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), structs)})

    return make


def _twice() -> pa.Table:
    return pa.Table.from_arrays([_MESSAGES["messages"], _MESSAGES["messages"]], names=["messages", "messages"])


def _fields_twice() -> pa.Table:
    structs = pa.StructArray.from_arrays(
        [pa.array(["user", "assistant"]), pa.array(["a", "b"]), pa.array(["c", "d"])], ["role", "content", "content"]
    )
    return pa.table({"messages": pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), structs)})


def _deep(depth: int) -> pa.Array:
    kind = pa.string()
    for _ in range(depth):
        kind = pa.list_(kind)
    return pa.nulls(3, kind)


TYPES: Mapping[str, Callable[[], pa.Table]] = {
    "good": lambda: _MESSAGES,
    "no rows": lambda: _MESSAGES[:0],
    "no columns": lambda: pa.table({}),
    "a null column": _with(lambda: pa.nulls(3)),
    "messages of null": _only(lambda: pa.nulls(3)),
    "a map": _with(_map),
    "messages as a map": _only(_map),
    "a union": _with(_union),
    "messages as a union": _only(_union),
    "a run-end column": _with(_run_end),
    "messages as run ends": _only(_run_end),
    "a list view": _with(_view),
    "messages as a list view": _only(_view),
    "a dictionary": _with(_dictionary),
    "messages as a dictionary": _only(_dictionary),
    "a string view": _with(lambda: pa.array(["a"] * 3, pa.string_view())),
    "large text": _with(lambda: pa.array(["a"] * 3, pa.large_string())),
    "bytes": _with(lambda: pa.array([b"\xff"] * 3)),
    "fixed bytes": _with(lambda: pa.array([b"ab"] * 3, pa.binary(2))),
    "half floats": _with(lambda: pa.array([1.0] * 3, pa.float16())),
    "decimals": _with(lambda: pa.array([1] * 3, pa.decimal256(70, 10))),
    "small decimals": _with(lambda: pa.array([1] * 3, pa.decimal32(5, 1))),
    "durations": _with(lambda: pa.array([1] * 3, pa.duration("ns"))),
    "months": _with(lambda: pa.array([(1, 2, 3)] * 3, pa.month_day_nano_interval())),
    "times": _with(lambda: pa.array([datetime.time(1)] * 3, pa.time64("ns"))),
    "moments out of range": _with(lambda: pa.array([2**62] * 3, pa.timestamp("s"))),
    "moments of an unknown zone": _with(lambda: pa.array([0] * 3, pa.timestamp("s", "Nowhere/City"))),
    "dates out of range": _with(lambda: pa.array([2**31 - 1] * 3, pa.date32())),
    "unsigned numbers": _with(lambda: pa.array([2**64 - 1] * 3, pa.uint64())),
    "a fixed list": _with(lambda: pa.array([[1, 2]] * 3, pa.list_(pa.int8(), 2))),
    "an empty struct": _with(lambda: pa.array([{}] * 3, pa.struct([]))),
    "a struct of 1,000 fields": _with(lambda: pa.array([{f"f{i}": i for i in range(1_000)}] * 3)),
    "a column 60 deep": _with(lambda: _deep(60)),
    "text that is none": _with(_bad_text),
    "contents that are no text": _messages_with(lambda: _bad_text()[:2]),
    "contents of bytes": _messages_with(lambda: pa.array([b"a", b"b"])),
    "contents of numbers": _messages_with(lambda: pa.array([1, 2])),
    "contents of a map": _messages_with(lambda: _map()[:2]),
    "contents of a union": _messages_with(lambda: _union()[:2]),
    "contents of a list view": _messages_with(lambda: _view()[:2]),
    "contents of a dictionary": _messages_with(lambda: _dictionary()[:2]),
    "contents of a string view": _messages_with(lambda: pa.array(["a", "b"], pa.string_view())),
    "contents of moments": _messages_with(lambda: pa.array([2**62, 5], pa.timestamp("s"))),
    "contents of null": _messages_with(lambda: pa.nulls(2)),
    "contents of an empty struct": _messages_with(lambda: pa.array([{}] * 2, pa.struct([]))),
    "a column twice": _twice,
    "a field twice": _fields_twice,
    "an empty name": _with(lambda: pa.array([1] * 3), ""),
    "a name of NUL": _with(lambda: pa.array([1] * 3), "a\0b"),
    "1,000 columns": lambda: pa.table({**{f"c{i}": [1] for i in range(1_000)}, "messages": [ROW["messages"]]}),
    "metadata: no JSON": _about("{"),
    "metadata: a list": _about("[]"),
    "metadata: null": _about("null"),
    "metadata: no features": _about('{"info": {}}'),
    "metadata: features of a list": _about('{"info": {"features": []}}'),
    "metadata: features of a text": _about('{"info": {"features": "a"}}'),
    "metadata: other columns": _about('{"info": {"features": {"x": {"dtype": "string", "_type": "Value"}}}}'),
    "metadata: an unknown type": _feature({"_type": "Nothing"}),
    "metadata: an unknown dtype": _feature({"dtype": "nothing", "_type": "Value"}),
    "metadata: another dtype": _feature({"dtype": "int64", "_type": "Value"}),
    "metadata: an odd dtype": _feature({"dtype": "decimal128(1, 2, 3)", "_type": "Value"}),
    "metadata: a dtype of a number": _feature({"dtype": 5, "_type": "Value"}),
    "metadata: an image": _feature({"_type": "Image"}),
    "metadata: a label": _feature({"_type": "ClassLabel", "names": ["a", "a"]}),
    "metadata: a label of a file": _feature({"_type": "ClassLabel", "names_file": "/etc/passwd"}),
    "metadata: a type of a number": _feature({"_type": 5}),
    "metadata: a class of Python": _feature({"_type": "__class__"}),
    "metadata: deep": _about("[" * 100_000),
    "metadata: bytes": lambda: _MESSAGES.replace_schema_metadata({b"huggingface": b"\xff\xfe"}),
    "metadata: pandas, broken": lambda: _MESSAGES.replace_schema_metadata({"pandas": "{"}),
    "metadata: an extension": lambda: pa.Table.from_arrays(
        [_MESSAGES["messages"].combine_chunks()],
        schema=pa.schema(
            [
                pa.field(
                    "messages",
                    _MESSAGES.schema[0].type,
                    metadata={"ARROW:extension:name": "datasets.nothing", "ARROW:extension:metadata": "x"},
                )
            ]
        ),
    ),
}


def _parquet(make: Callable[[], pa.Table]) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        try:
            pq.write_table(make(), folder / "d.parquet")
        except pa.ArrowException:  # Parquet has no such type: then the file is a broken one
            (folder / "d.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")

    return write


def _arrow(make: Callable[[], pa.Table], stream: bool = True) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        table = make()
        writer = pa.ipc.new_stream if stream else pa.ipc.new_file
        with writer(str(folder / "d.arrow"), table.schema) as out:
            out.write_table(table)

    return write


def _spoil(write: Callable[[Path], object], name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def spoiled(folder: Path) -> None:
        write(folder)
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return spoiled


_CHANGES: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "cut in half": lambda raw: raw[: len(raw) // 2],
    "cut at the end": lambda raw: raw[:-3],
    "cut at the start": lambda raw: raw[3:],
    "zeroed": lambda raw: bytes(len(raw)),
    "zeroed in the middle": lambda raw: raw[:60] + bytes(len(raw) - 120) + raw[-60:],
    "with a large length": lambda raw: raw[:4] + b"\xff\xff\xff\x7f" + raw[8:],
    "with a large footer": lambda raw: raw[:-8] + b"\xff\xff\xff\x7f" + raw[-4:],
    "with bytes turned round": lambda raw: raw[:20] + raw[20:-20][::-1] + raw[-20:],
    "with every 17th byte changed": lambda raw: bytes(b ^ 85 if i % 17 == 16 else b for i, b in enumerate(raw)),
    "doubled": lambda raw: raw + raw,
    "of text": lambda raw: b"hello\n",
}


TABLES: Mapping[str, Setup] = {
    **{f"d.parquet: {name}": together(_parquet(make), config("d.parquet")) for name, make in TYPES.items()},
    **{f"d.arrow: {name}": together(_arrow(make), config("d.arrow")) for name, make in TYPES.items()},
    "d.arrow: a file, not a stream": together(_arrow(lambda: _MESSAGES, stream=False), config("d.arrow")),
    **{
        f"d.parquet: {name}": together(_spoil(_parquet(lambda: _MESSAGES), "d.parquet", change), config("d.parquet"))
        for name, change in _CHANGES.items()
    },
    **{
        f"d.arrow: {name}": together(_spoil(_arrow(lambda: _MESSAGES), "d.arrow", change), config("d.arrow"))
        for name, change in _CHANGES.items()
    },
}
