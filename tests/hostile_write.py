"""How the files of hostile cases are written: text, bytes, packed, configurations and rows that are harmless."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Setup = Callable[[Path], object]
ROW: dict[str, Any] = {
    "messages": [{"role": "user", "content": "usralpha usrbeta"}, {"role": "assistant", "content": "ansgamma ansdelta"}]
}
LINE = json.dumps(ROW)
CONFIG = "tokenizer: embedded\ntemplate: chatml\ndatasets: embedded\noutput: out\n"


def file(name: str, content: str | bytes | Callable[[], str | bytes]) -> Setup:
    """Writes a file."""

    def write(folder: Path) -> None:
        made = content() if callable(content) else content
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made if isinstance(made, bytes) else made.encode("utf-8", "surrogatepass"))

    return write


def files(**contents: Any) -> Setup:
    """Writes several files; in their names, `__` is a dot."""
    return together(*(file(name.replace("__", "."), content) for name, content in contents.items()))


def together(*setups: Setup) -> Setup:
    """One after the other."""

    def write(folder: Path) -> None:
        for setup in setups:
            setup(folder)

    return write


def config(data: str = "embedded", **more: Any) -> Setup:
    """A configuration `c.yaml` of the data, with further keys."""
    values = {"tokenizer": "embedded", "template": "chatml", "datasets": data, "output": "out", **more}
    return file("c.yaml", json.dumps(values))


def data(name: str, content: str | bytes | Callable[[], str | bytes], **more: Any) -> Setup:
    """A data file, and the configuration that names it."""
    return together(file(name, content), config(name, **more))
