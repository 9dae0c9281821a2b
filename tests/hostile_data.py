"""Hostile data files of text: JSON, JSON lines, CSV and plain text, packed or not, and things that are no files."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
from hostile_places import PLACES
from hostile_write import LINE, ROW, Setup, data

Text = str | bytes | Callable[[], str | bytes]
PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda raw: _zstd(raw),
}
_LINES = (LINE + "\n").encode() * 50


def _zstd(raw: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(raw)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _bomb(pack: Callable[[bytes], bytes], size: int) -> bytes:
    """Members of 50 MB of blanks, as often as it takes, with a row behind."""
    return pack(b" " * 50_000_000) * (size // 50_000_000) + pack(_LINES)


def _blanks(pack: Callable[[bytes], bytes]) -> bytes:
    return pack(b" " * 50_000_000 + _LINES)


def _long(pack: Callable[[bytes], bytes]) -> bytes:
    return pack(_spoiled('"' + "a" * 50_000_000 + '"').encode())


def _row(**columns: Any) -> str:
    return json.dumps({**ROW, **columns})


def _raw(columns: str) -> str:
    """A good row with further columns in JSON."""
    return LINE[:-1] + ", " + columns + "}"


def _spoiled(content: str) -> str:
    return '{"messages": [{"role": "user", "content": ' + content + '}, {"role": "assistant", "content": "ansbeta"}]}'


def _packed() -> dict[str, Setup]:
    found: dict[str, Setup] = {}
    for suffix, pack in PACKERS.items():
        name = f"d.jsonl.{suffix}"
        whole = pack(_LINES)
        kinds: dict[str, Text] = {
            "whole": whole,
            "cut short": whole[:-7],
            "cut to its mark": whole[:6],
            "cut to one byte": whole[:1],
            "empty": b"",
            "garbage": os.urandom(1) * 0 + bytes(range(256)) * 20,
            "garbage behind its mark": whole[:6] + bytes(range(256)) * 20,
            "a byte changed": whole[:40] + bytes([whole[40] ^ 255]) + whole[41:],
            "a byte changed at the end": whole[:-5] + bytes([whole[-5] ^ 255]) + whole[-4:],
            "plain text": _LINES,
            "packed twice": pack(whole),
            "two members": whole + whole,
            "garbage behind": whole + b"garbage that is no member",
            "zeros behind": whole + b"\0" * 1_000,
            "of nothing": pack(b""),
            "of blanks": pack(b" \n" * 100),
            "a line of 50 MB of blanks": partial(_blanks, pack),
        }
        found |= {f"{name}: {kind}": data(name, content) for kind, content in kinds.items()}
        found[f"{name}: 50 MB in one text"] = data(name, partial(_long, pack))
    for suffix in ("gz", "xz", "bz2"):
        found[f"d.jsonl.{suffix}: a bomb of 1 GB"] = data(
            f"d.jsonl.{suffix}", partial(_bomb, PACKERS[suffix], 1_000_000_000)
        )
    found["d.json.gz: a bomb of 1 GB"] = data("d.json.gz", lambda: _bomb(gzip.compress, 1_000_000_000))
    found["d.csv.gz: a bomb of 1 GB"] = data(
        "d.csv.gz", lambda: b"".join([gzip.compress(b"messages,b\n"), _bomb(gzip.compress, 1_000_000_000)])
    )
    found["d.txt.gz: a bomb of 1 GB"] = data("d.txt.gz", lambda: _bomb(gzip.compress, 1_000_000_000))
    found["d.parquet.gz: packed"] = data("d.parquet.gz", whole)
    found["d.gz: no kind"] = data("d.gz", gzip.compress(_LINES))
    found["d.jsonl.gz.gz: twice"] = data("d.jsonl.gz.gz", gzip.compress(gzip.compress(_LINES)))
    return found


_JSON: Mapping[str, Text] = {
    "good": LINE,
    "a BOM": b"\xef\xbb\xbf" + _LINES,
    "two BOMs": b"\xef\xbb\xbf\xef\xbb\xbf" + _LINES,
    "UTF-16": _LINES.decode().encode("utf-16"),
    "Latin 1": _spoiled('"é"').encode("latin-1"),
    "NUL": LINE + "\0\n",
    "only NULs": b"\0" * 1_000_000,
    "one byte": b"{",
    "a blank": b" ",
    "a line break": b"\n",
    "a list": "[" + LINE + "]",
    "a list without an end": "[" + LINE + ",",
    "a text": '"abc"',
    "numbers": "1\n2\n3\n",
    "null": "null\n",
    "null among rows": LINE + "\nnull\n" + LINE,
    "a list among rows": LINE + "\n[1]\n" + LINE,
    "an empty row": LINE + "\n{}\n",
    "empty rows": "{}\n" * 1_000,
    "no rows": "[]",
    "a broken row": LINE + "\n{broken\n",
    "a cut row": LINE + "\n" + LINE[:30],
    "comments": "// a\n" + LINE,
    "commas behind": LINE + ",\n" + LINE + ",\n",
    "two rows in a line": LINE + LINE,
    "a row on lines": json.dumps(ROW, indent=2),
    "single quotes": LINE.replace('"', "'"),
    "returns": (LINE + "\r") * 3,
    "line separators": (LINE + "\u2028") * 3,
    "NaN": _raw('"a": NaN, "b": Infinity, "c": -Infinity'),
    "1e999": _raw('"a": 1e999'),
    "a long float": _raw('"a": 1.' + "9" * 100_000),
    "a number beyond 64 bits": _raw('"a": 18446744073709551616'),
    "a number far beyond 64 bits": _raw('"a": ' + "9" * 4_000),
    "5,000 digits": _raw('"a": ' + "9" * 5_000),
    "1 MB of digits": _raw('"a": ' + "9" * 1_000_000),
    "minus zero": _raw('"a": -0'),
    "a leading zero": _raw('"a": 01'),
    "a content of 5,000 digits": _spoiled("9" * 5_000),
    "a row 70 deep": _raw('"a": ' + "[" * 70 + "]" * 70),
    "a row 500 deep": _raw('"a": ' + "[" * 500 + "]" * 500),
    "a row 500 deep, of mappings": _raw('"a": ' + '{"a": ' * 500 + "1" + "}" * 500),
    "a row 2,000 deep": _raw('"a": ' + "[" * 2_000 + "]" * 2_000),
    "a row 100,000 deep": _raw('"a": ' + "[" * 100_000 + "]" * 100_000),
    "a row 100,000 deep, open": _raw('"a": ' + "[" * 100_000),
    "a content 500 deep": _spoiled("[" * 500 + "]" * 500),
    "a content 100,000 deep": _spoiled('{"content": ' * 100_000 + "1" + "}" * 100_000),
    "a lone surrogate": _spoiled('"\\ud800"'),
    "a lone surrogate in bytes": b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
    "a lone surrogate in a column": _raw('"\\ud800": 1'),
    "a lone surrogate in a key": _raw('"a": {"\\ud800": 1}'),
    "a lone surrogate in an unread text": _raw('"a": "\\udfff"'),
    "a lone surrogate in a role": LINE.replace('"user"', '"\\ud800"'),
    "invalid UTF-8": _spoiled('"X"').encode().replace(b"X", b"\xff\xfe"),
    "invalid UTF-8 in a column": _raw('"X": 1').encode().replace(b"X", b"\xff"),
    "a cut letter": _spoiled('"').encode()[:-1] + b"\xe2\x82",
    "a column twice": _raw('"messages": []'),
    "a key twice": _raw('"a": {"b": 1, "b": 2}'),
    "a column twice, in one row of many": LINE + "\n" + _raw('"messages": []') + "\n" + LINE,
    "an empty column name": _raw('"": 1'),
    "a column with a dot": _raw('"messages.role": 1'),
    "a column with a NUL": _raw('"a\\u0000": 1'),
    "columns that differ in case": _raw('"Messages": [], "MESSAGES": []'),
    "columns that normalise alike": _raw('"\u00e9": 1, "e\u0301": 2'),
    "numbers as columns": _raw('"1": 1, "-1": 2, "1.5": 3'),
    "a column that changes its type": "\n".join(
        _raw(f'"a": {v}') for v in ("1", '"a"', "[1]", '{"b": 1}', "null", "1.5", "true")
    ),
    "messages that change their type": LINE + '\n{"messages": "a"}\n{"messages": 5}\n' + LINE,
    "a text that becomes a number": "\n".join(_spoiled(v) for v in ('"a"', "5", "null", "[]", "{}")),
    "lists and mappings in a column": _raw('"a": [1, "a", {}, [], null]'),
    "roles of odd types": "\n".join(
        '{"messages": [{"role": ' + v + ', "content": "a"}]}' for v in ("5", "null", "[]", "{}", '""')
    ),
    "10,000 rows with a new column each": lambda: "\n".join(_raw(f'"c{i}": 1') for i in range(10_000)),
    "10,000 rows with a new key each": lambda: "\n".join(_raw(f'"a": {{"k{i}": 1}}') for i in range(10_000)),
    "10,000 rows with a new field each": lambda: "\n".join(_spoiled(f'"a", "f{i}": 1') for i in range(10_000)),
    "10,000 columns": lambda: _row(**{f"c{i}": i for i in range(10_000)}),
    "100,000 columns": lambda: _row(**{f"c{i}": i for i in range(100_000)}),
    "100,000 empty lines": lambda: "\n" * 100_000 + LINE,
    "50,000 broken rows": lambda: LINE + "\n" + "{}\n" * 50_000,
    "10,000 rejected rows of their own words": lambda: "\n".join(
        json.dumps({"messages": [{"role": f"r{i}", "content": "a"}]}) for i in range(10_000)
    ),
    "one row of 3 MB": lambda: _spoiled('"' + "one two " * 400_000 + '"'),
    "1 MB without a blank": lambda: _spoiled('"' + "a" * 1_000_000 + '"'),
    "a row of 100 MB that nothing reads": lambda: _raw('"a": "' + "b" * 100_000_000 + '"'),
    "a row of 100 MB of blanks": lambda: LINE[:-1] + " " * 100_000_000 + "}",
    "ANSI escapes": _spoiled('"\\u001b[31mred\\u001b]0;title\\u0007"'),
    "rich markup": _spoiled('"[bold]a[/bold] [/] [link=file:///etc/passwd]b"'),
    "HTML": "<html>" + LINE,
    "a Git LFS pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    "a gz under another name": gzip.compress(_LINES),
    "a zip under another name": b"PK\x03\x04" + bytes(100),
    "a parquet under another name": b"PAR1" + bytes(100) + b"PAR1",
    "a pickle": b"\x80\x04\x95" + bytes(100),
}
_CSV: Mapping[str, Text] = {
    "good": "instruction,output\nusralpha,ansbeta\n",
    "only a header": "instruction,output\n",
    "no header": "usralpha,ansbeta\n",
    "one column": "instruction\na\n",
    "a header twice": "output,output\na,b\n",
    "an empty name": "instruction,,output\na,b,c\n",
    "names of blanks": "instruction, ,output \na,b,c\n",
    "a field too many": "instruction,output\na,b,c\n",
    "a field too few": "instruction,output\na\n",
    "an open quote": 'instruction,output\n"a,b\nc,d\n',
    "quotes within": 'instruction,output\na"b"c,"d""e"\n',
    "quotes behind": 'instruction,output\n"a"b,c\n',
    "only quotes": '"' * 1_001,
    "1 MB of quotes": '"' * 1_000_000,
    "1 MB of commas": "," * 1_000_000,
    "1 MB of commas in a row": "instruction,output\n" + "," * 1_000_000,
    "a field of 1 MB": "instruction,output\na," + "b" * 1_000_000 + "\n",
    "a field of 1 MB over lines": 'instruction,output\na,"' + "b\n" * 500_000 + '"\n',
    "NUL": "instruction,output\na\0,b\n",
    "only NULs": b"\0" * 1_000,
    "UTF-16": "instruction,output\na,b\n".encode("utf-16"),
    "a BOM": b"\xef\xbb\xbfinstruction,output\na,b\n",
    "Latin 1": "instruction,output\né,b\n".encode("latin-1"),
    "surrogates": b"instruction,output\n\xed\xa0\x80,b\n",
    "semicolons": "instruction;output\na;b\n",
    "tabs": "instruction\toutput\na\tb\n",
    "returns": "instruction,output\ra,b\r",
    "mixed line ends": "instruction,output\r\na,b\nc,d\re,f\r\n",
    "blank lines": "\n\ninstruction,output\n\n\na,b\n\n",
    "formulas": "instruction,output\n=cmd|'/c calc'!A1,@SUM(1)\n",
    "10,000 columns": lambda: ",".join(f"c{i}" for i in range(10_000)) + "\n" + ",".join("a" for _ in range(10_000)),
    "100,000 columns": lambda: ",".join(f"c{i}" for i in range(100_000)) + "\n" + ",".join("a" for _ in range(100_000)),
    "a separator line": "sep=,\ninstruction,output\na,b\n",
    "comments": "# hello\ninstruction,output\na,b\n",
}
_TEXT: Mapping[str, Text] = {
    "good": "a line\nanother\n",
    "blanks": " \n\n\t\n",
    "NUL": "a\0b\n",
    "Latin 1": "é\n".encode("latin-1"),
    "UTF-16": "a\n".encode("utf-16"),
    "garbage": bytes(range(256)) * 10,
    "one line of 1 MB": "a" * 1_000_000,
    "1 MB of line breaks": "\n" * 1_000_000,
    "surrogates": b"\xed\xa0\x80\n",
    "control tokens": "<|im_start|>assistant\na<|im_end|>\n",
}


DATA: Mapping[str, Setup] = {
    **{f"d.jsonl: {name}": data("d.jsonl", text) for name, text in _JSON.items()},
    **{f"d.json: {name}": data("d.json", text) for name, text in list(_JSON.items())[::4]},
    **{f"d.csv: {name}": data("d.csv", text, template="alpaca") for name, text in _CSV.items()},
    **{f"d.txt: {name}": data("d.txt", text, control_tokens="text", format="text") for name, text in _TEXT.items()},
    **_packed(),
    **{f"data: {name}": setup for name, setup in PLACES.items()},
}
