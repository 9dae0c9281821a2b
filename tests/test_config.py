"""Configurations: aliases, changes from the command line, and one clear error for whatever does not fit."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from instruct_fmt.errors import ConfigError
from instruct_fmt.options import about
from instruct_fmt.run.config.dataset_info import resolve
from instruct_fmt.run.config.load import load
from instruct_fmt.run.config.schema import ALIASES, DATASET_ALIASES, Config, DatasetConfig

BASE = {"tokenizer": "embedded", "datasets": ["embedded"]}


def written(folder: Path, content: Any) -> str:
    path = folder / "run.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return str(path)


def refused(folder: Path, content: Any, *settings: str) -> str:
    """The message of the one error that this configuration gives."""
    with pytest.raises(ConfigError) as error:
        load(written(folder, content), settings)
    message = str(error.value)
    for line in message.splitlines():
        assert "found " in line, line
        assert "expected " in line, line
        assert "fix: " in line, line
    return message


def test_embedded_default_needs_no_file() -> None:
    found = load("embedded")
    assert (found.tokenizer, [dataset.path for dataset in found.datasets]) == ("embedded", ["embedded"])


@pytest.mark.parametrize(
    ("alias", "value"),
    [
        ("sequence_len", 7),
        ("cutoff_len", 7),
        ("max_seq_length", 7),
        ("chat_template", "chatml"),
        ("chat_template_kwargs", {"enable_thinking": False}),
        ("dataset_num_proc", 2),
        ("preprocessing_num_workers", 2),
        ("base_model", "some/model"),
        ("default_system_message", "Be brief."),
    ],
)
def test_aliases_mean_the_same(tmp_path: Path, alias: str, value: Any) -> None:
    as_alias = load(written(tmp_path, {**BASE, alias: value}))
    assert as_alias == load(written(tmp_path, {**BASE, ALIASES[alias]: value}))
    assert getattr(as_alias, ALIASES[alias]) == value


def test_every_alias_leads_to_a_key() -> None:
    assert set(ALIASES.values()) <= set(Config.model_fields)
    assert set(DATASET_ALIASES.values()) <= set(DatasetConfig.model_fields)


def test_all_options_of_compile_are_keys() -> None:
    assert about().keys() <= set(Config.model_fields)


def test_own_template_of_the_tokenizer(tmp_path: Path) -> None:
    assert load(written(tmp_path, {**BASE, "chat_template": "tokenizer_default"})).template is None


@pytest.mark.parametrize(
    ("extra", "trained"),
    [
        ({}, None),
        ({"train_on_inputs": True}, "all"),
        ({"train_on_inputs": False}, "assistant"),
        ({"roles_to_train": ["assistant", "tool"]}, ["assistant", "tool"]),
        ({"roles_to_train": "assistant", "train_on_inputs": False}, ["assistant"]),
        ({"train_on": "last", "train_on_eos": "turn"}, "last"),
    ],
)
def test_what_is_trained(tmp_path: Path, extra: dict[str, Any], trained: Any) -> None:
    assert load(written(tmp_path, {**BASE, **extra})).trained() == trained


def test_what_is_trained_is_said_once(tmp_path: Path) -> None:
    message = refused(tmp_path, {**BASE, "train_on_inputs": True, "train_on": "last"})
    assert "one of train_on and train_on_inputs" in message


def test_fields_of_messages(tmp_path: Path) -> None:
    dataset = {
        "path": "x.jsonl",
        "field_messages": "dialog",
        "message_property_mappings": {"role": "from"},
        "field_map": {"tools": "functions"},
    }
    found = load(written(tmp_path, {**BASE, "datasets": dataset})).datasets[0]
    assert found.fields() == {"messages": "dialog", "role": "from", "tools": "functions"}


@pytest.mark.parametrize(
    ("content", "key", "nearest"),
    [
        ({**BASE, "max_lenght": 5}, "max_lenght", "max_length"),
        ({**BASE, "sequence_length": 5}, "sequence_length", "sequence_len"),
        ({**BASE, "train_on_input": True}, "train_on_input", "train_on_inputs"),
        ({**BASE, "datasets": [{"path": "embedded", "splits": "x"}]}, "datasets.0.splits", "split"),
        ({**BASE, "output": {"pth": "x"}}, "output.pth", "path"),
    ],
)
def test_unknown_key_names_the_nearest(tmp_path: Path, content: Any, key: str, nearest: str) -> None:
    message = refused(tmp_path, content)
    assert message == (
        f"{tmp_path / 'run.yaml'}: {key}: found an unknown key; expected {nearest}; fix: did you mean `{nearest}`?"
    )
    assert difflib.get_close_matches(key, [nearest]) or "." in key


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({**BASE, "max_length": 0}, ["max_length: found 0", "greater than 0"]),
        ({**BASE, "max_length": "512"}, ["max_length: found '512'", "integer"]),
        ({**BASE, "max_rejected": 2}, ["max_rejected: found 2", "less than or equal to 1"]),
        ({**BASE, "history": "automatic"}, ["history: found 'automatic'", "'auto', 'as_rendered'"]),
        ({**BASE, "train_on_eos": "last"}, ["train_on_eos: found 'last'", "`turn`", "train_on: last"]),
        ({**BASE, "train_on_eos": "none"}, ["train_on_eos: found 'none'", "`turn`"]),
        ({**BASE, "output": {"format": "csv"}}, ["output.format: found 'csv'", "'arrow' or 'parquet'"]),
        ({**BASE, "stop": 5}, ["stop: found 5", "list"]),
        ({"tokenizer": "embedded"}, ["datasets: found nothing", "add `datasets: …`"]),
        ({"tokenizer": "embedded", "datasets": []}, ["datasets: found []"]),
        ({"datasets": ["embedded"]}, ["the keys datasets", "`tokenizer`"]),
        ({**BASE, "datasets": [{"split": "train"}]}, ["datasets.0: found the keys split", "`path`"]),
        ({**BASE, "datasets": [{"dataset_info": "x.json"}]}, ["datasets.0", "`name`"]),
        ({**BASE, "max_length": 5, "cutoff_len": 6}, ["found a second value for `max_length`", "cutoff_len"]),
        ("tokenizer: embedded\ntokenizer: other\n", ["run.yaml, line 2", "given twice"]),
        ("tokenizer: [embedded\ndatasets: x", ["run.yaml, line 2", "not YAML"]),
        ("- a\n- b\n", ["found ['a', 'b']", "a mapping"]),
        ("", ["found None", "a mapping"]),
    ],
)
def test_errors_say_where_and_what(tmp_path: Path, content: Any, parts: list[str]) -> None:
    message = refused(tmp_path, content)
    assert message.startswith(str(tmp_path / "run.yaml"))
    for part in parts:
        assert part in message


def test_settings_override(tmp_path: Path) -> None:
    settings = [
        "cutoff_len=64",
        "output.path=out",
        "output.format=parquet",
        "datasets.0.split=train[:2]",
        "datasets.type=sharegpt",
        "template_kwargs.enable_thinking=false",
        "stop=[a, b]",
    ]
    found = load(written(tmp_path, {**BASE, "max_length": 9, "output": "elsewhere"}), settings)
    assert found.max_length == 64
    assert (found.output.path, found.output.format) == ("out", "parquet")
    assert (found.datasets[0].split, found.datasets[0].format) == ("train[:2]", "sharegpt")
    assert found.template_kwargs == {"enable_thinking": False}
    assert found.stop == ["a", "b"]


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("max_length", "no `=`"),
        ("=5", "no key"),
        ("max_lenght=5", "`max_length`"),
        ("max_length=0", "greater than 0"),
        ("datasets.7.path=x", "0 to 0"),
        ("tokenizer.name=x", "above it"),
        ("max_length=[", "in YAML"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, setting: str, part: str) -> None:
    assert part in refused(tmp_path, BASE, setting)


def entry(folder: Path, **values: Any) -> DatasetConfig:
    (folder / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": "mine.json", **values}}))
    return resolve(DatasetConfig(dataset_info="dataset_info.json", name="mine"), folder)


def test_dataset_info(tmp_path: Path) -> None:
    columns = {"messages": "talk", "tools": "functions"}
    tags = {"role_tag": "by", "user_tag": "customer"}
    found = entry(tmp_path, formatting="sharegpt", columns=columns, tags=tags, num_samples=5)
    assert found.path == str(tmp_path / "mine.json")
    assert (found.format, found.split) == ("sharegpt", "train[:5]")
    assert found.field_map == {**columns, **tags}


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"ranking": True}, "preference data is not supported yet"),
        ({"colums": {}}, "did you mean `columns`?"),
        ({"columns": ["a"]}, "mine.columns: found ['a']"),
    ],
)
def test_dataset_info_that_does_not_fit(tmp_path: Path, values: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=r"found .*expected .*fix: ") as error:
        entry(tmp_path, **values)
    assert part in str(error.value)


def test_dataset_info_lists_its_entries(tmp_path: Path) -> None:
    entry(tmp_path)
    with pytest.raises(ConfigError, match="no entry 'other'; expected one of mine"):
        resolve(DatasetConfig(dataset_info="dataset_info.json", name="other"), tmp_path)
