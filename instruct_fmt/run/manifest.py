"""The manifest beside a prepared dataset: what it was made from, so that a second run can tell if it holds.

In: the facts of a formatter and the hash of the data. Out: `manifest.json`, and the verdict ``cache hit`` or
``miss: template changed``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from instruct_fmt.errors import Rejection
from instruct_fmt.threads import in_order
from instruct_fmt.types import Unread

if TYPE_CHECKING:
    from datasets import Dataset

FILE_NAME = "manifest.json"
LEDGER_NAME = "rejected.jsonl"
HIT = "cache hit"
_LAYOUT = 1
_VERSIONED = ("transformers", "tokenizers", "datasets", "jinja2", "pyarrow")
# A new version of these may change ids; the others only move bytes.
_DECISIVE = ("transformers", "tokenizers", "jinja2")
_HASH_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a prepared dataset was made from, and what came out.

    Attributes:
        parts: a hash or version for each thing that decides the result: template, tokenizer, options, data,
            version, output.
        versions: package versions, for the reader.
        output: format (``arrow`` or ``parquet``) and columns.
        counts: the numbers of the report.
        unread: what nothing read of the rows: path → how often, and the first.
        files: for each data file its size in bytes.
        layout: version of this file's own layout.
    """

    parts: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=dict)
    output: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, Unread] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    layout: int = _LAYOUT

    @property
    def key(self) -> str:
        """One hash over all parts: the name of the result in the cache."""
        return _digest(f"{name}={value}" for name, value in sorted(self.parts.items()))

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into a folder."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False)
        (folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")


def describe(facts: Sequence[Mapping[str, str]], data: Sequence[str], output: Mapping[str, str]) -> Manifest:
    """The manifest of a run that has not started yet.

    Args:
        facts: `Formatter.facts()` of each source.
        data: `data_hash` of each source.
        output: format and kept columns.
    """
    versions = {name: metadata.version(name) for name in _VERSIONED}
    parts = {name: _one([fact[name] for fact in facts]) for name in ("template", "tokenizer", "options")}
    parts["data"] = _one(data)
    parts["version"] = ", ".join(
        [f"instruct_fmt {facts[0]['version']}", *(f"{name} {versions[name]}" for name in _DECISIVE)]
    )
    parts["output"] = json.dumps(dict(output), sort_keys=True)
    return Manifest(parts, {"instruct_fmt": facts[0]["version"], **versions}, output)


def read(folder: Path) -> Manifest | None:
    """The manifest in a folder; None where there is none or it cannot be read."""
    try:
        found = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        unread = {path: Unread(**said) for path, said in found.pop("unread", {}).items()}
        return Manifest(**found, unread=unread)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def compare(old: Manifest, new: Manifest) -> str:
    """``cache hit``, or ``miss:`` with the name of each part that changed.

    >>> a = Manifest({"template": "1", "data": "2"})
    >>> compare(a, Manifest({"template": "9", "data": "2"}))
    'miss: template changed'
    """
    changed = [name for name, value in new.parts.items() if old.parts.get(name) != value]
    if old.layout != new.layout and "version" not in changed:
        changed.append("version")
    return f"miss: {', '.join(changed)} changed" if changed else HIT


def verdict(folder: Path, new: Manifest) -> str:
    """Whether the result in `folder` is the one that `new` describes, complete and unchanged."""
    old = read(folder)
    if old is None:
        return "miss: nothing prepared here before"
    found = compare(old, new)
    if found == HIT and not _complete(folder, old):
        return "miss: the earlier output is incomplete"
    return found


def cache_verdict(cache: Path, new: Manifest) -> str:
    """The same for a cache of many results, where what changed is told against the nearest one."""
    if (cache / new.key).is_dir():
        return verdict(cache / new.key, new)
    earlier = [old for old in map(read, cache.glob("*")) if old is not None]
    near = [old for old in earlier if _distance(old, new) < len(new.parts) // 2]
    if not near:
        return "miss: nothing prepared from this before"
    return compare(min(near, key=lambda old: _distance(old, new)), new)


def data_hash(dataset: Dataset) -> str:
    """A hash of a dataset's content and types: the same in every process, and however the table is chunked.

    Bytes are hashed rather than `Dataset._fingerprint`, which is random after some operations and stays the
    same where a file behind a loaded folder was edited.
    """
    import numpy as np
    import pyarrow as pa

    arrow = dataset.with_format("arrow")

    def of_rows(start: int) -> bytes:
        table: pa.Table = arrow[start : start + _HASH_ROWS]
        # `take` writes the buffers anew: what lies under a null depends on where the table comes from.
        fresh = table.replace_schema_metadata(None).take(pa.array(np.arange(table.num_rows)))
        digest = hashlib.blake2b(digest_size=20)
        for batch in fresh.combine_chunks().to_batches():
            digest.update(batch.serialize())
        return digest.digest()

    digest = hashlib.blake2b(repr(list(dataset.features.items())).encode(), digest_size=20)
    for found in in_order(of_rows, range(0, len(dataset), _HASH_ROWS)):
        digest.update(found)
    return digest.hexdigest()


def write_ledger(path: Path, rejections: Iterable[Rejection], dataset: str | None = None) -> None:
    """Append rejected rows to a file, one JSON object per line, with the name of their dataset if given."""
    about = {} if dataset is None else {"dataset": dataset}
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({**about, **rejection.to_dict()}) + "\n" for rejection in rejections)


def read_ledger(path: Path) -> list[Rejection]:
    """The rejected rows in a ledger file."""
    if not path.is_file():
        return []
    # Most rows share reason, expectation and fix: keep each text once.
    texts: dict[str, str] = {}
    rejections = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            fields = json.loads(line)
            row = fields.pop("row")
            fields.pop("dataset", None)
            shared = {name: texts.setdefault(text, text) for name, text in fields.items()}
            rejections.append(Rejection(row, **shared))
    return rejections


def _complete(folder: Path, manifest: Manifest) -> bool:
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == size for name, size in manifest.files.items()
    )


def _distance(old: Manifest, new: Manifest) -> int:
    return sum(old.parts.get(name) != value for name, value in new.parts.items())


def _one(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 and len(values) == 1 else _digest(values)


def _digest(values: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(values).encode()).hexdigest()
