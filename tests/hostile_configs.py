"""Hostile YAML, hostile `--set`, and hostile entries of a `dataset_info.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Text = str | bytes | Callable[[], str | bytes]
GOOD = "tokenizer: embedded\ntemplate: chatml\ndatasets: embedded\noutput: out\n"


def _laughs(depth: int) -> str:
    lines = ["l0: &l0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, depth)]
    return "\n".join(lines) + "\n"


def _key(text: str) -> str:
    """A good configuration without the key that the text gives again."""
    name = text.split(":")[0]
    return "".join(line + "\n" for line in GOOD.splitlines() if not line.startswith(f"{name}:")) + text + "\n"


_VALUES = (
    "null",
    "[]",
    "{}",
    "5",
    "-1",
    "true",
    "1.5",
    ".nan",
    ".inf",
    "''",
    "' '",
    "[1, null]",
    "{a: {b: c}}",
    "2025-01-02",
    "!!binary AAAA",
    "!!set {a, b}",
    "'{{ 7*7 }}'",
    "a\\0b",
    "~nobody/x",
    "[[[[]]]]",
    "99999999999999999999999999",
)
_KEYS = (
    "tokenizer",
    "datasets",
    "template",
    "output",
    "max_length",
    "num_proc",
    "now",
    "stop",
    "columns",
    "roles",
    "template_kwargs",
    "train_on",
    "max_rejected",
    "special_tokens",
    "field_map",
    "completion_format",
    "backend",
    "keep_columns",
)

CONFIGS: Mapping[str, Text] = {
    "empty": "",
    "blanks": "   \n\t\n",
    "only a comment": "# nothing",
    "a list": "- a\n- b\n",
    "a text": "hello",
    "a number": "5",
    "null": "~",
    "two documents": GOOD + "---\n" + GOOD,
    "an end of document": GOOD + "...\nmore: 1\n",
    "a list as a key": GOOD + "? [a, b]\n: c\n",
    "a mapping as a key": GOOD + "? {a: b}\n: c\n",
    "null as a key": GOOD + "~: c\n",
    "a number as a key": GOOD + "5: c\n",
    "true as a key": GOOD + "true: c\n",
    "a date as a key": GOOD + "2025-01-02: c\n",
    "NaN as a key": GOOD + ".nan: c\n",
    "a bad date as a key": GOOD + "2025-13-45: c\n",
    "a binary as a key": GOOD + "!!binary AAAA: c\n",
    "a recursive key": GOOD + "? &a [*a]\n: c\n",
    "a key given twice": GOOD + "tokenizer: embedded\n",
    "list keys twice": GOOD + "? [a]\n: c\n? [a]\n: d\n",
    "a month of 13": _key("now: 2025-13-45"),
    "a day of 0": _key("now: 2025-01-00"),
    "an hour of 99": _key("now: 2025-01-01 99:00:00"),
    "a zone of 99 hours": _key("now: 2025-01-01 10:00:00 +99:00"),
    "year 0": _key("now: 0000-01-01"),
    "year 1": _key("now: 0001-01-01T00:00:00+14:00"),
    "year 9999": _key("now: 9999-12-31T23:59:59-12:00"),
    "a bad date in a text key": _key("system: 2025-02-30"),
    "5,000 digits": _key("max_length: " + "9" * 5_000),
    "1 MB of digits": _key("max_length: " + "9" * 1_000_000),
    "hexadecimal of 1 MB": _key("max_length: 0x" + "f" * 1_000_000),
    "octal with nines": _key("max_length: 0o999"),
    "sexagesimal": _key("max_length: " + ":".join(["59"] * 2_000)),
    "an exponent of a million": _key("max_rejected: 1.0e+1000000"),
    "depth 100": _key("columns: " + "[" * 100 + "]" * 100),
    "depth 3,000": _key("columns: " + "[" * 3_000 + "]" * 3_000),
    "depth 100,000": _key("columns: " + "[" * 100_000 + "]" * 100_000),
    "depth 3,000 of mappings": _key("columns: " + "{a: " * 3_000 + "}" * 3_000),
    "depth 1,000 of blocks": _key("columns:\n" + "".join(" " * i + "a:\n" for i in range(1, 1_000))),
    "an alias to itself": _key("columns: &a [*a]"),
    "an alias to itself in a mapping": _key("columns: &a {b: *a}"),
    "an alias to itself in data": _key("datasets: &a [*a]"),
    "an alias to itself, everything": "&a\ntokenizer: embedded\ndatasets: *a\n",
    "an alias to itself in variables": _key("template_kwargs: &a {b: *a}"),
    "a merge of itself": "a: &a\n  <<: *a\n",
    "merges": GOOD + "<<: {max_length: 5}\n<<: [{a: b}]\n",
    "a merge of a text": GOOD + "<<: abc\n",
    "a billion laughs": _laughs(10) + GOOD,
    "a billion laughs in variables": _laughs(10) + _key("template_kwargs: {a: *l9}"),
    "a billion laughs in columns": _laughs(10) + _key("columns: *l9"),
    "a billion laughs in data": _laughs(10) + _key("datasets: *l9"),
    "a billion laughs as a key": _laughs(10) + GOOD + "? *l9\n: a\n",
    "an unknown alias": GOOD + "a: *nothing\n",
    "a tag of Python": GOOD + "a: !!python/object/apply:os.system ['touch hostile']\n",
    "a tag of a Python name": GOOD + "a: !!python/name:os.system\n",
    "a tag of nobody": GOOD + "a: !nobody b\n",
    "a tag of a bad int": _key("max_length: !!int abc"),
    "a tag of a bad float": _key("max_rejected: !!float abc"),
    "a tag of a bad bool": _key("train_on_inputs: !!bool perhaps"),
    "a tag of a bad date": _key("now: !!timestamp abc"),
    "a tag of a bad binary": _key("system: !!binary '%%%'"),
    "a tag of omap": _key("columns: !!omap [a: b, a: c]"),
    "a tag of pairs": _key("columns: !!pairs [a: b]"),
    "a tag of a set": _key("stop: !!set {a, b}"),
    "a tag of an empty int": _key("max_length: !!int ''"),
    "an int of signs": _key("max_length: +_"),
    "a binary of an int": _key("max_length: 0b"),
    "a value of `=`": _key("system: ="),
    "a BOM": b"\xef\xbb\xbf" + GOOD.encode(),
    "UTF-16": GOOD.encode("utf-16"),
    "UTF-16 without a BOM": GOOD.encode("utf-16-le"),
    "UTF-32": GOOD.encode("utf-32"),
    "Latin 1": (GOOD + "system: é\n").encode("latin-1"),
    "NUL": GOOD + "system: a\0b\n",
    "NUL by escape": GOOD + 'system: "a\\0b"\n',
    "NUL in a path": _key('datasets: "a\\0b.jsonl"'),
    "NUL in a tokenizer": _key('tokenizer: "a\\0b"'),
    "NUL in a template": _key('template: "a\\0b.jinja"'),
    "NUL in an output": _key('output: "a\\0b"'),
    "surrogates": GOOD.encode() + b"system: \xed\xa0\x80\n",
    "surrogates by escape": GOOD + 'system: "\\ud800"\n',
    "surrogates in a path": _key('datasets: "\\ud800.jsonl"'),
    "surrogates in an output": _key('output: "\\ud800"'),
    "surrogates in a key": GOOD + '"\\ud800": 1\n',
    "garbage": bytes(range(256)) * 40,
    "a tab for a blank": "tokenizer:\tembedded\n\tdatasets: a\n",
    "returns": GOOD.replace("\n", "\r"),
    "line separators": GOOD.replace("\n", "\u2028"),
    "a percent directive": "%YAML 9.9\n---\n" + GOOD,
    "a tag directive": "%TAG ! tag:a,2000:\n---\n" + GOOD,
    "JSON": '{"tokenizer": "embedded", "datasets": "embedded", "output": "out"}',
    "broken JSON": '{"tokenizer": "embedded", "datasets": ',
    "10,000 unknown keys": GOOD + "".join(f"k{i}: 1\n" for i in range(10_000)),
    "200 data sets": lambda: _key("datasets: [" + "embedded, " * 200 + "]"),
    "a key of 1 MB": GOOD + "k" * 1_000_000 + ": 1\n",
    "a value of 10 kB": _key("system: " + "s" * 10_000),
    "a value of 1 MB": _key("backend: " + "s" * 1_000_000),
    "a path of 1 MB": _key("datasets: " + "s" * 1_000_000),
    "a tokenizer of 1 MB": _key("tokenizer: " + "s" * 1_000_000),
    "an output of 1 MB": _key("output: " + "s" * 1_000_000),
    "keys of Python": GOOD + "__class__: 1\nself: 2\nmodel_config: 3\nmodel_fields: 4\n",
    "a data set of itself": _key("datasets: c.yaml"),
    "a data set of a device": _key("datasets: /dev/zero"),
    "a data set of the terminal": _key("datasets: /dev/stdin"),
    "a data set of standard input": _key("datasets: /proc/self/fd/0"),
    "a data set of memory": _key("datasets: /proc/self/mem"),
    "a data set of the root": _key("datasets: /"),
    "a data set of a parent": _key("datasets: .."),
    "a data set of a URL": _key("datasets: http://127.0.0.1:9/x.jsonl"),
    "a data set of a file URL": _key("datasets: file:///etc/passwd"),
    "a data set of another scheme": _key("datasets: s3://x/y.jsonl"),
    "a data set of a pipe": _key("datasets: zip://a.jsonl::b.zip"),
    "a data set of a script": _key("datasets: script.py"),
    "a template of a device": _key("template: /dev/zero"),
    "a template of a folder": _key("template: /"),
    "a template of passwd": _key("template: /etc/passwd"),
    "a template of environ": _key("template: /proc/self/environ"),
    "a tokenizer of a device": _key("tokenizer: /dev/zero"),
    "a tokenizer of the root": _key("tokenizer: /"),
    "a tokenizer of a file": _key("tokenizer: c.yaml"),
    "a tokenizer of a URL": _key("tokenizer: http://127.0.0.1:9/x"),
    "a tokenizer of here": _key("tokenizer: ."),
}
"""Each configuration, by what is wrong with it."""
CROSSED: Mapping[str, Mapping[str, Text]] = {
    key: {value: _key(f"{key}: {value}") for value in _VALUES} for key in _KEYS
}

SETTINGS: tuple[str, ...] = (
    "", "=", "==", "a", "=5", "max_length", "max_length=", "max_length==", "max_length=[", "max_length={", "max_length=: :",
    "max_length=" + "9" * 5_000, "max_length=" + "[" * 3_000, "max_length=&a [*a]", "max_length=2025-13-45", "max_length=!!python/name:os",
    "datasets.²=x", "datasets.².path=x", "datasets.٣.path=x", "datasets.0.path=/", "datasets.path=/", "datasets.-1.path=x", "datasets.99=x",
    "datasets.99999999999999999999999=x", "datasets." + "9" * 5_000 + "=x", "datasets..path=x", "datasets.=x", ".=x", "..=x", "a.b.c.d=x",
    "tokenizer.a=x", "output.path.a=x", "output.path=/", "output.path=~nobody/x", "output=~nobody/x", "output=~/x", "output=~", "output=-", "output=.",
    "output=..", "output=/dev/null", "output=/dev/full", "output=/proc/self/x", "output=c.yaml", "output=d.jsonl", "output=d.jsonl/x",
    "output=" + "a" * 300, "output=" + "a/" * 2_500, "output='a\nb'", "output='{{x}}'", "output.format=exe", "output.format=parquet",
    "datasets=~nobody/x", "datasets=~/x", "datasets=~nobody/x.jsonl", "datasets=$HOME/x.jsonl", "datasets=-", "datasets=''", "datasets=' '",
    "datasets=d.jsonl[0]", "datasets=*.jsonl", "datasets=**", "datasets=[[embedded]]", "datasets=[{}]", "datasets=[null]", "datasets=[5]",
    "datasets.0.split=train[:0]", "datasets.0.split=train[99999999999999999999:]", "datasets.0.split=train[:x]", "datasets.0.split=train[::-1]",
    "datasets.0.split=train+train", "datasets.0.split=''", "datasets.0.split=train[" + "9" * 5_000 + ":]", "datasets.0.split=../train",
    "datasets.0.name=../x", "datasets.0.name=document", "datasets.0.dataset_info=/dev/zero", "datasets={dataset_info: /dev/zero, name: a}",
    "datasets={dataset_info: /, name: a}", "datasets={dataset_info: nothing.json, name: a}", "datasets={dataset_info: c.yaml, name: a}",
    "template=''", "template=' '", "template={{", "template=a\0b", "template=.", "template=/", "template=~nobody/x.jinja", "template=tokenizer_default_fallback_",
    "template=tokenizer_default_fallback_nothing", "template=../../x", "template=chatml.jinja", "template='{x:>1000000000}'", "template='{output.__class__}'",
    "tokenizer=~nobody/x", "tokenizer=''", "tokenizer=../x", "tokenizer=a//b", "tokenizer=-x", "tokenizer=a b", "tokenizer=a/b/c", "tokenizer=--", "tokenizer=" + "a/" * 500,
    "num_proc=0", "num_proc=-1", "num_proc=1.5", "num_proc=true", "now=99999999999999", "now=2025-01-01T00:00:00+99:00", "max_rejected=.nan",
    "max_rejected=-0.1", "max_rejected=1e400", "stop=''", "stop=['']", "stop=[a, a]", "stop=" + "s" * 100_000, "stop=['\\ud800']", 'stop=["\\ud800"]',
    'system="\\ud800"', 'completion_format="{content.__class__}"', 'completion_format="{content:>1000000000}"', "completion_format={", "completion_format={x}",
    "completion_format={content}{content}", "columns={a: b}", "columns={messages: messages}", "field_map={messages: nothing}", "field_map={role: [a]}",
    "field_map={a: a}", "roles={a: nobody}", "roles={'': user}", "roles={a: '{{x}}'}", "template_kwargs={messages: 1}", "template_kwargs={add_generation_prompt: true}",
    "template_kwargs={'': 1}", "template_kwargs={__class__: 1}", "template_kwargs={1: 2}", "template_kwargs=&a {b: *a}", "special_tokens={eos_token: nothing}",
    "special_tokens={nothing: a}", "special_tokens={chat_template: '{{x}}'}", "special_tokens={eos_token: ''}", "special_tokens={added_tokens_decoder: a}", "backend=nothing",
    "backend=os", "backend=fastokens", "keep_columns=nothing", "keep_columns=input_ids", "keep_columns=messages", "keep_columns=[messages, messages]",
    "train_on=nothing", "train_on=[]", "train_on=['']", "train_on=all", "allow_dropped=nothing", "max_length=1", "max_length=99999999999999999999", "overlength=x",
    "__class__=1", "model_fields=1", "left_to_trainer=[a]", "datasets.0.__class__=1", "datasets.0.tags={a: b}", "\ud800=1", "a\0b=1",
)  # fmt: skip

_ENTRY = '{"x": {"file_name": "d.jsonl", "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}}}'


def _entry(key: str, value: str) -> str:
    return (
        '{"x": {"file_name": "d.jsonl", "formatting": "sharegpt", "columns": {"messages": "messages"}, "'
        + key
        + '": '
        + value
        + "}}"
    )


_ODD = (
    "null",
    "5",
    "[]",
    "{}",
    '""',
    "true",
    '["a"]',
    '{"a": {"b": 1}}',
    '"../../../etc/passwd"',
    '"\\ud800"',
    '"a\\u0000b"',
)
ENTRIES: Mapping[str, Text] = {
    "good": _ENTRY,
    "empty": "",
    "a list": "[]",
    "a list of entries": "[" + _ENTRY + "]",
    "a text": '"x"',
    "a number": "5",
    "null": "null",
    "broken": _ENTRY[:-5],
    "no entry": "{}",
    "an entry of null": '{"x": null}',
    "an entry of a list": '{"x": []}',
    "an entry of a text": '{"x": "d.jsonl"}',
    "an entry of nothing": '{"x": {}}',
    "an entry twice": '{"x": {"file_name": "a.jsonl"}, "x": {"file_name": "d.jsonl"}}',
    "a BOM": b"\xef\xbb\xbf" + _ENTRY.encode(),
    "UTF-16": _ENTRY.encode("utf-16"),
    "Latin 1": b'{"x": {"file_name": "\xe9.jsonl"}}',
    "NaN": '{"x": NaN}',
    "deep": "[" * 100_000,
    "deep and closed": '{"x": ' + "[" * 3_000 + "]" * 3_000 + "}",
    "5,000 digits": '{"x": {"file_name": "d.jsonl", "num_samples": ' + "9" * 5_000 + "}}",
    "garbage": bytes(range(256)) * 10,
    "an absolute file": _entry("file_name", '"/etc/passwd"'),
    "a device": _entry("file_name", '"/dev/zero"'),
    "a folder": _entry("file_name", '"."'),
    "itself": _entry("file_name", '"info.json"'),
    "a file of a home": _entry("file_name", '"~nobody/x.jsonl"'),
    "a script": _entry("script_url", '"evil"'),
    "a cloud": _entry("cloud_file_name", '"s3://x"'),
    "10,000 entries": lambda: "{" + ", ".join(f'"e{i}": {{}}' for i in range(10_000)) + "}",
}  # fmt: skip
_ENTRY_KEYS = (
    "file_name", "formatting", "columns", "tags", "subset", "split", "folder", "ranking", "num_samples", "hf_hub_url"
)  # fmt: skip
CROSSED_ENTRIES: Mapping[str, Mapping[str, Text]] = {
    key: {value: _entry(key, value) for value in _ODD} for key in _ENTRY_KEYS
}
"""Each key of an entry with each odd value."""
