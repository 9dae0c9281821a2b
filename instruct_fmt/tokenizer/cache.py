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
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from instruct_fmt.common.files import read_whole
from instruct_fmt.errors import UsageError
from instruct_fmt.tokenizer.vocabulary import Contents, Vocabulary
from instruct_fmt.version import __version__

logger = logging.getLogger("instruct_fmt")

VARIABLE = "INSTRUCT_FMT_CACHE"
KEPT = 16
"""The newest so many entries are kept."""
MAX_BYTES = 200_000_000
_LIBRARIES = ("transformers", "tokenizers")
# What libraries read of a folder with a `tokenizer.json`; whatever else lies there is somebody else's.
_READ = frozenset(
    [
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"),
        *("chat_template.jinja", "chat_template.json", "processor_config.json", "generation_config.json"),
        *("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model"),
    ]
)
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def read(tokenizer: Path) -> Vocabulary | None:
    """What is kept of a folder; None where nothing is."""
    entry = _entry(tokenizer)
    if entry is None:
        return None
    with suppress(OSError, ValueError, UsageError):  # it may be missing, damaged, or no file
        if not _is_own(entry):
            return None
        digest, content = read_whole(entry, MAX_BYTES).decode().split("\n", 1)
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
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_own(entry.parent):
            return
        with tempfile.TemporaryDirectory(dir=entry.parent) as aside:
            whole = Path(aside) / entry.name
            whole.write_text(f"{_digest(content)}\n{content}", encoding="utf-8", newline="\n")
            whole.chmod(stat.S_IRUSR | stat.S_IWUSR)
            whole.replace(entry)
        for old in sorted(entry.parent.glob("*.tokenizer"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            old.unlink()
    except OSError as error:
        logger.debug("nothing is kept of %s: %s", tokenizer, error)


def _is_own(path: Path) -> bool:
    """Whether nobody but this user can have written a file or folder, where the system tells."""
    if not hasattr(os, "getuid"):
        return True
    found, folder = path.lstat(), path.parent.lstat()
    private = not folder.st_mode & _OTHERS_WRITE or bool(folder.st_mode & stat.S_ISVTX)
    return found.st_uid == os.getuid() and not found.st_mode & _OTHERS_WRITE and private


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
    with suppress(OSError, ValueError, UsageError):
        return _key(tokenizer)
    return None


def _key(tokenizer: Path) -> str:
    """A hash of the versions and of the files that are read."""
    found = hashlib.sha256(json.dumps([__version__, *map(version, _LIBRARIES)]).encode())
    size = 0
    for path in files_read(tokenizer):
        content = read_whole(path, MAX_BYTES - size)
        size += len(content)
        name = path.relative_to(tokenizer).as_posix()
        found.update(f"{len(name)} {len(content)} {name}".encode() + content)
    return found.hexdigest()


def files_read(tokenizer: Path) -> Iterator[Path]:
    """The files that are read, and those of folders of templates."""
    yield from sorted(path for name in _READ if (path := tokenizer / name).exists())
    more = tokenizer / "additional_chat_templates"
    if more.is_dir():
        yield from sorted(more.glob("*.jinja"))
