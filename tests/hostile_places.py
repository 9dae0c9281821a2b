"""Places of data that are no plain files: pipes, devices, links, loops, folders that are odd, names that are odd."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from hostile_write import LINE, Setup, config, data, file, together


def _special(name: str, make: Callable[[Path], object]) -> Setup:
    return together(make, config(name))


def _link(name: str, target: str) -> Setup:
    return _special(name, lambda folder: (folder / name).symlink_to(target))


def _loop(folder: Path) -> None:
    (folder / "a.jsonl").symlink_to("b.jsonl")
    (folder / "b.jsonl").symlink_to("a.jsonl")


def _folder_loop(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "again").symlink_to(".")
    (folder / "data" / "train.jsonl").write_text(LINE)


def _unreadable(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "train.jsonl").write_text(LINE)
    (folder / "data").chmod(0)


def _fifo(folder: Path) -> None:
    os.mkfifo(folder / "d.jsonl")


def _fifo_inside(folder: Path) -> None:
    (folder / "data").mkdir()
    os.mkfifo(folder / "data" / "train.jsonl")


def _sparse(folder: Path) -> None:
    with (folder / "d.jsonl").open("wb") as out:
        out.truncate(2_000_000_000)


PLACES: Mapping[str, Setup] = {
    "a pipe": _special("d.jsonl", _fifo),
    "a pipe in a folder": _special("data", _fifo_inside),
    "a socket's name": _special("d.jsonl", lambda folder: (folder / "d.jsonl").mkdir()),
    "a link to a device": _link("d.jsonl", "/dev/zero"),
    "a link to /dev/stdin": _link("d.jsonl", "/dev/stdin"),
    "a link to memory": _link("d.jsonl", "/proc/self/mem"),
    "a link to nothing": _link("d.jsonl", "nothing.jsonl"),
    "a link to itself": _link("d.jsonl", "d.jsonl"),
    "a link to passwd": _link("d.jsonl", "/etc/passwd"),
    "a loop of links": _special("a.jsonl", _loop),
    "a folder that holds itself": _special("data", _folder_loop),
    "a folder that cannot be read": _special("data", _unreadable),
    "a file of 2 GB of nothing": _special("d.jsonl", _sparse),
    "an empty folder": _special("data", lambda folder: (folder / "data").mkdir()),
    "a folder of other kinds": together(file("data/train.jsonl", LINE), file("data/train.exe", "MZ"), config("data")),
    "a folder of two kinds": together(
        file("data/train.jsonl", LINE), file("data/train.csv", "a,b\n1,2\n"), config("data")
    ),
    "a folder with a script": together(
        file("data/train.jsonl", LINE),
        file("data/data.py", "import os\nopen(os.environ['HOSTILE_MARK'], 'w').write('script')\n"),
        config("data"),
    ),
    "a folder with a card": together(
        file("data/README.md", "---\nconfigs:\n- config_name: default\n  data_files: ../../../../etc/*\n---\n"),
        file("data/train.jsonl", LINE),
        config("data"),
    ),
    "a folder with a broken card": together(
        file("data/README.md", "---\nconfigs:\n- [\n---\n"), file("data/train.jsonl", LINE), config("data")
    ),
    "a folder with a card of odd types": together(
        file("data/README.md", "---\nconfigs:\n- 5\n---\n"), file("data/train.jsonl", LINE), config("data")
    ),
    "a folder with a card of laughs": together(
        file("data/README.md", "---\na: &a [b, b, b, b]\nb: &b [*a, *a, *a]\nconfigs:\n  x: *b\n---\n"),
        file("data/train.jsonl", LINE),
        config("data"),
    ),
    "a folder of a broken Arrow data set": together(
        file("data/state.json", "{}"), file("data/dataset_info.json", "[]"), config("data")
    ),
    "a folder of a broken dictionary": together(file("data/dataset_dict.json", "5"), config("data")),
    "a folder of 2,000 files": _special(
        "data", lambda folder: [file(f"data/train-{i:05}.jsonl", LINE)(folder) for i in range(2_000)]
    ),
    "a folder 200 deep": file("/".join(["data"] * 200) + "/train.jsonl", LINE),
    "a name with a line break": data("d\n[bold].jsonl", LINE),
    "a name with a surrogate": together(
        lambda folder: Path(os.fsdecode(bytes(folder) + b"/d\xff.jsonl")).write_text(LINE),
        file("c.yaml", 'tokenizer: embedded\ntemplate: chatml\noutput: out\ndatasets: "d\\udcff.jsonl"\n'),
    ),
    "a name of a module": data("json.jsonl", LINE),
    "a name with a blank": data(" .jsonl", LINE),
    "a name that is a suffix": data(".jsonl", LINE),
    "a name with braces": data("{{x}}{output}.jsonl", LINE),
    "a name in capitals": data("D.JSONL", LINE),
}
