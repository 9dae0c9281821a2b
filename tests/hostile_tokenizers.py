"""Hostile tokenizer folders: damaged files, odd ids, code to run, and large files that are none of its business."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hostile_fork import MARK
from hostile_write import Setup, file, together

from instruct_fmt import embedded

CODE = f"import os\nopen(os.environ['{MARK}'], 'a').write('tokenizer code')\nclass Evil: pass\n"
_AUTO = {"AutoTokenizer": ["evil.Evil", "evil.Evil"], "AutoConfig": "evil.Evil"}


def _folder(folder: Path) -> None:
    shutil.copytree(embedded.tokenizer_path(), folder / "t")
    for path in (folder / "t").iterdir():
        path.chmod(0o644)


def _file(name: str, content: str | bytes | Callable[[], str | bytes]) -> Setup:
    return together(_folder, file(f"t/{name}", content))


def _json(name: str, change: Callable[[dict[str, Any]], Any]) -> Setup:
    def write(folder: Path) -> None:
        path = folder / "t" / name
        found = json.loads(path.read_text(encoding="utf-8"))
        changed = change(found)
        path.write_text(json.dumps(found if changed is None else changed), encoding="utf-8")

    return together(_folder, write)


def _model(**changes: Any) -> Setup:
    return _json("tokenizer.json", lambda found: {**found, "model": {**found["model"], **changes}})


def _whole(**changes: Any) -> Setup:
    return _json("tokenizer.json", lambda found: {**found, **changes})


def _named(**changes: Any) -> Setup:
    return _json("tokenizer_config.json", lambda found: {**found, **changes})


def _id(value: Any) -> Setup:
    def change(found: dict[str, Any]) -> None:
        found["added_tokens"][0]["id"] = value

    return _json("tokenizer.json", change)


def _vocab_id(value: Any) -> Setup:
    def change(found: dict[str, Any]) -> None:
        vocab = found["model"]["vocab"]
        vocab[next(iter(vocab))] = value

    return _json("tokenizer.json", change)


def _sparse(name: str, size: int) -> Setup:
    def write(folder: Path) -> None:
        with (folder / "t" / name).open("wb") as out:
            out.truncate(size)

    return together(_folder, write)


def _special(name: str, make: Callable[[Path], object]) -> Setup:
    def write(folder: Path) -> None:
        path = folder / "t" / name
        path.unlink(missing_ok=True)
        make(path)

    return together(_folder, write)


def _split(pattern: str) -> Setup:
    return _whole(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    )


_ODD: Mapping[str, Any] = {"null": None, "a number": 5, "a text": "a", "a list": [1], "a mapping": {"a": 1}}
_BROKEN: Mapping[str, str | bytes] = {
    "empty": "",
    "a list": "[]",
    "null": "null",
    "a number": "5",
    "cut": '{"version": "1.0", ',
    "garbage": bytes(range(256)),
    "NULs": "\0" * 1_000,
    "UTF-16": "{}".encode("utf-16"),
    "a BOM": b"\xef\xbb\xbf{}",
    "deep": "[" * 100_000,
    "an empty mapping": "{}",
    "a Git LFS pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    "surrogates": '{"a": "\\ud800"}',
    "5,000 digits": '{"eos_token_id": ' + "9" * 5_000 + "}",
}
_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
    "chat_template.json",
)
_TEMPLATES: Mapping[str, Any] = {
    "a list of null": [None],
    "a list of texts": ["a"],
    "a list without names": [{"template": "a"}],
    "a mapping": {"default": "{{ messages }}"},
    "named, hostile": [{"name": "default", "template": "{{ ''.__class__ }}"}],
    "a bomb": "{{ 'x' * 10**10 }}",
    "a bomb of constants": "{{ 'x' | center(10**9) }}",
    "broken": "{% for",
    "a surrogate": "\ud800{{ messages }}",
    "1 MB": "a" * 1_000_000,
}
_GENERATION: Mapping[str, Any] = {
    "minus one": -1,
    "a large id": 2**32 - 1,
    "a huge id": 2**70,
    "a text": "a",
    "a list of texts": ["a"],
    "a list of null": [None],
    "a list of lists": [[1]],
    "a mapping": {"a": 1},
    "a float": 1.5,
    "true": True,
    "100,000 ids": list(range(100_000)),
}

TOKENIZERS: Mapping[str, Setup] = {
    "good": _folder,
    "an empty folder": lambda folder: (folder / "t").mkdir(),
    "no folder": lambda folder: None,
    "a file": file("t", "a"),
    "a link to itself": lambda folder: (folder / "t").symlink_to("t"),
    "a pipe": lambda folder: os.mkfifo(folder / "t"),
    **{f"{name}, {kind}": _file(name, text) for name in _FILES for kind, text in _BROKEN.items()},
    "chat_template.jinja, empty": _file("chat_template.jinja", ""),
    "chat_template.jinja, garbage": _file("chat_template.jinja", bytes(range(256))),
    "chat_template.jinja, 100 MB": _sparse("chat_template.jinja", 100_000_000),
    "chat_template.jinja, a device": _special("chat_template.jinja", lambda path: path.symlink_to("/dev/zero")),
    "chat_template.jinja, a pipe": _special("chat_template.jinja", os.mkfifo),
    "tokenizer.json, a device": _special("tokenizer.json", lambda path: path.symlink_to("/dev/zero")),
    "tokenizer.json, a pipe": _special("tokenizer.json", os.mkfifo),
    "tokenizer.json, a folder": _special("tokenizer.json", lambda path: path.mkdir()),
    "tokenizer.json, a link to itself": _special("tokenizer.json", lambda path: path.symlink_to("tokenizer.json")),
    "tokenizer.json, 300 MB": _sparse("tokenizer.json", 300_000_000),
    "a strange pipe": _special("strange.json", os.mkfifo),
    "a strange device": _special("strange.json", lambda path: path.symlink_to("/dev/zero")),
    "a large train.json": _sparse("train.json", 300_000_000),
    "a large train.txt": _sparse("train.txt", 300_000_000),
    "a large model.safetensors": _sparse("model.safetensors", 3_000_000_000),
    "5,000 more files": together(_folder, lambda folder: [file(f"t/x{i}.json", "{}")(folder) for i in range(5_000)]),
    "a broken pickle": _file("tokenizer.pkl", b"\x80\x04garbage"),
    **{f"model's {name}: {kind}": _model(**{name: value}) for name in ("vocab", "merges", "type") for kind, value in _ODD.items()},
    "no model": _json("tokenizer.json", lambda found: found.pop("model") and None),
    "merges of unknown tokens": _model(merges=[["nothing", "here"]]),
    "merges of one": _model(merges=[["a"]]),
    "merges as text": _model(merges=["a b c d"]),
    "100,000 merges of one pair": _model(merges=[["a", "b"]] * 100_000),
    "an empty vocabulary": _model(vocab={}, merges=[]),
    "a vocabulary of one": _model(vocab={"a": 0}, merges=[]),
    "a dropout": _model(dropout=0.9),
    "an odd dropout": _model(dropout=7),
    "a model of another type": _model(type="Unigram"),
    "an unknown token that is none": _model(unk_token="nothing"),
    **{f"an id of {value}": _vocab_id(value) for value in (-1, 2**32 - 1, 2**32, 2**31, 2**70, 1.5, "a", None)},
    **{f"an added id of {value}": _id(value) for value in (-1, 2**32 - 1, 2**32, 2**31, 10**9, 0, 1.5, "a", None)},
    **{f"{name}: {kind}": _whole(**{name: value}) for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens", "truncation", "padding") for kind, value in _ODD.items()},
    "an added token that is empty": _whole(added_tokens=[{"id": 0, "content": "", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}]),
    "a pattern that is slow": _split("(a+)+$"),
    "a pattern that is slower": _split("(.*)*(.*)*(.*)*[^x]$"),
    "a pattern that is broken": _split("("),
    "a pattern of nothing": _split(""),
    "a normalizer that grows": _whole(normalizer={"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 100_000}),
    "a normalizer that drops all": _whole(normalizer={"type": "Replace", "pattern": {"Regex": "."}, "content": ""}),
    "a normalizer that lowers": _whole(normalizer={"type": "Lowercase"}),
    "a processor that swaps": _whole(post_processor={"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}),
    "a truncation to 1": _whole(truncation={"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}),
    "a padding to 10,000,000": _whole(padding={"strategy": {"Fixed": 10_000_000}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "a"}),
    "auto_map": together(_named(auto_map=_AUTO), file("t/evil.py", CODE)),
    "auto_map, a class of its own": together(_named(auto_map=_AUTO, tokenizer_class="Evil"), file("t/evil.py", CODE)),
    "auto_map in config.json": together(_folder, file("t/config.json", json.dumps({"auto_map": _AUTO, "model_type": "evil"})), file("t/evil.py", CODE)),
    "auto_map of another repository": _named(auto_map={"AutoTokenizer": ["evil/repo--evil.Evil", None]}, tokenizer_class="Evil"),
    "auto_map of odd types": _named(auto_map=5),
    "auto_map without tokenizer.json": together(_named(auto_map=_AUTO, tokenizer_class="Evil"), file("t/evil.py", CODE), lambda folder: (folder / "t" / "tokenizer.json").unlink()),
    "no tokenizer.json": together(_folder, lambda folder: (folder / "t" / "tokenizer.json").unlink()),
    "a class of nobody": _named(tokenizer_class="NothingTokenizer"),
    "a class of a number": _named(tokenizer_class=5),
    "a class of Python": _named(tokenizer_class="__class__"),
    "a slow class": _named(tokenizer_class="BertTokenizer"),
    "a tokenizer file elsewhere": _named(tokenizer_file="/etc/passwd", vocab_file="/etc/passwd"),
    "a name elsewhere": _named(name_or_path="/etc", _name_or_path="../../x"),
    **{f"eos_token: {kind}": _named(eos_token=value) for kind, value in {**_ODD, "empty": "", "unknown": "<|nothing|>", "a surrogate": "\ud800", "1 MB": "a" * 1_000_000, "Jinja": "{{ x }}"}.items()},
    **{f"model_max_length: {kind}": _named(model_max_length=value) for kind, value in {**_ODD, "minus one": -1, "huge": 10**400, "zero": 0}.items()},
    **{f"chat_template: {kind}": together(_named(chat_template=value), lambda folder: (folder / "t" / "chat_template.jinja").unlink()) for kind, value in {**_ODD, **_TEMPLATES}.items()},
    **{f"generation_config's eos_token_id: {kind}": _file("generation_config.json", json.dumps({"eos_token_id": value})) for kind, value in _GENERATION.items()},
    **{f"additional special tokens: {kind}": _named(additional_special_tokens=value) for kind, value in {**_ODD, "10,000": [f"<x{i}>" for i in range(10_000)]}.items()},
    **{f"added_tokens_decoder: {kind}": _named(added_tokens_decoder=value) for kind, value in {**_ODD, "minus one": {"-1": {"content": "a"}}, "no number": {"a": {"content": "a"}}, "large": {"4294967295": {"content": "<big>"}}, "swapped": {"0": {"content": "<|im_end|>", "special": True}}}.items()},
    "extra_special_tokens of a list": _named(extra_special_tokens=["a", 5]),
    "init arguments of ours": _named(tokenizer_object=5, backend_tokenizer=5, __class__=5, self=5, cls=5),
}  # fmt: skip
