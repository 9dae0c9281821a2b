"""Reading a configuration: YAML text and `--set` options in, a validated `Config` out.

Every error names the file, the key, what was found, what was expected and the fix; an unknown key names the
nearest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from instruct_fmt.errors import ConfigError, shown
from instruct_fmt.run.config import ALIASES, DATASET_ALIASES, Config, DatasetConfig, OutputConfig

__all__ = ["EMBEDDED", "load"]

_TYPE_NAMES = {"str", "bool", "int", "float", "date", "datetime"}
EMBEDDED: dict[str, Any] = {"tokenizer": "embedded", "datasets": ["embedded"]}


def load(name: str, settings: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Args:
        name: path of a YAML file, or ``embedded`` for the default that needs no file and no network.
        settings: changes such as ``max_length=512`` or ``output.path=out``; keys dotted, values in YAML.

    Raises:
        ConfigError: what does not fit.
        OSError: the file cannot be read.

    >>> load("embedded", ["cutoff_len=512"]).max_length
    512
    """
    raw = EMBEDDED if name == "embedded" else _read(Path(name))
    found = _canonical(raw, name)
    for setting in settings:
        found = _canonical(_changed(found, setting), f"--set {setting}")
    try:
        return Config.model_validate(found)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(name, problem) for problem in error.errors())) from None


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return dict(super().construct_mapping(node, deep))


def _read(path: Path) -> Any:
    text = path.read_bytes()
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).split("\n")[0]
        found = f"text that is not YAML ({what})"
        raise _error(f"{path}{where}", "", found, "YAML", "correct that line") from None


def _canonical(raw: Any, file: str) -> dict[str, Any]:
    """The same with our names for all keys, `datasets` as a list of mappings, and `output` as a mapping."""
    if not isinstance(raw, dict):
        raise _error(file, "", shown(raw), "a mapping of keys to values", "write `key: value` lines")
    found = _renamed(raw, ALIASES, file, "")
    if "datasets" in found:
        given = found["datasets"]
        entries = given if isinstance(given, list) else [given]
        found["datasets"] = [_dataset(entry, f"datasets.{i}.", file) for i, entry in enumerate(entries)]
    if isinstance(found.get("output"), str):
        found["output"] = {"path": found["output"]}
    return found


def _dataset(entry: Any, key: str, file: str) -> Any:
    if isinstance(entry, str):
        return {"path": entry}
    return _renamed(entry, DATASET_ALIASES, file, key) if isinstance(entry, dict) else entry


def _renamed(raw: Mapping[Any, Any], aliases: Mapping[str, str], file: str, key: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for name, value in raw.items():
        ours = aliases.get(name, name) if isinstance(name, str) else str(name)
        if ours in found:
            twice = f"a second value for `{ours}`, given before as `{spelled[ours]}`"
            raise _error(file, f"{key}{name}", twice, "one value", "remove one of them")
        found[ours], spelled[ours] = value, name
    return found


def _changed(config: dict[str, Any], setting: str) -> dict[str, Any]:
    """A copy of the configuration with one `--set` applied."""
    dotted, equals, text = setting.partition("=")
    file = f"--set {setting}"
    if not equals or not dotted:
        raise _error(file, "", "no `=`" if dotted else "no key", "key=value", "write it as `--set max_length=512`")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise _error(file, dotted, shown(text), "a value in YAML", "put it in quotes") from None
    steps = dotted.split(".")
    steps[0] = ALIASES.get(steps[0], steps[0])
    found: dict[str, Any] = _placed(config, steps, value, file)
    return found


def _placed(value: Any, steps: Sequence[str], new: Any, file: str) -> Any:
    """`value` with what lies at the end of `steps` replaced; nothing is changed in place."""
    if not steps:
        return new
    first, rest = steps[0], steps[1:]
    if isinstance(value, list):
        if not first.isdigit() and len(value) == 1:
            first, rest = "0", steps
        if not first.isdigit() or int(first) >= len(value):
            numbers = f"a number from 0 to {len(value) - 1}"
            raise _error(file, first, "no such entry", numbers, "write it as `datasets.0.path=…`")
        index = int(first)
        return [*value[:index], _placed(value[index], rest, new, file), *value[index + 1 :]]
    if value is None or isinstance(value, dict):
        ours = dict(value or {})
        name = DATASET_ALIASES.get(first, first) if "path" in ours or "dataset_info" in ours else first
        return {**ours, name: _placed(ours.get(name), rest, new, file)}
    raise _error(file, first, f"{shown(value)} above it", "a mapping or a list", "set the whole value instead")


def _explain(file: str, problem: Any) -> str:
    """One line for one of pydantic's errors."""
    # Types of a union end the path, such as `stop.list[str]`; they are no keys.
    path = [step for step in problem["loc"] if isinstance(step, int) or not _is_type(step)]
    key = ".".join(map(str, path))
    if problem["type"] == "extra_forbidden":
        return str(_unknown(file, path, key))
    if problem["type"] == "missing":
        return str(_error(file, key, "nothing", "a value", f"add `{key}: …`"))
    expected = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    whole = isinstance(problem["input"], dict)
    found = f"the keys {', '.join(problem['input'])}" if whole else shown(problem["input"])
    return str(_error(file, key, found, expected, f"correct `{key}`" if key else "add or remove keys"))


def _unknown(file: str, path: Sequence[str | int], key: str) -> ConfigError:
    level: Iterable[str] = [*Config.model_fields, *ALIASES]
    if path[0] == "datasets":
        level = [*DatasetConfig.model_fields, *DATASET_ALIASES]
    elif path[0] == "output":
        level = OutputConfig.model_fields
    near = difflib.get_close_matches(str(path[-1]), list(level), 1)
    fix = f"did you mean `{near[0]}`?" if near else "remove it"
    return _error(file, key, "an unknown key", near[0] if near else "a known key", fix)


def _is_type(step: str) -> bool:
    return step in _TYPE_NAMES or step.startswith(("function-", "literal[", "list["))


def _error(file: str, key: str, found: str, expected: str, fix: str) -> ConfigError:
    where = f"{file}: {key}" if key else file
    return ConfigError(f"{where}: found {found}; expected {expected}; fix: {fix}")
