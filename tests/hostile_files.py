"""Hostile files: configurations, `--set` values, data files, tokenizers, places for the output.

Out: cases, each of which writes its files into the current folder and runs the command line on them.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hostile_judge import Case, Wrong, begin

from instruct_fmt import cli
from instruct_fmt.embedded import tokenizer_path

ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}
LINE = json.dumps(ROW) + "\n"
INTERNAL = 3
"""The exit code of an error that nobody foresaw."""


def command(*arguments: str) -> str:
    """Run the command line; returns its exit code, and raises where that is none of ours."""
    datasets.config.HF_DATASETS_CACHE = Path.cwd() / "cache"
    sys.argv = ["instruct-fmt", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
        if code not in (0, 1, 2):
            raise Wrong(f"exit code {code}") from None
        sys.stdout.flush()
        sys.stderr.flush()
        return ""
    return ""


def write(name: str, content: str | bytes) -> None:
    """Write a file of the current folder."""
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", errors="surrogatepass"))


# Configurations


def configured(text: str | bytes, **files: str | bytes) -> str:
    """Prepare a configuration of this text, with other files beside it."""
    write("run.yaml", text)
    for name, content in files.items():
        write(name.replace("__", "."), content)
    return command("prepare", "run.yaml", "-o", "out")


GOOD = "tokenizer: embedded\ndatasets: embedded\n"
CONFIGS: dict[str, tuple[str, str | bytes]] = {
    "list as a key": ("a key that cannot be one", GOOD + "? [a, b]\n: c\n"),
    "mapping as a key": ("a key that cannot be one", GOOD + "? {a: b}\n: c\n"),
    "null as a key": ("a key that cannot be one", GOOD + "null: c\n"),
    "number as a key": ("a key that cannot be one", GOOD + "5: c\n"),
    "no such day": ("a date that does not exist", GOOD + "now: 2025-13-45\n"),
    "no such time": ("a time that does not exist", GOOD + "now: 2025-01-01 99:99:99\n"),
    "now a number": ("a date that is none", GOOD + "now: 5\n"),
    "now a list": ("a date that is none", GOOD + "now: [2025]\n"),
    "integer of 5,000 digits": ("a limit of Python", GOOD + f"max_length: {'9' * 5000}\n"),
    "integer of 1,000,000 digits": ("time", GOOD + f"max_length: {'9' * 1_000_000}\n"),
    "hexadecimal of 100,000 digits": ("time", GOOD + f"max_length: 0x{'f' * 100_000}\n"),
    "sexagesimal": ("YAML 1.1's own number", GOOD + f"max_length: {'1:' * 5000}1\n"),
    "float of 5,000 digits": ("a limit of Python", GOOD + f"max_rejected: 0.{'9' * 5000}\n"),
    "infinity": ("a number without end", GOOD + "max_rejected: .inf\n"),
    "not a number": ("a number that is none", GOOD + "max_rejected: .nan\n"),
    "negative": ("a number that is too small", GOOD + "max_length: -1\n"),
    "zero": ("a number that is too small", GOOD + "max_length: 0\n"),
    "2 to the 64": ("a number that does not fit", GOOD + f"max_length: {2**64}\n"),
    "depth 3,000 of lists": ("the parser's stack", GOOD + "stop: " + "[" * 3000 + "]" * 3000),
    "depth 3,000 of mappings": ("the parser's stack", GOOD + "template_kwargs: " + "{a: " * 3000 + "1" + "}" * 3000),
    "depth 900 of lists": ("the parser's stack", GOOD + "stop: " + "[" * 900 + "]" * 900),
    "depth 300 in a variable": ("what prints values", GOOD + "template_kwargs: {a: " + "[" * 300 + "]" * 300 + "}"),
    "recursive list": ("an alias to itself", GOOD + "stop: &a [*a]\n"),
    "recursive mapping": ("an alias to itself", "&a\n" + GOOD + "template_kwargs: *a\n"),
    "recursive dataset": ("an alias to itself", "tokenizer: embedded\ndatasets: &a\n  - path: embedded\n    columns: *a\n"),
    "a billion laughs": (
        "memory by aliases",
        GOOD + "template_kwargs:\n  a0: &a0 [x, x]\n"
        + "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
    ),
    "a billion laughs in stop": (
        "memory by aliases",
        "x0: &a0 [x, x]\n" + "".join(f"x{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
        + GOOD + "stop: *a8\n",
    ),
    "merge keys": ("keys from elsewhere", "base: &b {max_length: 5}\n" + GOOD + "<<: *b\n"),
    "many merge keys": ("time by merges", GOOD + "".join(f"a{n}: &a{n} {{<<: [{', '.join(f'*a{m}' for m in range(n))}], k{n}: 1}}\n" for n in range(60))),
    "python object": ("code", GOOD + "stop: !!python/object/apply:os.system ['touch thesis.txt']\n"),
    "binary": ("bytes as a text", GOOD + "system: !!binary aGk=\n"),
    "bad binary": ("bytes that are none", GOOD + "system: !!binary '%%%'\n"),
    "set": ("a set as a list", GOOD + "stop: !!set {a, b}\n"),
    "ordered mapping": ("pairs", GOOD + "template_kwargs: !!omap [a: 1]\n"),
    "unknown tag": ("a tag", GOOD + "stop: !mine x\n"),
    "bad int tag": ("a tag that lies", GOOD + "max_length: !!int x\n"),
    "bad float tag": ("a tag that lies", GOOD + "max_rejected: !!float x\n"),
    "bad bool tag": ("a tag that lies", GOOD + "train_on_inputs: !!bool x\n"),
    "bad timestamp tag": ("a tag that lies", GOOD + "now: !!timestamp x\n"),
    "bad null tag": ("a tag that lies", GOOD + "stop: !!null [x]\n"),
    "two documents": ("a second document", GOOD + "---\na: 1\n"),
    "empty": ("nothing", ""),
    "blank": ("nothing", " \n\n"),
    "comment": ("nothing", "# nothing\n"),
    "null": ("nothing", "null\n"),
    "a text": ("no mapping", "hello\n"),
    "a list": ("no mapping", "- a\n"),
    "tabs": ("what YAML forbids", "tokenizer:\tembedded\n\tdatasets: embedded\n"),
    "NUL": ("what YAML forbids", GOOD + "system: a\0b\n"),
    "NUL in a path": ("a path that no system takes", 'tokenizer: embedded\ndatasets: "a\\0b.jsonl"\n'),
    "NUL in a tokenizer": ("a path that no system takes", 'tokenizer: "a\\0b"\ndatasets: embedded\n'),
    "NUL in a template": ("a path that no system takes", 'tokenizer: embedded\ntemplate: "a\\0b.jinja"\ndatasets: embedded\n'),
    "escape": ("a terminal's language", GOOD + 'bogus: "\\e[31mred"\n'),
    "byte order mark": ("an editor", b"\xef\xbb\xbf" + GOOD.encode()),
    "UTF-16": ("an editor", GOOD.encode("utf-16")),
    "UTF-32": ("an editor", GOOD.encode("utf-32")),
    "Latin-1": ("an editor", (GOOD + "system: caf\xe9\n").encode("latin-1")),
    "surrogate": ("half a character", GOOD + 'system: "\\ud800"\n'),
    "surrogate in a path": ("half a character", 'tokenizer: embedded\ndatasets: "\\ud800.jsonl"\n'),
    "surrogate in a name": ("half a character", GOOD + '"\\ud800": 1\n'),
    "20 MB": ("time and memory", GOOD + "# " + "x" * 20_000_000),
    "200,000 keys": ("time", GOOD + "".join(f"k{n}: 1\n" for n in range(200_000))),
    "100,000 datasets": ("time", "tokenizer: embedded\ndatasets:\n" + "- embedded\n" * 100_000),
    "key twice": ("two answers", GOOD + "max_length: 1\nmax_length: 2\n"),
    "alias twice": ("two answers", GOOD + "max_length: 1\ncutoff_len: 2\n"),
    "unclosed quote": ("no YAML", GOOD + 'system: "hello\n'),
    "unclosed list": ("no YAML", GOOD + "stop: [a\n"),
    "undefined alias": ("no YAML", GOOD + "stop: *nobody\n"),
    "directive": ("no YAML", "%YAML 9.9\n---\n" + GOOD),
    "home of nobody": ("a path that leads nowhere", "tokenizer: embedded\ndatasets: ~nobody-of-that-name/x.jsonl\n"),
    "tokenizer of nobody": ("a path that leads nowhere", "tokenizer: ~nobody-of-that-name/x\ndatasets: embedded\n"),
    "template of nobody": ("a path that leads nowhere", GOOD + "template: ~nobody-of-that-name/x.jinja\n"),
    "root as data": ("a folder that is none", "tokenizer: embedded\ndatasets: /\n"),
    "device as data": ("a file without end", "tokenizer: embedded\ndatasets: /dev/zero\n"),
    "device with a suffix": ("a file without end", "tokenizer: embedded\ndatasets: {path: /dev/zero, type: chat}\n"),
    "dot as data": ("the folder itself", "tokenizer: embedded\ndatasets: .\n"),
    "root as tokenizer": ("a folder that is none", "tokenizer: /\ndatasets: embedded\n"),
    "device as tokenizer": ("a file without end", "tokenizer: /dev/zero\ndatasets: embedded\n"),
    "device as template": ("a file without end", GOOD + "template: /dev/zero\n"),
    "folder as template": ("a folder that is none", GOOD + "template: ./\n"),
    "long data name": ("a name that is too long", f"tokenizer: embedded\ndatasets: {'x' * 5000}.jsonl\n"),
    "long tokenizer name": ("a name that is too long", f"tokenizer: {'x' * 5000}\ndatasets: embedded\n"),
    "long template name": ("a name that is too long", GOOD + f"template: {'x' * 5000}.jinja\n"),
    "tokenizer a number": ("a type", "tokenizer: 5\ndatasets: embedded\n"),
    "tokenizer a list": ("a type", "tokenizer: [embedded]\ndatasets: embedded\n"),
    "datasets a number": ("a type", "tokenizer: embedded\ndatasets: 5\n"),
    "datasets empty": ("nothing", "tokenizer: embedded\ndatasets: []\n"),
    "datasets of null": ("nothing", "tokenizer: embedded\ndatasets: [null]\n"),
    "file_name a number": ("a type", "tokenizer: embedded\ndatasets: {file_name: 5}\n"),
    "path a list": ("a type", "tokenizer: embedded\ndatasets: {path: [a]}\n"),
    "path empty": ("nothing", "tokenizer: embedded\ndatasets: {path: ''}\n"),
    "split a number": ("a type", "tokenizer: embedded\ndatasets: {path: embedded, split: 5}\n"),
    "split odd": ("a slice that is none", "tokenizer: embedded\ndatasets: {path: embedded, split: 'train[x:]'}\n"),
    "split huge": ("a slice that is none", f"tokenizer: embedded\ndatasets: {{path: embedded, split: 'train[:{'9' * 400}]'}}\n"),
    "split superscript": ("a digit that is none", "tokenizer: embedded\ndatasets: {path: embedded, split: 'train[:²]'}\n"),
    "columns a list": ("a type", GOOD + "columns: [a]\n"),
    "columns of numbers": ("a type", GOOD + "columns: {a: 5}\n"),
    "roles a list": ("a type", GOOD + "roles: [a]\n"),
    "roles deep": ("a type", GOOD + "roles: {a: {b: c}}\n"),
    "train_on a number": ("a type", GOOD + "train_on: 5\n"),
    "train_on mixed": ("a type", GOOD + "train_on: [assistant, 5]\n"),
    "special_tokens odd": ("a type", GOOD + "special_tokens: {eos_token: [a]}\n"),
    "special_tokens unknown": ("a name", GOOD + "special_tokens: {bogus: x}\n"),
    "backend odd": ("a name", GOOD + "backend: bogus\n"),
    "format odd": ("a name", GOOD + "format: bogus\n"),
    "keep_columns odd": ("a name", GOOD + "keep_columns: [nothing]\n"),
    "num_proc huge": ("processes", GOOD + "num_proc: 100000\n"),
    "output a list": ("a type", GOOD + "output: [a]\n"),
    "output odd": ("a name", GOOD + "output: {path: out2, format: xml}\n"),
    "template_kwargs a text": ("a type", GOOD + "template_kwargs: hello\n"),
    "template in its variables": ("a template from elsewhere", GOOD + "template_kwargs: {chat_template: 'x'}\n"),
    "messages in its variables": ("text from elsewhere", GOOD + "template_kwargs: {messages: []}\n"),
    "tokenize in its variables": ("an option of another function", GOOD + "template_kwargs: {tokenize: false}\n"),
    "numbers as names of variables": ("a type", GOOD + "template_kwargs: {5: x}\n"),
    "left_to_trainer": ("a key of ours", GOOD + "left_to_trainer: [a]\n"),
    "axolotl type deep": ("a type", "tokenizer: embedded\ndatasets: {path: embedded, type: {field_instruction: [a], format: 5}}\n"),
    "axolotl type number": ("a type", "tokenizer: embedded\ndatasets: {path: embedded, type: 5}\n"),
    "message_property_mappings odd": ("a type", "tokenizer: embedded\ndatasets: {path: embedded, message_property_mappings: [a]}\n"),
}  # fmt: skip

INFOS: dict[str, str] = {
    "a list": "[]", "null": "null", "a number": "5", "empty": "", "truncated": '{"x": {',
    "deep": "[" * 100_000, "deep object": '{"x": ' * 5000 + "1" + "}" * 5000,
    "entry a list": '{"x": []}', "entry null": '{"x": null}', "entry empty": '{"x": {}}',
    "file_name a number": '{"x": {"file_name": 5}}', "file_name a list": '{"x": {"file_name": ["a"]}}',
    "file_name root": '{"x": {"file_name": "/"}}', "file_name up": '{"x": {"file_name": "../../../etc/passwd"}}',
    "file_name NUL": '{"x": {"file_name": "a\\u0000b"}}', "file_name surrogate": '{"x": {"file_name": "\\ud800"}}',
    "columns a list": '{"x": {"file_name": "d.jsonl", "columns": []}}',
    "columns of numbers": '{"x": {"file_name": "d.jsonl", "columns": {"messages": 5}}}',
    "tags a text": '{"x": {"file_name": "d.jsonl", "formatting": "sharegpt", "tags": "a"}}',
    "tags of lists": '{"x": {"file_name": "d.jsonl", "formatting": "sharegpt", "tags": {"role_tag": ["a"]}}}',
    "formatting a number": '{"x": {"file_name": "d.jsonl", "formatting": 5}}',
    "split a number": '{"x": {"file_name": "d.jsonl", "split": 5}}',
    "num_samples odd": '{"x": {"file_name": "d.jsonl", "num_samples": "many"}}',
    "NaN": '{"x": {"file_name": NaN}}', "huge integer": '{"x": ' + "9" * 5000 + "}",
    "key twice": '{"x": {"file_name": "a"}, "x": {"file_name": "b"}}',
    "not UTF-8": "\udcff",
}  # fmt: skip

SETTINGS = [
    "datasets.².path=x", "datasets.①.path=x", "datasets.-1.path=x", "datasets.99999999999999999999.path=x",
    "datasets." + "9" * 5000 + ".path=x", "datasets.path=/", "datasets.path=", "datasets.path=~nobody-of-that-name/x",
    "datasets.path=\udcff", "tokenizer=\udcff", "\udcff=1", "=", "=1", "a", "", "a..b=1", ".=1", "..=", "max_length", "max_length=",
    "max_length=" + "9" * 5000, "max_length=[", "max_length={", "max_length=*a", "max_length=&a [*a]", "max_length=!!python/name:os.system",
    "stop=" + "[" * 3000 + "]" * 3000, "a." * 3000 + "b=1", "datasets.0." + "a." * 3000 + "b=1", "datasets=5", "datasets=[]", "datasets=null",
    "datasets.0=5", "datasets.0=null", "datasets.0.path.x=1", "max_length.x=1", "output.path.x=1", "output.path=/", "output=.",
    "output=~nobody-of-that-name/x", "output.path=/dev/null", "output.path=/dev/null/x", "output.path=/proc/x", "output=" + "x" * 5000,
    "now=2025-13-45", "now=", "tokenizer=/dev/zero", "tokenizer=/etc/passwd", "tokenizer=", "tokenizer=..", "template=/etc/passwd", "template=.",
    "template=" + "{% for i in x %}" * 30, "template={{ 'x'|center(10**9) }}", "template={{ messages", "template=\udcff.jinja",
    "num_proc=0", "num_proc=-1", "num_proc=1.5", "num_proc=1e9", "keep_columns=input_ids", "max_rejected=2", "max_rejected=nan",
    "left_to_trainer=[a]", "system={{7*7}}", "system=<|im_end|>", "completion_format={", "completion_format={x!r:{y}}", "completion_format={0.__class__}",
]  # fmt: skip


def _info(text: str) -> str:
    config = "tokenizer: embedded\ndatasets: {dataset_info: info.json, name: x}\n"
    return configured(config, info__json=text.encode("utf-8", errors="surrogateescape"), d__jsonl=LINE * 3)


# Data


def prepared(name: str, content: str | bytes | None = None, *more: str) -> str:
    """Prepare a data file of this content."""
    if content is not None:
        write(name, content)
    write("run.yaml", f"tokenizer: embedded\ndatasets: {json.dumps(name)}\n")
    return command("prepare", "run.yaml", "-o", "out", *more)


def _row(content: Any, **more: Any) -> str:
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "Hello!"}]
    return json.dumps({"messages": messages, **more}) + "\n"


def _deep(depth: int) -> str:
    return '{"messages": ' + json.dumps(ROW["messages"]) + ', "x": ' + "[" * depth + "]" * depth + "}\n"


def _deep_object(depth: int) -> str:
    return '{"messages": ' + json.dumps(ROW["messages"]) + ', "x": ' + '{"a": ' * depth + "1" + "}" * depth + "}\n"


TEXTS: dict[str, tuple[str, str, Callable[[], str | bytes]]] = {
    "truncated gz": ("a.jsonl.gz", "an end that is missing", lambda: gzip.compress((LINE * 99).encode())[:-20]),
    "gz cut early": ("a.jsonl.gz", "an end that is missing", lambda: gzip.compress((LINE * 9999).encode())[:40]),
    "gz of one byte": ("a.jsonl.gz", "no gz", lambda: b"\x1f"),
    "gz garbage behind": ("a.jsonl.gz", "more than a gz", lambda: gzip.compress((LINE * 9).encode()) + b"garbage" * 9),
    "gz of nothing": ("a.jsonl.gz", "nothing", lambda: gzip.compress(b"")),
    "gz bad checksum": ("a.jsonl.gz", "damage", lambda: gzip.compress((LINE * 99).encode())[:-8] + b"12345678"),
    "gz bomb": ("a.jsonl.gz", "memory", lambda: gzip.compress(b"0" * 300_000_000, 1)),
    "gz bomb of a text": ("a.jsonl.gz", "memory", lambda: gzip.compress(b'{"a": "' + b"x" * 300_000_000, 1)),
    "gz that is text": ("a.jsonl.gz", "a name that lies", lambda: LINE * 9),
    "text that is gz": ("a.jsonl", "a name that lies", lambda: gzip.compress((LINE * 9).encode())),
    "truncated zst": ("a.jsonl.zst", "an end that is missing", lambda: pa.compress((LINE * 99).encode(), "zstd", asbytes=True)[:-9]),
    "zst garbage": ("a.jsonl.zst", "no zst", lambda: b"garbage" * 99),
    "truncated xz": ("a.jsonl.xz", "an end that is missing", lambda: lzma.compress((LINE * 99).encode())[:-9]),
    "xz garbage": ("a.jsonl.xz", "no xz", lambda: b"\xfd7zXZ\0" + b"garbage" * 99),
    "truncated bz2": ("a.jsonl.bz2", "an end that is missing", lambda: bz2.compress((LINE * 99).encode())[:-9]),
    "bz2 garbage": ("a.jsonl.bz2", "no bz2", lambda: b"BZh9garbage" * 99),
    "csv gz cut": ("a.csv.gz", "an end that is missing", lambda: gzip.compress(b"prompt,completion\n" + b"a,b\n" * 9999)[:-20]),
    "integer beyond 64 bits": ("a.jsonl", "a number that does not fit", lambda: _row("Hi", x=2**70)),
    "negative beyond 64 bits": ("a.jsonl", "a number that does not fit", lambda: _row("Hi", x=-(2**70))),
    "integer of 5,000 digits": ("a.jsonl", "a limit of Python", lambda: LINE[:-2] + ', "x": ' + "9" * 5000 + "}\n"),
    "integer, then beyond": ("a.jsonl", "a number that does not fit", lambda: _row("a", x=1) + _row("b", x=2**63)),
    "integer, then float": ("a.jsonl", "two types", lambda: _row("a", x=1) + _row("b", x=1.5) + _row("c", x=2**60)),
    "float of 5,000 digits": ("a.jsonl", "a long number", lambda: LINE[:-2] + ', "x": 0.' + "9" * 5000 + "}\n"),
    "exponent": ("a.jsonl", "a number without end", lambda: LINE[:-2] + ', "x": 1e999}\n'),
    "NaN": ("a.jsonl", "no JSON", lambda: LINE[:-2] + ', "x": NaN}\n'),
    "Infinity": ("a.jsonl", "no JSON", lambda: LINE[:-2] + ', "x": -Infinity}\n'),
    "depth 70": ("a.jsonl", "the stack", lambda: _deep(70)),
    "depth 500": ("a.jsonl", "the stack", lambda: _deep(500)),
    "depth 990": ("a.jsonl", "the stack", lambda: _deep(990)),
    "depth 100,000": ("a.jsonl", "the stack", lambda: _deep(100_000)),
    "depth 70 of objects": ("a.jsonl", "the stack", lambda: _deep_object(70)),
    "depth 500 of objects": ("a.jsonl", "the stack", lambda: _deep_object(500)),
    "depth 100,000 of objects": ("a.jsonl", "the stack", lambda: _deep_object(100_000)),
    "depth in json": ("a.json", "the stack", lambda: "[" * 100_000),
    "depth in arguments": ("a.jsonl", "the stack", lambda: _row("x", tools=json.dumps([{}])[:-1] + "[" * 5000)),
    "surrogate": ("a.jsonl", "half a character", lambda: _row("\ud800")),
    "surrogate in a key": ("a.jsonl", "half a character", lambda: _row("Hi", **{"\ud800": 1})),
    "surrogate in a column": ("a.jsonl", "half a character", lambda: _row("Hi", **{"\ud800": "x"}) * 3),
    "surrogate in a nested key": ("a.jsonl", "half a character", lambda: _row("Hi", x={"\ud800": 1})),
    "NUL in a text": ("a.jsonl", "an odd character", lambda: _row("a\0b")),
    "NUL in the file": ("a.jsonl", "no JSON", lambda: b"\0" * 99 + LINE.encode()),
    "zeros": ("a.jsonl", "a hole in the file", lambda: b"\0" * 1_000_000),
    "byte order mark": ("a.jsonl", "an editor", lambda: b"\xef\xbb\xbf" + LINE.encode()),
    "mark in the middle": ("a.jsonl", "two files in one", lambda: LINE.encode() + b"\xef\xbb\xbf" + LINE.encode()),
    "UTF-16": ("a.jsonl", "an editor", lambda: LINE.encode("utf-16")),
    "UTF-16 without a mark": ("a.jsonl", "an editor", lambda: LINE.encode("utf-16-le")),
    "UTF-16 csv": ("a.csv", "an editor", lambda: "prompt,completion\na,b\n".encode("utf-16")),
    "Latin-1": ("a.jsonl", "an editor", lambda: LINE.replace("Hi", "caf\xe9").encode("latin-1")),
    "CRLF": ("a.jsonl", "an editor", lambda: LINE.replace("\n", "\r\n") * 3),
    "CR": ("a.jsonl", "an old editor", lambda: (LINE * 3).replace("\n", "\r")),
    "U+2028": ("a.jsonl", "an odd line break", lambda: _row("a\u2028b").replace("\\u2028", "\u2028") * 3),
    "array not closed": ("a.json", "an end that is missing", lambda: "[" + LINE.strip() + ",\n" + LINE.strip()),
    "array with a comma": ("a.json", "no JSON", lambda: "[" + LINE.strip() + ",]"),
    "objects in a row": ("a.jsonl", "no line breaks", lambda: LINE.strip() * 3),
    "object over lines": ("a.jsonl", "too many line breaks", lambda: json.dumps(ROW, indent=1)),
    "key twice": ("a.jsonl", "two answers", lambda: LINE[:-2] + ', "messages": []}\n'),
    "column twice in depth": ("a.jsonl", "two answers", lambda: LINE[:-2] + ', "x": {"a": 1, "a": 2}}\n'),
    "line of a list": ("a.jsonl", "no object", lambda: LINE + "[1]\n"),
    "line of a number": ("a.jsonl", "no object", lambda: "5\n"),
    "line of null": ("a.jsonl", "no object", lambda: LINE + "null\n"),
    "line cut": ("a.jsonl", "an end that is missing", lambda: LINE * 9 + LINE[:30]),
    "line empty object": ("a.jsonl", "nothing", lambda: "{}\n" * 3),
    "only blanks": ("a.jsonl", "nothing", lambda: "\n\n  \n"),
    "empty": ("a.jsonl", "nothing", lambda: ""),
    "empty array": ("a.json", "nothing", lambda: "[]"),
    "json null": ("a.json", "nothing", lambda: "null"),
    "mixed types": ("a.jsonl", "two types", lambda: _row("a", x=1) + _row("b", x="one") + _row("c", x=[1])),
    "messages of numbers": ("a.jsonl", "a type", lambda: '{"messages": [1, 2]}\n'),
    "messages a text": ("a.jsonl", "a type", lambda: '{"messages": "hello"}\n'),
    "messages mixed": ("a.jsonl", "two types", lambda: LINE + '{"messages": "hello"}\n'),
    "content mixed": ("a.jsonl", "two types", lambda: _row("a") + _row(["a"]) + _row({"a": 1}) + _row(5)),
    "10,000 rows, each with a new key": ("a.jsonl", "columns", lambda: "".join(_row("a", **{f"k{n}": n}) for n in range(10_000))),
    "one row of 100,000 keys": ("a.jsonl", "columns", lambda: _row("a", **{f"k{n}": n for n in range(100_000)})),
    "nested new keys": ("a.jsonl", "columns", lambda: "".join(_row("a", x={f"k{n}": n}) for n in range(10_000))),
    "long key": ("a.jsonl", "a long name", lambda: _row("a", **{"k" * 1_000_000: 1})),
    "row of 20 MB": ("a.jsonl", "memory", lambda: _row("x " * 10_000_000)),
    "row of 90 MB": ("a.jsonl", "memory", lambda: _row("x " * 45_000_000)),
    "row of 90 MB among others": ("a.jsonl", "memory", lambda: LINE * 300 + _row("x " * 45_000_000) + LINE * 300),
    "row of 120 MB among others": ("a.jsonl", "memory", lambda: LINE * 300 + _row("x " * 60_000_000) + LINE * 300),
    "line of 100 MB of blanks": ("a.jsonl", "memory", lambda: " " * 100_000_000 + "\n" + LINE),
    "1,000,000 empty lines": ("a.jsonl", "time", lambda: "\n" * 1_000_000 + LINE),
    "empty names": ("a.jsonl", "a name", lambda: _row("a", **{"": 1})),
    "names of ours": ("a.jsonl", "a name", lambda: _row("a", input_ids=[1], labels=[1])),
    "name with a line break": ("a.jsonl", "a name", lambda: _row("a", **{"a\nb": 1})),
    "csv column twice": ("a.csv", "two answers", lambda: "prompt,prompt\na,b\n"),
    "csv column without a name": ("a.csv", "a name", lambda: "prompt,\na,b\n"),
    "csv ragged": ("a.csv", "a row that does not fit", lambda: "prompt,completion\na,b,c\n"),
    "csv short": ("a.csv", "a row that does not fit", lambda: "prompt,completion\na\n"),
    "csv NUL": ("a.csv", "an odd character", lambda: b"prompt,completion\na\0,b\n"),
    "csv unclosed": ("a.csv", "an end that is missing", lambda: 'prompt,completion\n"a,b\n' + "c,d\n" * 100_000),
    "csv 10,000 columns": ("a.csv", "columns", lambda: ",".join(f"c{n}" for n in range(10_000)) + "\n" + ",".join("x" * 10_000) + "\n"),
    "csv 10,000 columns, one twice": ("a.csv", "columns", lambda: ",".join(["c0", *(f"c{n}" for n in range(10_000))]) + "\n"),
    "csv header only": ("a.csv", "nothing", lambda: "prompt,completion\n"),
    "csv not UTF-8": ("a.csv", "an editor", lambda: b"prompt,completion\n\xff,b\n"),
    "csv quote in a value": ("a.csv", "quotes", lambda: 'prompt,completion\na"b,c\n'),
    "csv bare CR": ("a.csv", "an old editor", lambda: "prompt,completion\ra,b\r"),
    "tsv of commas": ("a.tsv", "a name that lies", lambda: "prompt,completion\na,b\n"),
    "txt not UTF-8": ("a.txt", "an editor", lambda: b"hello\n\xff\n"),
    "txt of one line": ("a.txt", "a long line", lambda: "x " * 5_000_000),
    "unknown kind": ("a.bin", "a kind", lambda: b"hello"),
    "no kind": ("data", "a kind", lambda: LINE),
    "arrow garbage": ("a.arrow", "no Arrow", lambda: b"garbage" * 99),
    "arrow empty": ("a.arrow", "nothing", lambda: b""),
    "arrow zeros": ("a.arrow", "no Arrow", lambda: b"\0" * 10_000),
    "arrow huge length": ("a.arrow", "a length that lies", lambda: b"\xff\xff\xff\xff" + struct.pack("<i", 2**31 - 1) + b"x" * 99),
    "arrow cut": ("a.arrow", "an end that is missing", lambda: _arrow(pa.table({"prompt": ["a"] * 999}))[:-300]),
    "parquet garbage": ("a.parquet", "no Parquet", lambda: b"PAR1" + b"garbage" * 99 + b"PAR1"),
    "parquet cut": ("a.parquet", "an end that is missing", lambda: _parquet(pa.table({"prompt": ["a"] * 999}))[:-50]),
    "parquet empty": ("a.parquet", "nothing", lambda: b""),
    "parquet of no rows": ("a.parquet", "nothing", lambda: _parquet(pa.table({"prompt": pa.array([], pa.string())}))),
    "parquet of no columns": ("a.parquet", "nothing", lambda: _parquet(pa.table({}))),
    "parquet pages damaged": ("a.parquet", "damage", lambda: _damaged(_parquet(pa.table({"prompt": [str(n) * 9 for n in range(9999)]})))),
    "parquet footer lies": ("a.parquet", "a length that lies", lambda: _parquet(pa.table({"prompt": ["a"]}))[:-8] + struct.pack("<i", 2**31 - 1) + b"PAR1"),
    "parquet bomb": ("a.parquet", "memory", lambda: _parquet(pa.table({"text": pa.array(["x" * 200_000_000])}), compression="zstd")),
    "csv bomb of quotes": ("a.csv", "time", lambda: "prompt,completion\n" + '"' * 2_000_000),
}  # fmt: skip


def _arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _damaged(content: bytes) -> bytes:
    middle = len(content) // 3
    return content[:middle] + bytes(byte ^ 0x5A for byte in content[middle : middle + 200]) + content[middle + 200 :]


def _messages(rows: int = 3) -> pa.Array:
    return pa.array([ROW["messages"]] * rows)


def _beside(column: pa.Array, **names: pa.Array) -> pa.Table:
    return pa.table({"messages": _messages(len(column)), "x": column, **names})


COLUMNS: dict[str, Callable[[], pa.Table]] = {
    "map": lambda: _beside(pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64()))),
    "map of numbers": lambda: _beside(pa.array([[(1, 1)]] * 3, pa.map_(pa.int64(), pa.int64()))),
    "union": lambda: _beside(pa.UnionArray.from_sparse(pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3]), pa.array(["a", "b", "c"])])),
    "dense union": lambda: _beside(pa.UnionArray.from_dense(pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["a"])])),
    "run-end": lambda: _beside(pa.RunEndEncodedArray.from_arrays(pa.array([1, 3], pa.int32()), pa.array(["a", "b"]))),
    "list view": lambda: _beside(pa.array([["a"], [], ["b"]], pa.list_view(pa.string()))),
    "messages as a list view": lambda: pa.table({"messages": pa.array([ROW["messages"]] * 3, pa.list_view(_messages().type.value_type))}),
    "string view": lambda: _beside(pa.array(["a", "b", "c"], pa.string_view())),
    "prompt as a string view": lambda: pa.table({"prompt": pa.array(["a"] * 3, pa.string_view()), "completion": ["b"] * 3}),
    "dictionary": lambda: _beside(pa.array(["a", "b", "a"]).dictionary_encode()),
    "prompt as a dictionary": lambda: pa.table({"prompt": pa.array(["a"] * 3).dictionary_encode(), "completion": ["b"] * 3}),
    "decimal": lambda: _beside(pa.array([1, 2, 3], pa.decimal128(10, 2))),
    "duration": lambda: _beside(pa.array([1, 2, 3], pa.duration("ns"))),
    "interval": lambda: _beside(pa.array([(1, 2, 3)] * 3, pa.month_day_nano_interval())),
    "time": lambda: _beside(pa.array([1, 2, 3], pa.time64("ns"))),
    "dates beyond": lambda: _beside(pa.array([2**40] * 3, pa.timestamp("s"))),
    "binary": lambda: _beside(pa.array([b"a", b"\xff", b"c"])),
    "prompt as binary": lambda: pa.table({"prompt": [b"a", b"\xff"], "completion": ["b", "c"]}),
    "half floats": lambda: _beside(pa.array(np.array([1, 2, 3], np.float16))),
    "null": lambda: _beside(pa.nulls(3)),
    "all null": lambda: pa.table({"messages": pa.nulls(3), "x": pa.nulls(3)}),
    "empty struct": lambda: _beside(pa.array([{}, {}, {}], pa.struct([]))),
    "deep struct": lambda: _beside(pa.array([_nested(60)] * 3)),
    "fixed lists": lambda: _beside(pa.array([[1, 2]] * 3, pa.list_(pa.int64(), 2))),
    "fixed lists of none": lambda: _beside(pa.array([[]] * 3, pa.list_(pa.int64(), 0))),
    "extension": lambda: _beside(pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0123456789abcdef"] * 3, pa.binary(16)))),
    "json extension": lambda: _beside(pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}'] * 3))),
    "names twice": lambda: pa.Table.from_arrays([_messages(), _messages()], names=["messages", "messages"]),
    "names twice in depth": lambda: _beside(pa.StructArray.from_arrays([pa.array([1, 2, 3])] * 2, names=["a", "a"])),
    "role twice": lambda: pa.table({"messages": pa.ListArray.from_arrays([0, 2], pa.StructArray.from_arrays([pa.array(["user", "assistant"])] * 2 + [pa.array(["a", "b"])], names=["role", "role", "content"]))}),
    "empty name": lambda: pa.table({"messages": _messages(), "": pa.array([1, 2, 3])}),
    "2,000 columns": lambda: _beside(pa.array([1, 2, 3]), **{f"c{n}": pa.array([n] * 3) for n in range(2000)}),
    "metadata no JSON": lambda: _beside(pa.array([1, 2, 3])).replace_schema_metadata({"huggingface": "{"}),
    "metadata a list": lambda: _beside(pa.array([1, 2, 3])).replace_schema_metadata({"huggingface": "[]"}),
    "metadata odd": lambda: _beside(pa.array([1, 2, 3])).replace_schema_metadata({"huggingface": '{"info": {"features": 5}}'}),
    "metadata unknown": lambda: _beside(pa.array([1, 2, 3])).replace_schema_metadata({"huggingface": '{"info": {"features": {"x": {"_type": "Bogus"}}}}'}),
    "metadata that lies": lambda: _beside(pa.array([1, 2, 3])).replace_schema_metadata({"huggingface": '{"info": {"features": {"y": {"dtype": "string", "_type": "Value"}}}}'}),
    "metadata as an image": lambda: _beside(pa.array([1, 2, 3])).replace_schema_metadata({"huggingface": '{"info": {"features": {"messages": {"_type": "Image"}, "x": {"_type": "Audio"}}}}'}),
    "metadata not UTF-8": lambda: _beside(pa.array([1, 2, 3])).replace_schema_metadata({b"huggingface": b"\xff"}),
    "invalid text": lambda: pa.table({"prompt": pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(struct.pack("<iii", 0, 1, 2)), pa.py_buffer(b"\xff\xfe")]), "completion": ["a", "b"]}),
}  # fmt: skip


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def _columns(make: Callable[[], pa.Table], kind: str) -> str:
    table = make()
    try:
        content = _parquet(table) if kind == "parquet" else _arrow(table)
    except (pa.ArrowException, NotImplementedError):  # no file can hold it
        return "no such file can be"
    return prepared(f"a.{kind}", content)


def _place(name: str, make: Callable[[Path], object]) -> str:
    """Something that is no file, where one is expected."""
    make(Path(name))
    return prepared(name)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as found:
        found.bind(str(path))


PLACES: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "folder": Path.mkdir,
    "socket": _socket,
    "link to nowhere": lambda path: path.symlink_to("nowhere"),
    "loop of links": lambda path: path.symlink_to(path.name),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to a folder": lambda path: path.symlink_to("/"),
    "sparse 100 GB": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 100 << 30),
}


def _folder(make: Callable[[Path], object], name: str) -> str:
    """A folder of data with something odd in it."""
    Path("data").mkdir()
    write("data/train.jsonl", LINE * 3)
    make(Path("data") / name)
    return prepared("data")


# Tokenizers


def tokenizer(change: Callable[[Path], object]) -> str:
    """Prepare with a copy of the embedded tokenizer that was changed."""
    shutil.copytree(tokenizer_path(), "tok")
    change(Path("tok"))
    write("run.yaml", "tokenizer: tok\ndatasets: embedded\n")
    return command("prepare", "run.yaml", "-o", "out")


def _json(name: str, change: Callable[[Any], object]) -> Callable[[Path], object]:
    def changed(folder: Path) -> None:
        value = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        found = change(value)
        write(str(folder / name), json.dumps(value if found is None else found))

    return changed


def _text(name: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda folder: write(str(folder / name), content)


def _code(folder: Path) -> None:
    """A folder that wants its own code to be run."""
    (folder / "mine.py").write_text("open('imported', 'w')\nclass Mine: pass\n")
    _json(
        "tokenizer_config.json",
        lambda value: value.update(auto_map={"AutoTokenizer": ["mine.Mine", "mine.Mine"]}, tokenizer_class="Mine"),
    )(folder)


def _vocab(value: Any) -> Any:
    return value["model"]["vocab"]


TOKENIZERS: dict[str, Callable[[Path], object]] = {
    "tokenizer.json a list": _text("tokenizer.json", "[]"),
    "tokenizer.json null": _text("tokenizer.json", "null"),
    "tokenizer.json empty": _text("tokenizer.json", ""),
    "tokenizer.json an empty object": _text("tokenizer.json", "{}"),
    "tokenizer.json cut": lambda folder: os.truncate(folder / "tokenizer.json", 1000),
    "tokenizer.json deep": _text("tokenizer.json", "[" * 100_000),
    "tokenizer.json not UTF-8": _text("tokenizer.json", b"\xff\xfe{}"),
    "tokenizer.json a folder": lambda folder: ((folder / "tokenizer.json").unlink(), (folder / "tokenizer.json").mkdir()),
    "tokenizer.json a FIFO": lambda folder: ((folder / "tokenizer.json").unlink(), os.mkfifo(folder / "tokenizer.json")),
    "tokenizer.json a loop": lambda folder: ((folder / "tokenizer.json").unlink(), (folder / "tokenizer.json").symlink_to("tokenizer.json")),
    "tokenizer.json a device": lambda folder: ((folder / "tokenizer.json").unlink(), (folder / "tokenizer.json").symlink_to("/dev/zero")),
    "no tokenizer.json": lambda folder: (folder / "tokenizer.json").unlink(),
    "no model": _json("tokenizer.json", lambda value: value.pop("model") and None),
    "model null": _json("tokenizer.json", lambda value: value.update(model=None)),
    "vocab empty": _json("tokenizer.json", lambda value: _vocab(value).clear()),
    "vocab a list": _json("tokenizer.json", lambda value: value["model"].update(vocab=[1])),
    "id -1": _json("tokenizer.json", lambda value: _vocab(value).update({"a": -1})),
    "id 2 to the 32": _json("tokenizer.json", lambda value: _vocab(value).update({"a": 2**32})),
    "id 2 to the 32 - 1": _json("tokenizer.json", lambda value: _vocab(value).update({"a": 2**32 - 1})),
    "id 2 to the 31": _json("tokenizer.json", lambda value: _vocab(value).update({"a": 2**31})),
    "id a text": _json("tokenizer.json", lambda value: _vocab(value).update({"a": "1"})),
    "id twice": _json("tokenizer.json", lambda value: _vocab(value).update({"a": _vocab(value)["b"]})),
    "bad merges": _json("tokenizer.json", lambda value: value["model"].update(merges=[["no", "such"]])),
    "merges of numbers": _json("tokenizer.json", lambda value: value["model"].update(merges=[1, 2])),
    "merges a text": _json("tokenizer.json", lambda value: value["model"].update(merges="a b")),
    "unknown pre-tokenizer": _json("tokenizer.json", lambda value: value.update(pre_tokenizer={"type": "Bogus"})),
    "bad expression": _json("tokenizer.json", lambda value: value.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False})),
    "slow expression": _json("tokenizer.json", lambda value: value.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False})),
    "added token without an id": _json("tokenizer.json", lambda value: value["added_tokens"].append({"content": "x"})),
    "added token of a far id": _json("tokenizer.json", lambda value: value["added_tokens"].append({**value["added_tokens"][0], "id": 10**9, "content": "<far>"})),
    "added token negative": _json("tokenizer.json", lambda value: value["added_tokens"].append({**value["added_tokens"][0], "id": -5, "content": "<far>"})),
    "added token empty": _json("tokenizer.json", lambda value: value["added_tokens"].append({**value["added_tokens"][0], "id": 9000, "content": ""})),
    "added tokens 10,000": _json("tokenizer.json", lambda value: value["added_tokens"].extend({**value["added_tokens"][0], "id": 10_000 + n, "content": f"<x{n}>"} for n in range(10_000))),
    "post-processor odd": _json("tokenizer.json", lambda value: value.update(post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<bogus>", "type_id": 0}}], "pair": [], "special_tokens": {}})),
    "truncation": _json("tokenizer.json", lambda value: value.update(truncation={"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0})),
    "padding": _json("tokenizer.json", lambda value: value.update(padding={"strategy": {"Fixed": 512}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "x"})),
    "config a list": _text("tokenizer_config.json", "[]"),
    "config empty": _text("tokenizer_config.json", ""),
    "config cut": _text("tokenizer_config.json", '{"eos_token": '),
    "config deep": _text("tokenizer_config.json", '{"a": ' * 50_000),
    "config class unknown": _json("tokenizer_config.json", lambda value: value.update(tokenizer_class="Bogus")),
    "config class a number": _json("tokenizer_config.json", lambda value: value.update(tokenizer_class=5)),
    "eos a number": _json("tokenizer_config.json", lambda value: value.update(eos_token=5)),
    "eos a list": _json("tokenizer_config.json", lambda value: value.update(eos_token=["a"])),
    "eos an object": _json("tokenizer_config.json", lambda value: value.update(eos_token={"a": 1})),
    "eos unknown": _json("tokenizer_config.json", lambda value: value.update(eos_token="<bogus>")),
    "eos empty": _json("tokenizer_config.json", lambda value: value.update(eos_token="")),
    "added_tokens_decoder odd": _json("tokenizer_config.json", lambda value: value.update(added_tokens_decoder={"x": {"content": 5}})),
    "added_tokens_decoder far": _json("tokenizer_config.json", lambda value: value.update(added_tokens_decoder={"999999999": {"content": "<far>", "special": True}})),
    "model_max_length a text": _json("tokenizer_config.json", lambda value: value.update(model_max_length="many")),
    "its own code": _code,
    "template a number": lambda folder: ((folder / "chat_template.jinja").unlink(), _json("tokenizer_config.json", lambda value: value.update(chat_template=5))(folder)),
    "template a list of numbers": lambda folder: ((folder / "chat_template.jinja").unlink(), _json("tokenizer_config.json", lambda value: value.update(chat_template=[5]))(folder)),
    "template a list of names": lambda folder: ((folder / "chat_template.jinja").unlink(), _json("tokenizer_config.json", lambda value: value.update(chat_template=[{"name": "a"}]))(folder)),
    "template an object": lambda folder: ((folder / "chat_template.jinja").unlink(), _json("tokenizer_config.json", lambda value: value.update(chat_template={"a": 1}))(folder)),
    "template empty": _text("chat_template.jinja", ""),
    "template not UTF-8": _text("chat_template.jinja", b"\xff{{ messages }}"),
    "template of 20 MB": _text("chat_template.jinja", "x" * 20_000_000),
    "template a folder": lambda folder: ((folder / "chat_template.jinja").unlink(), (folder / "chat_template.jinja").mkdir()),
    "more templates odd": lambda folder: ((folder / "additional_chat_templates").mkdir(), write(str(folder / "additional_chat_templates" / "a.jinja"), b"\xff")),
    "special_tokens_map a list": _text("special_tokens_map.json", "[]"),
    "special_tokens_map odd": _text("special_tokens_map.json", '{"eos_token": {"content": 5}}'),
    "special_tokens_map cut": _text("special_tokens_map.json", '{"eos'),
    "added_tokens.json a list": _text("added_tokens.json", "[]"),
    "generation_config a list": _text("generation_config.json", "[]"),
    "generation_config null": _text("generation_config.json", "null"),
    "generation_config empty": _text("generation_config.json", ""),
    "generation_config deep": _text("generation_config.json", "[" * 100_000),
    "generation_config not UTF-8": _text("generation_config.json", b"\xff"),
    "generation_config a FIFO": lambda folder: os.mkfifo(folder / "generation_config.json"),
    "stops floats": _text("generation_config.json", '{"eos_token_id": [1.5]}'),
    "stops texts": _text("generation_config.json", '{"eos_token_id": ["a"]}'),
    "stops an object": _text("generation_config.json", '{"eos_token_id": {"a": 1}}'),
    "stops true": _text("generation_config.json", '{"eos_token_id": true}'),
    "stops nested": _text("generation_config.json", '{"eos_token_id": [[1]]}'),
    "stops beyond": _text("generation_config.json", '{"eos_token_id": 99999999999999999999}'),
    "stops negative": _text("generation_config.json", '{"eos_token_id": [-1]}'),
    "stops 1,000,000": _text("generation_config.json", json.dumps({"eos_token_id": list(range(1_000_000))})),
    "a large train.json beside it": lambda folder: os.truncate(os.open(folder / "train.json", os.O_CREAT | os.O_RDWR), 3 << 30),
    "a large train.txt beside it": lambda folder: os.truncate(os.open(folder / "train.txt", os.O_CREAT | os.O_RDWR), 3 << 30),
    "a FIFO beside it": lambda folder: os.mkfifo(folder / "config.json"),
    "config.json a list": _text("config.json", "[]"),
    "config.json odd": _text("config.json", '{"model_type": 5}'),
    "config.json unknown model": _text("config.json", '{"model_type": "bogus"}'),
}  # fmt: skip


# Output folders


def output(make: Callable[[Path], object], name: str = "out") -> str:
    """Prepare into a place where something is already; what was there stays."""
    make(Path(name))
    before = _contents(Path.cwd())
    begin()
    command("prepare", "embedded", "-o", name)
    after = _contents(Path.cwd())
    gone = {path: text for path, text in before.items() if after.get(path) != text and path.name != "gone-is-fine"}
    if gone and not any(path.name == "manifest.json" and b"instruct_fmt" in text for path, text in before.items()):
        raise Wrong(f"gone or changed: {min(gone)}")
    if theirs := [path for path in gone if path.name == "thesis.txt"]:
        raise Wrong(f"gone or changed: {theirs[0]}")
    return ""


def _contents(folder: Path) -> dict[Path, bytes]:
    found = {}
    for root, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if one != "cache"]
        for name in files:
            path = Path(root) / name
            if path.is_file() and not path.is_symlink():
                found[path] = path.read_bytes()
    return found


def _earlier(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """A result of an earlier run, changed."""

    def made(path: Path) -> None:
        command("prepare", "embedded", "-o", str(path))
        change(path)

    return made


def _theirs(manifest: str | bytes) -> Callable[[Path], object]:
    def made(path: Path) -> None:
        path.mkdir()
        write(str(path / "manifest.json"), manifest)
        write(str(path / "thesis.txt"), "x")

    return made


def _member(**changes: Any) -> Callable[[Path], object]:
    return _earlier(lambda path: _json("manifest.json", lambda value: value.update(changes))(path))


OUTPUTS: dict[str, Callable[[Path], object]] = {
    "their manifest": _theirs("{}"),
    "their manifest, a list": _theirs("[]"),
    "their manifest, empty": _theirs(""),
    "their manifest, deep": _theirs("[" * 100_000),
    "their manifest, not UTF-8": _theirs(b"\xff"),
    "their manifest, much like ours": _theirs('{"parts": {}, "files": {"thesis.txt": {"size": 1, "modified": 1, "digest": "x"}}, "made_by": "me"}'),
    "their files": lambda path: (path.mkdir(), write(str(path / "thesis.txt"), "x")),
    "a file": lambda path: write(str(path), "x"),
    "an empty file": lambda path: write(str(path), ""),
    "a FIFO": os.mkfifo,
    "a loop of links": lambda path: path.symlink_to(path.name),
    "a link to their folder": lambda path: (Path("their").mkdir(), write("their/thesis.txt", "x"), path.symlink_to("their")),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to the root": lambda path: path.symlink_to("/"),
    "ours with a file of theirs": _earlier(lambda path: write(str(path / "thesis.txt"), "x")),
    "ours with a folder of theirs": _earlier(lambda path: ((path / "more").mkdir(), write(str(path / "more" / "thesis.txt"), "x"))),
    "ours, parts of the wrong type": _member(parts=5),
    "ours, files of the wrong type": _member(files=[1]),
    "ours, counts of the wrong type": _member(counts={"rows": "many"}),
    "ours, unread of the wrong type": _member(unread={"a": 5}),
    "ours, layout of the wrong type": _member(layout="new"),
    "ours, versions of the wrong type": _member(versions=[]),
    "ours, output of the wrong type": _member(output=5),
    "ours, a member too many": _member(more=5),
    "ours, files elsewhere": _member(files={"../thesis.txt": {"size": 14, "modified": 1, "digest": "x"}}),
    "ours, absolute files": _member(files={"/etc/passwd": {"size": 14, "modified": 1, "digest": "x"}}),
    "ours, ledger broken": _earlier(lambda path: write(str(path / "rejected.jsonl"), "garbage\n")),
    "ours, ledger gone": _earlier(lambda path: (path / "rejected.jsonl").unlink()),
    "ours, data zeroed": _earlier(lambda path: [write(str(one), bytes(one.stat().st_size)) for one in path.glob("*.arrow")]),
    "ours, data cut": _earlier(lambda path: [os.truncate(one, 10) for one in path.glob("*.arrow")]),
    "ours, data gone": _earlier(lambda path: [one.unlink() for one in path.glob("*.arrow")]),
    "ours, data a link": _earlier(lambda path: [(one.rename("moved"), one.symlink_to(Path("moved").resolve())) for one in path.glob("*.arrow")]),
    "ours, state broken": _earlier(lambda path: write(str(path / "state.json"), "[]")),
    "ours, info broken": _earlier(lambda path: write(str(path / "dataset_info.json"), "[]")),
    "ours, manifest cut": _earlier(lambda path: os.truncate(path / "manifest.json", 10)),
}  # fmt: skip

CALLS: dict[str, list[str]] = {
    "output root": ["prepare", "embedded", "-o", "/"],
    "output here": ["prepare", "embedded", "-o", "."],
    "output above": ["prepare", "embedded", "-o", ".."],
    "output home": ["prepare", "embedded", "-o", "~"],
    "output of nobody": ["prepare", "embedded", "-o", "~nobody-of-that-name/x"],
    "output NUL": ["prepare", "embedded", "-o", "a\0b"],
    "output long": ["prepare", "embedded", "-o", "x" * 5000],
    "output empty": ["prepare", "embedded", "-o", ""],
    "output in a file": ["prepare", "embedded", "-o", "thesis.txt/out"],
    "output in proc": ["prepare", "embedded", "-o", "/proc/out"],
    "output a device": ["prepare", "embedded", "-o", "/dev/null"],
    "output surrogate": ["prepare", "embedded", "-o", "\udcff"],
    "config a folder": ["prepare", "."],
    "config a device": ["prepare", "/dev/zero"],
    "config none": ["prepare", "no-such.yaml"],
    "config empty": ["prepare", ""],
    "config NUL": ["prepare", "a\0b"],
    "config long": ["prepare", "x" * 5000],
    "config surrogate": ["prepare", "\udcff"],
    "config of nobody": ["prepare", "~nobody-of-that-name/x.yaml"],
    "config a text": ["prepare", "thesis.txt"],
    "row beyond": ["preview", "embedded", "--row", "99999999999999999999"],
    "row negative": ["preview", "embedded", "--row", "-1"],
    "rows beyond": ["preview", "embedded", "--rows", "99999999999999999999"],
    "dataset beyond": ["render", "embedded", "--dataset", "99999999999999999999"],
    "num-proc beyond": ["prepare", "embedded", "-o", "out", "--num-proc", "99999999999999999999"],
    "check rows beyond": ["check", "embedded", "--rows", "99999999999999999999"],
    "no such command": ["bogus"],
    "no such option": ["prepare", "--bogus"],
    "template unknown": ["templates", "show", "bogus"],
    "template up": ["templates", "show", "../../../etc/passwd"],
    "template NUL": ["templates", "show", "a\0b"],
}


def _modules() -> str:
    """Modules of the current folder with the names of others, and worker processes."""
    for name in ("pickle", "json", "datasets", "pyarrow", "instruct_fmt", "sitecustomize", "numpy"):
        write(f"{name}.py", "open('imported', 'w')\n")
    write("a.jsonl", LINE * 60_000)
    return prepared("a.jsonl", None, "--num-proc", "2")


def cases() -> Iterator[Case]:
    """All of them."""
    for name, (tries, text) in CONFIGS.items():
        yield Case(f"config: {name}", tries, partial(configured, text))
    for name, text in INFOS.items():
        yield Case(f"dataset_info.json: {name}", "a file of another tool", partial(_info, text))
    for setting in SETTINGS:
        shown = setting.encode("utf-8", errors="replace").decode()
        label = shown if len(shown) < 40 else shown[:39] + "…"
        yield Case(
            f"--set {label}",
            "a change of a key",
            partial(command, "prepare", "embedded", "-o", "out", "--set", setting),
        )
    for name, arguments in CALLS.items():
        yield Case(f"call: {name}", "an argument", partial(command, *arguments))
    for name, (file, tries, make) in TEXTS.items():
        yield Case(f"data: {name}", tries, partial(_made, file, make))
    for name, table in COLUMNS.items():
        yield Case(f"parquet: {name}", "a column", partial(_columns, table, "parquet"))
        yield Case(f"arrow: {name}", "a column", partial(_columns, table, "arrow"))
    for name, place in PLACES.items():
        for file in ("a.jsonl", "a.csv", "a.parquet", "a.arrow"):
            yield Case(f"{file}: {name}", "no file", partial(_place, file, place))
        yield Case(f"folder with a {name}", "no file", partial(_folder, place, "test.jsonl"))
        yield Case(f"configuration: {name}", "no file", partial(_configuration, place))
    for name, change in TOKENIZERS.items():
        yield Case(f"tokenizer: {name}", "a tokenizer's folder", partial(tokenizer, change))
    for name, there in OUTPUTS.items():
        yield Case(f"output: {name}", "what lies there", partial(output, there))
    yield Case("modules in the current folder", "code", _modules)


def _made(file: str, make: Callable[[], str | bytes]) -> str:
    write(file, make())
    begin()
    return prepared(file)


def _configuration(place: Callable[[Path], object]) -> str:
    place(Path("run.yaml"))
    return command("prepare", "run.yaml", "-o", "out")
