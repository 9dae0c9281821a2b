"""LLaMA-Factory's ``dataset_info.json``: one of its entries in, a `DatasetConfig` out.

Source of the keys: `data/README.md` and `data/parser.py` of LLaMA-Factory 0.9.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from instruct_fmt.common.files import read_json
from instruct_fmt.common.names import nearest_name
from instruct_fmt.errors import shown
from instruct_fmt.run.config.problems import Problems, problem
from instruct_fmt.run.config.schema import DatasetConfig

__all__ = ["resolve", "unnamed"]

_MAX_BYTES = 16_000_000
_KEYS = (
    "file_name", "hf_hub_url", "formatting", "columns", "tags", "split", "subset", "folder", "ranking", "num_samples",
    "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name",
)  # fmt: skip
_PLACES = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
# What LLaMA-Factory reads where an entry has no `columns`, and what only a name there makes it read.
_READ = ("instruction", "input", "output", "conversations")
_OPTIONAL = {"query": "input", "history": "history", "system": "system", "tools": "tools"}
_SLICE = re.compile(r"\[:(\d+)\]")
_DOWNLOAD = "download the data, and name the file as `file_name` in its place"


def resolve(dataset: DatasetConfig, base: Path) -> DatasetConfig:
    """Fill a dataset's path, format and fields from its `dataset_info` and `tags`.

    Args:
        dataset: a dataset of a configuration; what it says itself holds over the entry. A `split` that is a slice
            alone, such as ``[:5]``, is one of the entry's split.
        base: the folder that relative paths start from, before the current one.

    Raises:
        ConfigError: no such entry, or something in it that is not supported.
        OSError: the file cannot be read.
    """
    if dataset.dataset_info is None:
        named: DatasetConfig = dataset.model_copy(update={"field_map": {**(dataset.tags or {}), **dataset.fields()}})
        return named
    file = base / dataset.dataset_info
    if not file.exists() and Path(dataset.dataset_info).exists():
        file = Path(dataset.dataset_info).absolute()
    entry = _entry(file, str(dataset.name))
    hub = entry.get("hf_hub_url")
    update = {
        "path": str(file.parent / entry["file_name"] if hub is None else hub),
        "name": entry.get("subset"),
        "split": _split(dataset, entry),
        "dataset_info": None,
        "format": dataset.format or entry.get("formatting", "alpaca"),
        # The formatter knows the names that such an entry gives to columns and tags.
        "field_map": {
            **(entry.get("columns") or {}),
            **(entry.get("tags") or {}),
            **(dataset.tags or {}),
            **dataset.fields(),
        },
    }
    found: DatasetConfig = dataset.model_copy(update=update)
    return found


def unnamed(dataset: DatasetConfig, columns: Iterable[str]) -> list[tuple[str, str]]:
    """Columns that LLaMA-Factory leaves out, because the entry does not name them, and that are read here.

    Args:
        dataset: what `resolve` gave for an entry.
        columns: the columns of the data.

    Returns:
        The name to give in `columns`, and the column.
    """
    names = dataset.field_map or {}
    given = any(key in names for key in ("prompt", "response", "messages", *_OPTIONAL))
    read = set(names.values()) if given else set(_READ)
    keys = _OPTIONAL if dataset.format == "alpaca" else ("system", "tools")
    present = set(columns) - read
    return [(key, _OPTIONAL[key]) for key in keys if _OPTIONAL[key] in present]


def _entry(file: Path, name: str) -> Mapping[str, Any]:
    entries = read_json(file, _MAX_BYTES)
    if not isinstance(entries, dict) or not isinstance(entries.get(name), dict):
        names = ", ".join(entries) if isinstance(entries, dict) else "nothing"
        raise problem(str(file), "", f"no entry {name!r}", f"one of {names}", "set `name` to one of them")
    problems = Problems(str(file))
    entry: dict[str, Any] = entries[name]
    for check in (_check_keys, _check_place, _check_preferences):
        check(entry, name, problems)
    problems.check()
    return entry


def _check_keys(entry: Mapping[str, Any], name: str, problems: Problems) -> None:
    for key in entry:
        if key not in _KEYS:
            near = nearest_name(key, _KEYS)
            fix = f"did you mean `{near}`?" if near else "remove it"
            problems.add(f"{name}.{key}", "an unknown key", near or ", ".join(_KEYS), fix)
    for key in ("columns", "tags"):
        value = entry.get(key)
        if value is not None and not (isinstance(value, dict) and all(isinstance(one, str) for one in value.values())):
            problems.add(f"{name}.{key}", shown(value), "a mapping of names to names", "correct the entry")
    if entry.get("formatting", "alpaca") not in ("alpaca", "sharegpt", "openai"):
        problems.add(
            f"{name}.formatting", shown(entry["formatting"]), "alpaca, sharegpt or openai", "write one of them"
        )
    limit = entry.get("num_samples")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        problems.add(f"{name}.num_samples", shown(limit), "a number of rows", "take it out for all of them")


def _check_place(entry: Mapping[str, Any], name: str, problems: Problems) -> None:
    expected = "`file_name` or `hf_hub_url`"
    if "hf_hub_url" in entry:
        if entry.get("folder") is not None:
            fix = "download that folder, and name it as `file_name` in place of both"
            problems.add(f"{name}.folder", shown(entry["folder"]), "none beside `hf_hub_url`", fix)
        return
    others = [key for key in _PLACES if key in entry]
    for key in others:
        # There, each of them comes before a file.
        problems.add(f"{name}.{key}", shown(entry[key]), expected, _DOWNLOAD)
    if not others and not isinstance(entry.get("file_name"), str):
        problems.add(f"{name}.file_name", shown(entry.get("file_name")), expected, "add it to the entry")


def _check_preferences(entry: Mapping[str, Any], name: str, problems: Problems) -> None:
    columns = entry.get("columns")
    columns = columns if isinstance(columns, dict) else {}
    tag = columns.get("kto_tag")
    if tag is not None:
        fix = f"take kto_tag out of the entry, and rows whose {tag!r} is false out of the data"
        problems.add(f"{name}.columns.kto_tag", shown(tag), "data for supervised training", fix)
    if entry.get("ranking"):
        fix = (
            "choose another entry: preference data is not supported yet; or take `ranking` and `rejected` out of this "
            f"one, and name {columns.get('chosen', 'chosen')!r} as `response`"
        )
        problems.add(f"{name}.ranking", "true", "data for supervised training", fix)


def _split(dataset: DatasetConfig, entry: Mapping[str, Any]) -> str:
    """The dataset's split, or the entry's, of which as many rows as both limits allow are taken."""
    said = dataset.split if "split" in dataset.model_fields_set else ""
    only = _SLICE.fullmatch(said)
    whole = said if said and only is None else str(entry.get("split") or "train")
    limits = [int(limit) for limit in (entry.get("num_samples"), only and only[1]) if limit]
    return f"{whole}[:{min(limits)}]" if limits and "[" not in whole else whole
