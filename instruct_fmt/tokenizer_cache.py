"""What was read off a tokenizer's folder, kept on disk: the next process need not load it with transformers.

Loading takes seconds, most of them for imports. What comes out depends on nothing but the folder's files and the
versions of the libraries; their hash is the key. Only folders with a `tokenizer.json` are kept: others are converted,
with the help of further libraries.

`INSTRUCT_FMT_CACHE` is the folder to keep them in, by default `instruct_fmt` in the user's folder of caches; ``off`` is
none. Nothing here is needed: what cannot be read or written is left alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from instruct_fmt import __version__
from instruct_fmt.encode.vocabulary import Contents, Vocabulary

logger = logging.getLogger("instruct_fmt")

VARIABLE = "INSTRUCT_FMT_CACHE"
KEPT = 16
"""The newest so many entries are kept."""
MAX_BYTES = 200_000_000
_LIBRARIES = ("transformers", "tokenizers")
_READ = frozenset({".json", ".jinja", ".txt", ".model", ".tiktoken", ".py"})


def read(tokenizer: Path) -> Vocabulary | None:
    """What is kept of a folder; None where nothing is."""
    entry = _entry(tokenizer)
    if entry is None:
        return None
    with suppress(OSError, ValueError):  # it may be missing, or damaged
        digest, content = entry.read_text(encoding="utf-8").split("\n", 1)
        if digest == _digest(content):
            values, definition = content.split("\n", 1)
            return Vocabulary(Contents(**json.loads(values), definition=definition, name=str(tokenizer)))
    return None


def write(tokenizer: Path, vocabulary: Vocabulary) -> None:
    """Keep what was read off a folder."""
    entry = _entry(tokenizer)
    if entry is None:
        return
    values = asdict(vocabulary.contents)
    definition = values.pop("definition")
    del values["name"]
    content = f"{json.dumps(values)}\n{definition}"
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=entry.parent) as aside:
            whole = Path(aside) / entry.name
            whole.write_text(f"{_digest(content)}\n{content}", encoding="utf-8", newline="\n")
            whole.replace(entry)
        for old in sorted(entry.parent.glob("*.tokenizer"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            old.unlink()
    except OSError as error:
        logger.debug("nothing is kept of %s: %s", tokenizer, error)


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _entry(tokenizer: Path) -> Path | None:
    """The file for a folder; None where nothing is to be kept."""
    asked = os.environ.get(VARIABLE, "")
    key = None if asked == "off" else key_of(tokenizer)
    if key is None:
        return None
    with suppress(RuntimeError):
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(asked or Path(caches) / "instruct_fmt") / f"{key}.tokenizer"
    return None


def key_of(tokenizer: Path) -> str | None:
    """A hash of a folder's files and of the versions; None where it holds no tokenizer that can be kept."""
    if not (tokenizer / "tokenizer.json").is_file():
        return None
    with suppress(OSError, ValueError):
        return _key(tokenizer)
    return None


def _key(tokenizer: Path) -> str:
    """A hash of the versions and of the folder's files: of weights the names, of everything else all."""
    found = hashlib.sha256(json.dumps([__version__, *map(version, _LIBRARIES)]).encode())
    size = 0
    for path in _files(tokenizer):
        content = path.read_bytes() if path.suffix in _READ else b""
        size += len(content)
        if size > MAX_BYTES:
            raise ValueError("too large")
        name = path.relative_to(tokenizer).as_posix()
        found.update(f"{len(name)} {len(content)} {name}".encode() + content)
    return found.hexdigest()


def _files(tokenizer: Path) -> Iterator[Path]:
    """The files beside `tokenizer.json`, and those of folders of templates."""
    for folder in (tokenizer, tokenizer / "additional_chat_templates"):
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.is_file())
