"""LLaMA-Factory's ``dataset_info.json``: one of its entries in, a `DatasetConfig` out.

Source of the keys: the file ``data/README.md`` of that project.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instruct_fmt.errors import ConfigError, shown
from instruct_fmt.run.config import DatasetConfig

__all__ = ["resolve"]

_KEYS = {
    "file_name", "hf_hub_url", "formatting", "columns", "tags", "split", "subset", "ranking", "num_samples",
    "ms_hub_url", "om_hub_url",
}  # fmt: skip


def resolve(dataset: DatasetConfig, base: Path) -> DatasetConfig:
    """Fill a dataset's path, format and fields from its `dataset_info` and `tags`.

    Args:
        dataset: a dataset of a configuration; what it says itself holds over the entry.
        base: the folder that relative paths start from.

    Raises:
        ConfigError: no such entry, or something in it that is not supported.
        OSError: the file cannot be read.
    """
    if dataset.dataset_info is None:
        return dataset.model_copy(update={"field_map": {**(dataset.tags or {}), **dataset.fields()}})
    file = base / dataset.dataset_info
    where = f"{file}: {dataset.name}"
    entry = _entry(file, str(dataset.name))
    # The formatter knows the names that such an entry gives to columns and tags.
    names = {
        **_checked(entry.get("columns", {}), f"{where}.columns"),
        **_checked(entry.get("tags", {}), f"{where}.tags"),
        **(dataset.tags or {}),
        **dataset.fields(),
    }
    update = {
        "path": _path(entry, file, where),
        "name": entry.get("subset"),
        "split": _split(dataset, entry),
        "dataset_info": None,
        "format": dataset.format or entry.get("formatting", "alpaca"),
        "field_map": names,
    }
    return dataset.model_copy(update=update)


def _entry(file: Path, name: str) -> Mapping[str, Any]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        found = f"text that is not JSON ({error})"
        raise _error(str(file), found, "a JSON object", "correct the file") from None
    if not isinstance(entries, dict) or not isinstance(entries.get(name), dict):
        names = ", ".join(entries) if isinstance(entries, dict) else "nothing"
        raise _error(str(file), f"no entry {name!r}", f"one of {names}", "set `name` to one of them")
    entry: dict[str, Any] = entries[name]
    if extra := sorted(set(entry) - _KEYS):
        raise _error(f"{file}: {name}", f"{extra}", f"keys among {sorted(_KEYS)}", "remove them")
    tag = (entry.get("columns") or {}).get("kto_tag") if isinstance(entry.get("columns"), dict) else None
    if tag is not None:
        fix = f"take kto_tag out of the entry, and rows whose {tag!r} is false out of the data"
        raise _error(f"{file}: {name}", f"kto_tag: {tag}", "data for supervised training", fix)
    if entry.get("ranking"):
        chosen = (entry.get("columns") or {}).get("chosen", "chosen")
        fix = (
            "choose another entry: preference data is not supported yet; or take `ranking` and `rejected` out of this "
            f"one, and name {chosen!r} as `response`"
        )
        raise _error(f"{file}: {name}", "ranking: true", "data for supervised training", fix)
    return entry


def _path(entry: Mapping[str, Any], file: Path, where: str) -> str:
    if "hf_hub_url" in entry:
        return str(entry["hf_hub_url"])
    if "file_name" not in entry:
        raise _error(where, "neither file_name nor hf_hub_url", "one of them", "add it to the entry")
    return str(file.parent / entry["file_name"])


def _split(dataset: DatasetConfig, entry: Mapping[str, Any]) -> str:
    split = dataset.split if "split" in dataset.model_fields_set else str(entry.get("split", "train"))
    limit = entry.get("num_samples")
    return f"{split}[:{limit}]" if limit and "[" not in split else split


def _checked(found: Any, where: str) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _error(where, shown(found), "a mapping of names to names", "correct the entry")
    return found


def _error(where: str, found: str, expected: str, fix: str) -> ConfigError:
    return ConfigError(f"{where}: found {found}; expected {expected}; fix: {fix}")
