"""Reading a configuration: YAML text and `--set` options in, a validated `Config` out.

Every error names the file, the key, what was found, what was expected and the fix; an unknown key names the
nearest known one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from instruct_fmt.common.files import expanded, read_whole
from instruct_fmt.common.names import nearest_name
from instruct_fmt.errors import ConfigError, shown
from instruct_fmt.run.config import yaml_io
from instruct_fmt.run.config.foreign import in_our_words
from instruct_fmt.run.config.foreign_datasets import dataset_in_our_words
from instruct_fmt.run.config.problems import Problems, problem
from instruct_fmt.run.config.schema import ALIASES, DATASET_ALIASES, Config, DatasetConfig, OutputConfig

__all__ = ["EMBEDDED", "load"]

_NUMBER = re.compile("[0-9]{1,9}")
_TYPE_NAMES = {"str", "bool", "int", "float", "date", "datetime"}
EMBEDDED: dict[str, Any] = {"tokenizer": "embedded", "datasets": ["embedded"]}


def load(given: str | Mapping[str, Any], settings: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Args:
        given: path of a YAML file, ``embedded`` for the default that needs no file and no network, or what such a file
            would hold.
        settings: changes such as ``max_length=512`` or ``output.path=out``; keys dotted, values in YAML.

    Raises:
        ConfigError: what does not fit.
        OSError: the file cannot be read.

    >>> load("embedded", ["cutoff_len=512"]).max_length
    512
    """
    name = given if isinstance(given, str) else "the configuration"
    problems = Problems(name)
    found = _canonical(_raw(given), problems)
    for setting in settings:
        change = Problems(f"--set {_short(setting)}")
        found = _canonical(_changed(found, setting), change)
        problems.lines += change.lines
        problems.left += change.left
    try:
        config: Config | None = Config.model_validate(found)
    except ValidationError as error:
        problems.lines += [str(_explain(name, one)) for one in error.errors()]
        config = None
    problems.check()
    assert config is not None
    whole: Config = config.model_copy(update={"left_to_trainer": tuple(dict.fromkeys(problems.left))})
    return whole


def _raw(given: str | Mapping[str, Any]) -> Any:
    if isinstance(given, str):
        return EMBEDDED if given == "embedded" else _read(expanded(given))
    return dict(given) if isinstance(given, Mapping) else given


def _read(path: Path) -> Any:
    text = read_whole(path, yaml_io.MAX_BYTES)
    try:
        return yaml_io.parse(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).split("\n")[0]
        found = f"text that is not YAML ({what})"
        raise problem(f"{path}{where}", "", found, "YAML", "correct that line") from None


def _canonical(raw: Any, problems: Problems) -> dict[str, Any]:
    """The same with our names for all keys, `datasets` as a list of mappings, and `output` as a mapping."""
    if not isinstance(raw, dict):
        raise problem(problems.file, "", shown(raw), "a mapping of keys to values", "write `key: value` lines")
    if "left_to_trainer" in raw:
        problems.add("left_to_trainer", "an unknown key", "keys of the trainer under their own names", "remove it")
    found = _renamed(in_our_words(raw, problems), ALIASES, "", problems)
    for name in ("datasets", "validation_datasets"):
        given = found.pop(name, None)
        if given is not None:
            entries = given if isinstance(given, list) else [given]
            inputs = found.get("train_on_inputs")
            read = (_dataset(entry, f"{name}.{i}.", problems, inputs) for i, entry in enumerate(entries))
            found[name] = [entry for several in read for entry in several]
    where = found.pop("output", None)
    if where is not None:
        found["output"] = {"path": where} if isinstance(where, str) else where
    return found


def _dataset(entry: Any, key: str, problems: Problems, inputs: object) -> list[Any]:
    if isinstance(entry, str):
        return [{"path": entry}]
    if not isinstance(entry, dict):
        return [entry]
    return [_renamed(one, DATASET_ALIASES, key, problems) for one in dataset_in_our_words(entry, key, problems, inputs)]


def _renamed(raw: Mapping[Any, Any], aliases: Mapping[str, str], key: str, problems: Problems) -> dict[str, Any]:
    found: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for name, value in raw.items():
        ours = aliases.get(name, name) if isinstance(name, str) else str(name)
        if ours in found:
            twice = f"a second value for `{ours}`, given before as `{spelled[ours]}`"
            problems.add(f"{key}{name}", twice, "one value", "remove one of them")
        found[ours], spelled[ours] = value, name
    return found


def _changed(config: dict[str, Any], setting: str) -> dict[str, Any]:
    """A copy of the configuration with one `--set` applied."""
    dotted, equals, text = setting.partition("=")
    file = f"--set {_short(setting)}"
    if not equals or not dotted:
        raise problem(file, "", "no `=`" if dotted else "no key", "key=value", "write it as `--set max_length=512`")
    try:
        value = yaml_io.parse(text)
    except yaml.YAMLError as error:
        what = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise problem(file, dotted, f"{shown(text)} ({what})", "a value in YAML", "put it in quotes") from None
    steps = dotted.split(".")
    if len(steps) > yaml_io.MAX_DEPTH:
        raise problem(file, "", f"a key of {len(steps)} steps", "a key of the configuration", "correct it")
    steps[0] = ALIASES.get(steps[0], steps[0])
    found: dict[str, Any] = _placed(config, steps, value, file)
    return found


def _short(setting: str) -> str:
    return setting if len(setting) < 200 else f"{setting[:200]}…"


def _placed(value: Any, steps: Sequence[str], new: Any, file: str) -> Any:
    """`value` with what lies at the end of `steps` replaced; nothing is changed in place."""
    if not steps:
        return new
    first, rest = steps[0], steps[1:]
    if isinstance(value, list):
        if not _NUMBER.fullmatch(first) and len(value) == 1:
            first, rest = "0", steps
        if not _NUMBER.fullmatch(first) or int(first) >= len(value):
            numbers = f"a number from 0 to {len(value) - 1}"
            raise problem(file, first, "no such entry", numbers, "write it as `datasets.0.path=…`")
        index = int(first)
        return [*value[:index], _placed(value[index], rest, new, file), *value[index + 1 :]]
    if value is None or isinstance(value, dict):
        ours = dict(value or {})
        name = DATASET_ALIASES.get(first, first) if "path" in ours or "dataset_info" in ours else first
        return {**ours, name: _placed(ours.get(name), rest, new, file)}
    raise problem(file, first, f"{shown(value)} above it", "a mapping or a list", "set the whole value instead")


def _explain(file: str, error: Any) -> ConfigError:
    """One of pydantic's errors in our words."""
    # Types of a union end the path, such as `stop.list[str]`; they are no keys.
    path = [step for step in error["loc"] if isinstance(step, int) or not _is_type(step)]
    key = ".".join(map(str, path))
    if error["type"] == "extra_forbidden":
        return _unknown(file, path, key)
    if error["type"] == "missing":
        return problem(file, key, "nothing", "a value", f"add `{key}: …`")
    expected = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    whole = isinstance(error["input"], dict)
    found = f"the keys {', '.join(map(str, error['input']))}" if whole else shown(error["input"])
    return problem(file, key, found, expected, f"correct `{key}`" if key else "add or remove keys")


def _unknown(file: str, path: Sequence[str | int], key: str) -> ConfigError:
    level: Iterable[str] = [*Config.model_fields, *ALIASES]
    if path[0] in ("datasets", "validation_datasets"):
        level = [*DatasetConfig.model_fields, *DATASET_ALIASES]
    elif path[0] == "output":
        level = OutputConfig.model_fields
    near = nearest_name(str(path[-1]), level)
    if path[0] in ("datasets", "validation_datasets") and path[-1] in Config.model_fields:
        return problem(
            file, key, "a key of the whole run", "keys of one dataset", f"move `{path[-1]}` to the top level"
        )
    if path[0] == path[-1] and path[-1] in DatasetConfig.model_fields:
        fix = f"write `{path[-1]}` beside the `path` of each dataset"
        return problem(file, key, "a key of one dataset", "keys of the whole run", fix)
    if near is not None:
        return problem(file, key, "an unknown key", near, f"did you mean `{near}`?")
    known = [name for name in level if name not in ("left_to_trainer", *ALIASES, *DATASET_ALIASES)]
    return problem(file, key, "an unknown key", f"one of {', '.join(known)}", "remove it")


def _is_type(step: str) -> bool:
    return step in _TYPE_NAMES or step.startswith(("function-", "literal[", "list["))
