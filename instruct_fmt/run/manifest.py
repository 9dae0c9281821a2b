"""The manifest beside a prepared dataset: what it was made from, so that a second run can tell if it holds.

In: the facts of a formatter and the hash of the data. Out: `manifest.json`, and the verdict ``cache hit`` or
``miss: template changed``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import unified_diff
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from instruct_fmt.types import Unread

FILE_NAME = "manifest.json"
HIT = "cache hit"
_LAYOUT: Final = 2
_MAX_BYTES, _MAX_TEMPLATE, _MAX_CHANGES = 64_000_000, 200_000, 24
_VERSIONED = ("transformers", "tokenizers", "datasets", "jinja2", "pyarrow")
# A new version of these may change ids; the others only move bytes.
_DECISIVE = ("transformers", "tokenizers", "jinja2")


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class File:
    """A file of a result: its size in bytes, when it was written (ns), and `file_digest`."""

    size: int
    modified: int
    digest: str


@with_config(ConfigDict(extra="forbid"))
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
        files: every file of the result but the manifest.
        templates: the text of each source's template, to show what changed.
        made_by: says that the folder is this package's.
        layout: version of this file's own layout.
    """

    parts: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=dict)
    output: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, Unread] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=dict)
    templates: Sequence[str] = ()
    made_by: Literal["instruct_fmt"] = "instruct_fmt"
    layout: Literal[2] = _LAYOUT

    @property
    def key(self) -> str:
        """One hash over all parts: the name of the result in the cache."""
        return _digest(f"{name}={value}" for name, value in sorted(self.parts.items()))

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into a folder."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False)
        (folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")


_FORM = TypeAdapter(Manifest)


def describe(
    facts: Sequence[Mapping[str, str]], data: Sequence[str], output: Mapping[str, str], templates: Sequence[str]
) -> Manifest:
    """The manifest of a run that has not started yet.

    Args:
        facts: `Formatter.facts()` of each source.
        data: `data_hash` of each source.
        output: format and kept columns.
        templates: the text of each source's template.
    """
    versions = {name: metadata.version(name) for name in _VERSIONED}
    parts = {name: _one([fact[name] for fact in facts]) for name in ("template", "tokenizer", "options")}
    parts["data"] = _one(data)
    parts["version"] = ", ".join(
        [f"instruct_fmt {facts[0]['version']}", *(f"{name} {versions[name]}" for name in _DECISIVE)]
    )
    parts["output"] = json.dumps({**output, "layout": _LAYOUT}, sort_keys=True)
    shown = [template[:_MAX_TEMPLATE] for template in dict.fromkeys(templates)]
    return Manifest(parts, {"instruct_fmt": facts[0]["version"], **versions}, output, templates=shown)


def read(folder: Path) -> Manifest | None:
    """The manifest in a folder; None where there is none of this package and layout."""
    path = folder / FILE_NAME
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return None
        return _FORM.validate_json(path.read_bytes(), strict=True)
    except (OSError, ValidationError):
        return None


def compare(old: Manifest, new: Manifest) -> str:
    """``cache hit``, or ``miss:`` with the name of each part that changed.

    >>> a = Manifest({"template": "1", "data": "2"})
    >>> compare(a, Manifest({"template": "9", "data": "2"}))
    'miss: template changed'
    """
    changed = [name for name, value in new.parts.items() if old.parts.get(name) != value]
    return f"miss: {', '.join(changed)} changed" if changed else HIT


def template_changes(old: Manifest | None, new: Manifest) -> tuple[str, ...]:
    """What is different in the templates, as lines of a diff; none where they are the same.

    >>> template_changes(Manifest({}, templates=["a\\nb"]), Manifest({}, templates=["a\\nc"]))
    ('-b', '+c')
    """
    if old is None or list(old.templates) == list(new.templates):
        return ()
    before, after = ("\n".join(one.templates).splitlines() for one in (old, new))
    found = [
        line for line in unified_diff(before, after, n=0, lineterm="") if not line.startswith(("---", "+++", "@@"))
    ]
    more = len(found) - _MAX_CHANGES
    return (*found[:_MAX_CHANGES], f"… {more} lines more") if more > 0 else tuple(found)


def nearest(cache: Path, new: Manifest) -> str:
    """What changed against the nearest of the results in a cache."""
    earlier = [old for old in map(read, cache.glob("*")) if old is not None]
    near = [old for old in earlier if _distance(old, new) < len(new.parts) // 2]
    if not near:
        return "miss: nothing prepared from this before"
    return compare(min(near, key=lambda old: _distance(old, new)), new)


def _distance(old: Manifest, new: Manifest) -> int:
    return sum(old.parts.get(name) != value for name, value in new.parts.items())


def _one(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 and len(values) == 1 else _digest(values)


def _digest(values: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(values).encode()).hexdigest()
