"""What may lie where the output goes: somebody else's files, damaged results, links, and places that are none."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostile_scene import result_folder
from hostile_write import LINE, Setup, config, file, together

_HERE = ("embedded", "-o", "out")
THESIS = "forty years of work\n"
_HOST = re.sub(r"[^A-Za-z0-9]", "", platform.node())[:24] or "host"


@dataclass(frozen=True, slots=True)
class Output:
    """A scene; the words of the call behind `prepare`; what may be written, and what must stay all the same."""

    setup: Setup | None = None
    words: tuple[str, ...] = _HERE
    written: str = "out"
    keeps: tuple[str, ...] = ()
    forced: bool = False
    family: str = ""
    dangerous: bool = False


def _result(*changes: Setup) -> Setup:
    """An earlier result in `out`, changed."""
    return together(lambda folder: shutil.copytree(result_folder(), folder / "out"), *changes)


def _manifest(change: Callable[[dict[str, Any]], Any]) -> Setup:
    def write(folder: Path) -> None:
        path = folder / "out" / "manifest.json"
        found = json.loads(path.read_text(encoding="utf-8"))
        found = change(found) or found
        path.write_text(json.dumps(found), encoding="utf-8")

    return _result(write)


def _member(name: str, value: Any) -> Setup:
    return _manifest(lambda found: {**found, name: value})


def _foreign(manifest: str | bytes) -> Output:
    """Somebody else's folder, which happens to have a manifest."""
    setup = together(
        file("out/manifest.json", manifest), file("out/thesis.txt", THESIS), file("out/more/a.txt", THESIS)
    )
    keeps = ("out", "out/manifest.json", "out/thesis.txt", "out/more", "out/more/a.txt")
    return Output(setup, keeps=keeps, forced=True)


def _zeroed(folder: Path) -> None:
    for path in (folder / "out").glob("data*.arrow"):
        path.write_bytes(bytes(path.stat().st_size))


def _turned(folder: Path) -> None:
    for path in (folder / "out").glob("data*.arrow"):
        raw = path.read_bytes()
        path.write_bytes(raw[: len(raw) // 2] + raw[len(raw) // 2 :][::-1])


def _cut(folder: Path) -> None:
    for path in (folder / "out").glob("data*.arrow"):
        os.truncate(path, path.stat().st_size // 2)


def _gone(folder: Path) -> None:
    for path in (folder / "out").glob("data*.arrow"):
        path.unlink()


def _data_link(folder: Path) -> None:
    for path in (folder / "out").glob("data*.arrow"):
        path.rename(folder / "theirs.arrow")
        path.symlink_to(folder / "theirs.arrow")


def _of(name: str, content: str | bytes) -> Setup:
    return _result(file(f"out/{name}", content))


def _link(target: str) -> Setup:
    return lambda folder: (folder / "out").symlink_to(target)


def _loop(folder: Path) -> None:
    (folder / "out").symlink_to("other")
    (folder / "other").symlink_to("out")


def _closed(folder: Path) -> None:
    (folder / "shut").mkdir()
    (folder / "shut").chmod(0o500)


def _closed_result(folder: Path) -> None:
    _result()(folder)
    (folder / "out").chmod(0o500)


def _unreadable_result(folder: Path) -> None:
    _result()(folder)
    (folder / "out" / "manifest.json").chmod(0)


def _left(name: str, content: Setup) -> Setup:
    """What a killed process might have left beside the output, and might as well be the user's."""
    return lambda folder: content(folder / name)


def _staging_link(folder: Path) -> None:
    file("mine/thesis.txt", THESIS)(folder)
    (folder / f".out.tmp-{_HOST}-999999-abc").symlink_to("mine")


_DATA = together(file("data/train.jsonl", LINE), config("data"))
_MEMBERS = ("parts", "versions", "output", "counts", "files", "unread", "layout")
_ODD: Mapping[str, Any] = {
    "null": None,
    "a number": 5,
    "a text": "a",
    "a list": [1, None],
    "a mapping": {"a": {"b": None}},
    "a mapping of null": {"a": None},
}
_LEDGERS: Mapping[str, str | bytes] = {
    "garbage": bytes(range(256)),
    "no JSON": "hello\n",
    "a list": "[]\n",
    "no row": '{"reason": "bad-field"}\n',
    "an unknown reason": '{"row": 1, "reason": "nothing", "path": "a", "found": "b", "expected": "c", "fix": "d"}\n',
    "odd types": '{"row": [], "reason": 5, "path": null, "found": {}, "expected": 1, "fix": []}\n',
    "more fields": '{"row": 1, "reason": "bad-field", "path": "a", "found": "b", "expected": "c", "fix": "d", "more": "e"}\n',
    "a cut line": '{"row": 1, "reason": "bad-f',
    "NUL": "\0" * 100,
    "deep": "[" * 100_000 + "\n",
    "empty lines": "\n\n\n",
}

OUTPUTS: Mapping[str, Output] = {
    "new": Output(),
    "an earlier result": Output(_result(), forced=True),
    "an earlier result and a thesis": Output(_of("thesis.txt", THESIS), keeps=("out/thesis.txt",), forced=True),
    "an earlier result and a folder": Output(
        _of("mine/thesis.txt", THESIS), keeps=("out/mine", "out/mine/thesis.txt"), forced=True
    ),
    "an earlier result of others, and a thesis": Output(
        together(_of("thesis.txt", THESIS), config()), ("c.yaml", "--set", "max_length=77"), keeps=("out/thesis.txt",)
    ),
    "a damaged manifest and a thesis": Output(
        together(_of("manifest.json", '{"parts": '), file("out/thesis.txt", THESIS)),
        keeps=("out/thesis.txt",),
        forced=True,
    ),
    "somebody's folder": Output(file("out/thesis.txt", THESIS), written="", forced=True),
    "an empty folder": Output(lambda folder: (folder / "out").mkdir()),
    "a folder of hidden files": Output(file("out/.git/config", "a"), written="", forced=True),
    "somebody's manifest: empty": _foreign(""),
    "somebody's manifest: {}": _foreign("{}"),
    "somebody's manifest: a list": _foreign("[]"),
    "somebody's manifest: a number": _foreign("5"),
    "somebody's manifest: of a web app": _foreign('{"name": "App", "icons": [], "start_url": "/"}'),
    "somebody's manifest: of an extension": _foreign('{"manifest_version": 3, "name": "x", "version": "1"}'),
    "somebody's manifest: garbage": _foreign(bytes(range(256))),
    "somebody's manifest: NULs": _foreign("\0" * 1_000),
    "somebody's manifest: deep": _foreign("[" * 100_000),
    "somebody's manifest: UTF-16": _foreign("{}".encode("utf-16")),
    "somebody's manifest: with parts": _foreign('{"parts": {}, "versions": {}, "output": {}}'),
    "somebody's manifest: 5,000 digits": _foreign('{"layout": ' + "9" * 5_000 + "}"),
    "somebody's manifest: with our word": _foreign('{"parts": {"template": "x"}, "versions": {"instruct_fmt": "0"}}'),
    **{
        f"manifest's {name}: {kind}": Output(_member(name, value), family="an odd member of a manifest")
        for name in _MEMBERS
        for kind, value in _ODD.items()
    },
    "manifest's files: a parent": Output(_member("files", {"../c.yaml": 1})),
    "manifest's files: absolute": Output(_member("files", {"/etc/passwd": 1})),
    "manifest's files: a large size": Output(_member("files", {"a": 10**400})),
    "manifest's files: NUL in a name": Output(_member("files", {"a\0b": 1})),
    "manifest's files: a long name": Output(_member("files", {"a" * 5_000: 1})),
    "manifest's files: none": Output(_member("files", {})),
    "manifest: unknown members": Output(_member("__class__", 1)),
    "manifest: a member less": Output(_manifest(lambda found: found.pop("files") and found)),
    **{f"ledger: {name}": Output(_of("rejected.jsonl", text)) for name, text in _LEDGERS.items()},
    "data zeroed": Output(_result(_zeroed)),
    "data turned round": Output(_result(_turned)),
    "data cut": Output(_result(_cut)),
    "data gone": Output(_result(_gone)),
    "data a link": Output(_result(_data_link)),
    "state.json broken": Output(_of("state.json", "{")),
    "state.json of a list": Output(_of("state.json", "[]")),
    "state.json that names others": Output(_of("state.json", '{"_data_files": [{"filename": "../../x.arrow"}]}')),
    "state.json of odd types": Output(_of("state.json", '{"_data_files": 5}')),
    "dataset_info.json broken": Output(_of("dataset_info.json", "{")),
    "dataset_info.json of a list": Output(_of("dataset_info.json", "[]")),
    "dataset_info.json of other types": Output(_of("dataset_info.json", '{"features": {"a": {"_type": "Nothing"}}}')),
    "a link to somebody's folder": Output(together(file("mine/thesis.txt", THESIS), _link("mine")), written=""),
    "a link to an empty folder": Output(
        together(lambda folder: (folder / "mine").mkdir(), _link("mine")), written="mine"
    ),
    "a link to a file": Output(together(file("mine", THESIS), _link("mine")), written=""),
    "a link to nothing": Output(_link("nothing"), written="nothing"),
    "a link to itself": Output(_link("out"), written=""),
    "a loop of links": Output(_loop, written=""),
    "a link to a result": Output(
        together(_result(), lambda folder: (folder / "other").symlink_to("out")),
        ("embedded", "-o", "other"),
        forced=True,
    ),
    "a file": Output(file("out", THESIS), written="", forced=True),
    "an empty file": Output(file("out", ""), written="", forced=True),
    "a pipe": Output(lambda folder: os.mkfifo(folder / "out"), written=""),
    "a folder below a file": Output(file("mine", THESIS), ("embedded", "-o", "mine/out"), written=""),
    "a folder below a pipe": Output(
        lambda folder: os.mkfifo(folder / "mine"), ("embedded", "-o", "mine/out"), written=""
    ),
    "below a closed folder": Output(_closed, ("embedded", "-o", "shut/out"), written=""),
    "a closed result": Output(_closed_result, forced=True),
    "a result that cannot be read": Output(_unreadable_result),
    "inside the data": Output(_DATA, ("c.yaml", "-o", "data/out"), written="data/out"),
    "inside the data, named train": Output(_DATA, ("c.yaml", "-o", "data/train"), written="data/train"),
    "the data's folder": Output(_DATA, ("c.yaml", "-o", "data"), written=""),
    "the data's file": Output(
        together(file("d.jsonl", LINE), config("d.jsonl")), ("c.yaml", "-o", "d.jsonl"), written=""
    ),
    "the configuration": Output(config(), ("c.yaml", "-o", "c.yaml"), written=""),
    "the data's folder, with a manifest": Output(
        together(_DATA, file("data/manifest.json", "{}")), ("c.yaml", "-o", "data", "--force"), written=""
    ),
    "the data is an earlier result": Output(together(_result(), config("out")), ("c.yaml",)),
    "the tokenizer's folder": Output(
        together(lambda folder: _tokenizer(folder), config(tokenizer="t", template=None)),
        ("c.yaml", "-o", "t"),
        written="",
    ),
    "here": Output(config(), ("embedded", "-o", "."), written="", dangerous=True),
    "here, with a manifest": Output(
        file("manifest.json", "{}"), ("embedded", "-o", ".", "--force"), written="", dangerous=True
    ),
    "the parent": Output(config(), ("embedded", "-o", ".."), written="", dangerous=True),
    "the root": Output(config(), ("embedded", "-o", "/"), written="", dangerous=True),
    "the root, forced": Output(config(), ("embedded", "-o", "/", "--force"), written="", dangerous=True),
    "below the root": Output(config(), ("embedded", "-o", "/hostile-out"), written="", dangerous=True),
    "a device": Output(config(), ("embedded", "-o", "/dev/null"), written="", dangerous=True),
    "below a device": Output(config(), ("embedded", "-o", "/dev/null/x"), written="", dangerous=True),
    "below /proc": Output(config(), ("embedded", "-o", "/proc/self/x"), written="", dangerous=True),
    "nobody's home": Output(config(), ("embedded", "-o", "~nobody/x"), written="~nobody/x"),
    "an unknown home": Output(config(), ("embedded", "-o", "~no-such-user/x"), written="~no-such-user/x"),
    "no name": Output(config(), ("embedded", "-o", ""), written=""),
    "a blank": Output(config(), ("embedded", "-o", " "), written=" "),
    "a dash": Output(config(), ("embedded", "-o", "-"), written="-"),
    "an option": Output(config(), ("embedded", "-o", "--force"), written="--force"),
    "a line break": Output(config(), ("embedded", "-o", "a\nb"), written="a\nb"),
    "markup": Output(config(), ("embedded", "-o", "[bold]a[/x]"), written="[bold]a[/x]"),
    "a pattern": Output(together(config(), file("a/thesis.txt", THESIS)), ("embedded", "-o", "[a]*"), written="[a]*"),
    "a byte that is no text": Output(
        config(), ("embedded", "-o", os.fsdecode(b"a\xff")), written=os.fsdecode(b"a\xff")
    ),
    "NUL": Output(config(), ("embedded", "-o", "a\0b"), written=""),
    "a surrogate": Output(config(), ("embedded", "-o", "a\ud800"), written=""),
    "255 letters": Output(config(), ("embedded", "-o", "a" * 255), written="a" * 255),
    "300 letters": Output(config(), ("embedded", "-o", "a" * 300), written=""),
    "5,000 letters": Output(config(), ("embedded", "-o", "a/" * 2_500), written="a"),
    "dots": Output(config(), ("embedded", "-o", "a/../b/./c"), written="b/c"),
    "a hidden name": Output(config(), ("embedded", "-o", ".out"), written=".out"),
    "somebody's staging, a thesis": Output(_left(".out.tmp-mine-thesis", file("thesis.txt", THESIS))),
    "somebody's staging, of this machine": Output(_left(f".out.tmp-{_HOST}-mine-thesis", file("thesis.txt", THESIS))),
    "somebody's staging, a link": Output(_staging_link, keeps=("mine", "mine/thesis.txt")),
}


def _tokenizer(folder: Path) -> None:
    from instruct_fmt import embedded

    shutil.copytree(embedded.tokenizer_path(), folder / "t")
