"""Configurations in the words of axolotl and LLaMA-Factory train the text that those tools document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from typer.testing import CliRunner

from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.cli import app
from instruct_fmt.common.names import nearest_name
from instruct_fmt.errors import ConfigError
from instruct_fmt.run.config.load import load
from instruct_fmt.run.config.schema import ALIASES, DATASET_ALIASES, Config, DatasetConfig
from instruct_fmt.run.open import open_sources

GOLDEN = sorted((Path(__file__).parent / "golden" / "configs").glob("*.yaml"))
BASE: dict[str, Any] = {"tokenizer": "embedded", "datasets": ["embedded"]}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def written(folder: Path, case: dict[str, Any]) -> Path:
    """The configuration of a case, its files beside it."""
    for name, content in case["files"].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = name.endswith(".jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in content) if lines else json.dumps(content))
    (folder / "run.yaml").write_text(case["config"], encoding="utf-8")
    return folder / "run.yaml"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_configuration_trains_what_its_own_tool_documents(path: Path, tmp_path: Path) -> None:
    case = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = load(str(written(tmp_path, case)))
    assert list(config.left_to_trainer) == case["left"]
    trained, texts = [], []
    for source in open_sources(config, tmp_path):
        fmt: Any = source.fmt
        for row in table_rows(source.dataset.with_format("arrow")[:]):
            found = fmt.encode(row)
            runs: list[list[int]] = [[]]
            for label in found["labels"]:
                if label >= 0:
                    runs[-1].append(label)
                elif runs[-1]:
                    runs.append([])
            trained.append([fmt.tokenizer.decode(run) for run in runs if run])
            texts.append(fmt.render(row).text)
    assert trained == case["trained"]
    assert texts[: len(case["text"])] == case["text"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_command_line_says_what_it_leaves_to_the_trainer(path: Path, tmp_path: Path) -> None:
    case = yaml.safe_load(path.read_text(encoding="utf-8"))
    done = CliRunner().invoke(app, ["prepare", str(written(tmp_path, case))])
    assert done.exit_code == 0, done.output
    told = f"left to the trainer: {', '.join(case['left'])}"
    assert (told in done.stderr) == bool(case["left"])
    assert done.stderr.count("left to the trainer") == bool(case["left"])


def refused(folder: Path, content: dict[str, Any]) -> list[str]:
    """The problems of a configuration."""
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    return str(caught.value).splitlines()


def rows(**more: Any) -> dict[str, Any]:
    return {**BASE, "datasets": [{"path": "embedded", **more}]}


@pytest.mark.parametrize(
    ("content", "found", "mended"),
    [
        ({**BASE, "val_set_size": 1.5}, "a share above 0 and below 1", {**BASE, "val_set_size": 2}),
        ({**BASE, "val_size": -1}, "a share above 0 and below 1", BASE),
        ({**BASE, "mix_strategy": "interleave"}, "concat, interleave_under", {**BASE, "mix_strategy": "concat"}),
        ({**BASE, "interleave_probs": "0.5,0.5"}, "`weight` beside each", rows(weight=1)),
        ({**BASE, "rl": "dpo"}, "preferences are not supported", BASE),
        ({**BASE, "stage": "kto"}, "preferences are not supported", BASE),
        ({**BASE, "stage": "pt"}, "format: text", rows(format="text")),
        ({**BASE, "max_samples": 0}, "greater than 0", {**BASE, "max_samples": 5}),
        ({**BASE, "tokens": ["<x>"]}, "save it, and name its folder", BASE),
        (
            {**BASE, "excess_length_strategy": "cut"},
            "drop, truncate or raise",
            {**BASE, "excess_length_strategy": "raise"},
        ),
        (rows(type="pygmalion"), "name the layout", rows(format="messages")),
        (rows(type={"format": "{nothing"}), "format strings with", rows(type={"format": "{instruction}"})),
        (rows(type={"fromat": "x"}), "an unknown key", rows(type={"format": "{instruction}"})),
        (rows(train_on_eos="last"), "train_on: last", rows(train_on="last")),
        (rows(message_field_training_detail="d"), "message_field_training", rows(message_field_training="t")),
        (rows(split_thinking=True), "reasoning: field", {**BASE, "reasoning": "field"}),
        (rows(shards=4, shards_idx=1), "split: train[25%:50%]", rows(split="train[25%:50%]")),
        (rows(drop_system_message=True), "take system messages out", BASE),
        (rows(ds_type="xml"), "the file's name tells", BASE),
        (
            {**BASE, "datasets": [{"path": "json"}]},
            "data_files",
            {**BASE, "datasets": [{"path": "json", "data_files": "a"}]},
        ),
    ],
)
def test_words_that_mean_something_else_are_refused(
    content: dict[str, Any], found: str, mended: dict[str, Any], tmp_path: Path
) -> None:
    (problem,) = refused(tmp_path, content)
    assert found in problem
    assert "; expected " in problem
    assert "; fix: " in problem
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(mended), encoding="utf-8")
    load(str(tmp_path / "run.yaml"))


def test_all_problems_in_one_message(tmp_path: Path) -> None:
    content = {
        **rows(type="orcamini", shards=2),
        "val_set_size": True,
        "max_length": 0,
        "cutoff_len": 5,
        "histori": "auto",
        "learning_rate": 1,
        "gibberish": 1,
    }
    problems = refused(tmp_path, content)
    keys = [problem.removeprefix(str(tmp_path / "run.yaml: ")).split(":")[0] for problem in problems]
    assert set(keys) == {"validation", "datasets.0.type", "datasets.0.shards", "max_length", "histori", "gibberish"}
    assert len(keys) == 7  # a second value for max_length, and that one is none


def test_several_files_are_several_datasets(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("tokenizer: embedded\ndatasets: {path: json, data_files: [a.json, b.json], type: completion}")
    assert [(found.path, found.format) for found in load(str(path)).datasets] == [
        ("a.json", "text"),
        ("b.json", "text"),
    ]


def test_special_tokens_are_of_the_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("tokenizer: embedded\ndatasets: embedded\nspecial_tokens: {eos_token: <none>}")
    done = CliRunner().invoke(app, ["prepare", str(path)])
    assert done.exit_code == 2
    assert "special_tokens.eos_token: found '<none>', which the tokenizer 'embedded' lacks" in done.stderr


TYPOS = (
    "max_lenght", "sequence_length", "tokeniser", "tempalte", "histroy", "overlenght", "overlenth", "datset",
    "datasetts", "output_pat", "num_procs", "keep_column", "boundry", "control_token", "append_eoss", "stopp",
    "prompt_missmatch", "reasonning", "empty_reasonings", "completion_formats", "max_reject", "max_rejectd", "nowe",
    "backends", "allow_droped", "train_ons", "train_on_input", "roles_to_trian", "train_on_eo", "colums", "fromat",
    "field_maps", "field_message", "message_property_mapping", "template_kwarg", "sytem", "role", "cutoff_length",
    "base_modle", "model_nam",
)  # fmt: skip
UNRELATED = (
    "ratio", "shadow", "internet", "buffer", "score", "gibberish", "queue", "depth", "colour", "retry", "verbose",
    "threads", "workers", "epochs", "gain", "metric", "chunk", "window", "stride", "padding", "mask", "noise",
    "device", "lang", "region", "owner", "license", "version", "author", "topic", "source", "target", "bucket",
    "secret", "proxy", "timeout", "host", "port", "user", "extras",
)  # fmt: skip


def test_suggestions_are_related() -> None:
    level = [*Config.model_fields, *ALIASES]
    assert [typo for typo in TYPOS if nearest_name(typo, level) is None] == []
    assert nearest_name("loss", level) == "loss_weights"  # which is what it may have meant
    assert {word: near for word in UNRELATED if (near := nearest_name(word, level))} == {}
    assert nearest_name("splits", [*DatasetConfig.model_fields, *DATASET_ALIASES]) == "split"
