"""Words of axolotl and LLaMA-Factory that look like ours: they mean what they mean there, or are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from instruct_fmt.adapt.columns.arrow import table_rows
from instruct_fmt.cli import app
from instruct_fmt.errors import ConfigError, InstructFmtError
from instruct_fmt.run.config.axolotl_types import TYPES
from instruct_fmt.run.config.foreign import _MEANINGS
from instruct_fmt.run.config.foreign_datasets import _FIELDS
from instruct_fmt.run.config.foreign_datasets import _MEANINGS as _OF_DATASET
from instruct_fmt.run.config.foreign_keys import REFUSED
from instruct_fmt.run.config.load import load
from instruct_fmt.run.config.schema import ALIASES, DATASET_ALIASES, Config, DatasetConfig
from instruct_fmt.run.open import open_sources

AXOLOTL_TYPES = yaml.safe_load((Path(__file__).parent / "golden" / "axolotl_types.yaml").read_text(encoding="utf-8"))
ALPACA = [{"instruction": "Add.", "input": "1 2", "output": "3"}]
CHAT = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}]
CHATML = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def written(folder: Path, config: dict[str, Any], **files: Any) -> str:
    """The configuration and its files: `rows` is rows.jsonl, `info` is dataset_info.json."""
    if "rows" in files:
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in files["rows"]))
    if "info" in files:
        (folder / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": "rows.jsonl", **files["info"]}}))
    (folder / "run.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return str(folder / "run.yaml")


def axolotl(dataset: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"base_model": "embedded", "datasets": [{"path": "rows.jsonl", **dataset}], **more}


def llama_factory(**more: Any) -> dict[str, Any]:
    return {"model_name_or_path": "embedded", "stage": "sft", "dataset": "mine", "dataset_dir": ".", **more}


def rendered(path: str) -> list[tuple[str, list[str]]]:
    """Each row's text, and what of it is trained."""
    found = []
    for source in open_sources(load(path), Path(path).parent):
        fmt: Any = source.fmt
        for row in table_rows(source.dataset.with_format("arrow")[:]):
            one = fmt.render(row)
            found.append((one.text, [one.text[start:end] for start, end in one.trained]))
    return found


def refused(path: str) -> str:
    with pytest.raises(ConfigError) as caught:
        rendered(path)
    for line in str(caught.value).splitlines():
        assert "found " in line, line
        assert "; expected " in line, line
        assert "; fix: " in line, line
    return str(caught.value)


# axolotl


@pytest.mark.parametrize("case", AXOLOTL_TYPES, ids=lambda case: case["type"])
def test_a_type_that_is_a_text(case: dict[str, Any], tmp_path: Path) -> None:
    path = written(
        tmp_path, axolotl({"type": case["type"]}, chat_template="chatml"), rows=[x["row"] for x in case["rows"]]
    )
    for (text, trained), expected in zip(rendered(path), case["rows"], strict=True):
        assert text == expected["text"]
        assert trained == [expected["answer"]]


def test_every_type_has_a_golden_text() -> None:
    assert [case["type"] for case in AXOLOTL_TYPES] == list(TYPES)


@pytest.mark.parametrize(
    ("row", "front"),
    [({}, "[Be {brief}.]"), ({"system": "Mine."}, "[Mine.]"), ({"system": ""}, "")],
)
def test_a_system_prompt_of_a_type_of_ones_own(row: dict[str, Any], front: str, tmp_path: Path) -> None:
    """A column `system` comes first, empty or not; then the one of the type (`user_defined.py`).

    A null is no value here, and an empty one there.
    """
    kind = {"system_prompt": "Be {brief}.", "system_format": "[{system}]", "no_input_format": "{instruction}\n"}
    path = written(tmp_path, axolotl({"type": kind}), rows=[{"instruction": "Hi", "output": "Hello.", **row}])
    assert rendered(path) == [(f"{front}Hi\nHello.", ["Hello."])]


def test_prompts_with_words_of_their_own_are_trained(tmp_path: Path) -> None:
    """Whole, as there: instructions, the words between them, and the answer."""
    ((text, trained), *_) = rendered(written(tmp_path, axolotl({"type": "alpaca"}, train_on_inputs=True), rows=ALPACA))
    assert trained == [text]
    assert text.startswith("Below is an instruction")


@pytest.mark.parametrize("name", ["chatml", "llama3"])
@pytest.mark.parametrize("at_dataset", [True, False])
def test_a_fallback_is_for_tokenizers_without_a_template(name: str, at_dataset: bool, tmp_path: Path) -> None:
    said = {"chat_template": f"tokenizer_default_fallback_{name}"}
    config = axolotl({"type": "chat_template", **said}) if at_dataset else axolotl({"type": "chat_template"}, **said)
    assert rendered(written(tmp_path, config, rows=CHAT)) == [(CHATML, ["Hello.<|im_end|>"])]


def test_a_template_of_the_run_is_its_datasets_own(tmp_path: Path) -> None:
    for said in ("tokenizer_default", "tokenizer_default_fallback_chatml"):
        config = axolotl({"type": "chat_template", "chat_template": said}, chat_template="llama3")
        assert "<|start_header_id|>" in rendered(written(tmp_path, config, rows=CHAT))[0][0]


@pytest.mark.parametrize(
    ("said", "fix", "mended"),
    [
        ("phi_4", "did you mean `phi4`?", {"chat_template": "phi4"}),
        ("tokenizer_default_fallback_phi_4", "`tokenizer_default_fallback_phi4`", {"chat_template": "phi4"}),
        ("cohere", "take it out", {}),
        ("default", "take it out", {}),
        ("jinja", "add `chat_template_jinja`", {"chat_template": "jinja", "chat_template_jinja": "{{ messages }}"}),
    ],
)
def test_a_template_that_the_library_lacks(said: str, fix: str, mended: dict[str, Any], tmp_path: Path) -> None:
    config = {"tokenizer": "embedded", "datasets": ["embedded"]}
    (line,) = refused(written(tmp_path, {**config, "chat_template": said})).splitlines()
    assert fix in line
    load(written(tmp_path, {**config, **mended}))


def test_training_everything_beside_roles(tmp_path: Path) -> None:
    """`train_on_inputs` wins there, whatever the roles; here one of them is said."""
    config = axolotl({"type": "chat_template", "roles_to_train": ["assistant"]}, train_on_inputs=True)
    assert "take `train_on_inputs` out" in refused(written(tmp_path, config, rows=CHAT))


@pytest.mark.parametrize(
    ("content", "ours"),
    [
        ({"val_set_size": 0.05}, {"validation": 0.05}),
        ({"val_set_size": 0}, {}),
        ({"val_set_size": 0.0}, {}),
        ({"val_size": 100}, {"validation": 100}),
        ({"val_size": 100.0}, {"validation": 100}),
        (
            {"test_datasets": [{"path": "embedded/records", "split": "train"}]},
            {"validation_datasets": ["embedded/records"]},
        ),
        ({"dataset_exact_deduplication": True}, {"deduplicate": True}),
        ({"shuffle_merged_datasets": True, "seed": 7}, {"shuffle": True, "seed": 7}),
        ({"max_samples": 5}, {"limit": 5}),
        ({"mix_strategy": "concat"}, {}),
        ({"mix_strategy": "interleave_under"}, {"interleave": "first_exhausted"}),
        (
            {"mix_strategy": "interleave_over", "interleave_probs": "0.7"},
            {"interleave": "all_exhausted", "datasets": [{"path": "embedded", "weight": 0.7}]},
        ),
    ],
)
def test_recipes_of_other_tools(content: dict[str, Any], ours: dict[str, Any], tmp_path: Path) -> None:
    config = {"tokenizer": "embedded", "datasets": ["embedded"]}
    (tmp_path / "ours").mkdir()
    wanted = load(written(tmp_path / "ours", {**config, **ours}))
    assert load(written(tmp_path, {**config, **content})) == wanted


def test_datasets_held_out_by_name(tmp_path: Path) -> None:
    """LLaMA-Factory's `eval_dataset` names entries too."""
    config = load(written(tmp_path, llama_factory(eval_dataset="demo"), info={}))
    (held_out,) = config.validation_datasets
    assert (held_out.name, held_out.dataset_info) == ("demo", config.datasets[0].dataset_info)


@pytest.mark.parametrize(
    "config",
    [
        axolotl({"type": "alpaca", "template": "chatml"}),
        axolotl({"type": "completion", "format": "alpaca"}),
        axolotl({"type": "chat_template", "field_tools": "a", "field_map": {"tools": "b"}}),
        axolotl({"format": "alpaca", "formatting": "sharegpt"}),
        axolotl({}, excess_length_strategy="drop", overlength="truncate"),
        axolotl({}, train_on_prompt=True, train_on_inputs=False, datasets=["embedded"]),
        axolotl({}, mask_history=True, train_on="all", datasets=["embedded"]),
        axolotl({}, chat_template="llama3", chat_template_jinja="{{ messages }}"),
        axolotl({"roles": {"user": ["a"], "assistant": ["a"]}}),
    ],
)
def test_what_is_said_twice_differently_is_a_problem(config: dict[str, Any], tmp_path: Path) -> None:
    assert len(refused(written(tmp_path, config, rows=ALPACA)).splitlines()) == 1


# LLaMA-Factory


@pytest.mark.parametrize("name", ["alpaca", "deepseek", "llama2", "mistral", "openchat", "vicuna", "zephyr"])
def test_a_template_with_another_text_there(name: str, tmp_path: Path) -> None:
    """These names are the library's, too: `data/template.py` writes other texts."""
    message = refused(written(tmp_path, llama_factory(template=name), rows=ALPACA, info={}))
    assert message.count("\n") == 0
    assert "template: found" in message
    assert rendered(written(tmp_path, llama_factory(), rows=ALPACA, info={}))


@pytest.mark.parametrize(
    ("template", "mended"),
    [("qwen", "qwen2_5"), ("yi", "chatml"), ("qwen3_nothink", "chatml"), ("smollm", "chatml")],
)
def test_a_template_with_another_name_here(template: str, mended: str, tmp_path: Path) -> None:
    message = refused(written(tmp_path, llama_factory(template=template), rows=ALPACA, info={}))
    assert f"write `chat_template: {mended}`" in message
    assert rendered(written(tmp_path, llama_factory(chat_template=mended), rows=ALPACA, info={}))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("chatml", "<|im_start|>user\nAdd.\n1 2<|im_end|>\n<|im_start|>assistant\n3<|im_end|>\n"),
        (
            "llama3",
            (
                "<|start_header_id|>user<|end_header_id|>\n\nAdd.\n1 2<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\n3<|eot_id|>"
            ),
        ),
    ],
)
def test_a_template_with_the_same_text(template: str, text: str, tmp_path: Path) -> None:
    path = written(tmp_path, llama_factory(template=template), rows=ALPACA, info={})
    assert rendered(path)[0][0] == text


@pytest.mark.parametrize(
    ("info", "more", "rows"),
    [
        ({}, {}, 4),
        ({"num_samples": 3}, {}, 3),
        ({}, {"max_samples": 2}, 2),
        ({"num_samples": 3}, {"max_samples": 2}, 2),
        ({"num_samples": 1}, {"max_samples": 2}, 1),
        ({"folder": "no place beside a file"}, {}, 4),
    ],
)
def test_how_many_rows(info: dict[str, Any], more: dict[str, Any], rows: int, tmp_path: Path) -> None:
    assert len(rendered(written(tmp_path, llama_factory(**more), rows=ALPACA * 4, info=info))) == rows


def test_a_limit_is_of_the_entrys_own_split(tmp_path: Path) -> None:
    folder = tmp_path / "rows.jsonl"
    folder.mkdir()
    for split, answer in (("train", "no"), ("test", "yes")):
        (folder / f"{split}.jsonl").write_text(json.dumps({**ALPACA[0], "output": answer}) + "\n")
    path = written(tmp_path, llama_factory(max_samples=1), info={"split": "test"})
    assert rendered(path)[0][1] == ["yes<|im_end|>"]


def test_folder_of_the_datasets_is_data(tmp_path: Path) -> None:
    """`dataset_dir` is `data` where it is not given, and a folder of the current one."""
    (tmp_path / "data").mkdir()
    (tmp_path / "examples").mkdir()
    written(tmp_path / "data", {}, rows=ALPACA, info={})
    config = {name: value for name, value in llama_factory().items() if name != "dataset_dir"}
    assert len(rendered(written(tmp_path / "examples", config))) == 1


@pytest.mark.parametrize(
    ("row", "columns", "name"),
    [
        ({}, {"prompt": "instruction", "response": "output"}, "query: input"),
        ({"system": "Be brief."}, None, "system: system"),
        ({"history": [["a", "b"]]}, None, "history: history"),
    ],
)
def test_a_column_that_the_entry_does_not_name(
    row: dict[str, Any], columns: dict[str, str] | None, name: str, tmp_path: Path
) -> None:
    info = {} if columns is None else {"columns": columns}
    message = refused(written(tmp_path, llama_factory(), rows=[{**ALPACA[0], **row}], info=info))
    assert f"add `{name}` to the entry's `columns`" in message
    key, column = name.split(": ")
    named = columns or {"prompt": "instruction", "query": "input", "response": "output"}
    path = written(tmp_path, llama_factory(), rows=[{**ALPACA[0], **row}], info={"columns": {**named, key: column}})
    assert len(rendered(path)) == 1


def test_an_empty_column_that_the_entry_does_not_name(tmp_path: Path) -> None:
    info = {"columns": {"prompt": "instruction", "response": "output"}}
    assert rendered(written(tmp_path, llama_factory(), rows=[{**ALPACA[0], "input": ""}], info=info))


@pytest.mark.parametrize(
    ("info", "part"),
    [
        ({"ms_hub_url": "a/b"}, "mine.ms_hub_url"),
        ({"om_hub_url": "a/b"}, "mine.om_hub_url"),
        ({"script_url": "a.py"}, "mine.script_url"),
        ({"cloud_file_name": "s3://a"}, "mine.cloud_file_name"),
        ({"hf_hub_url": "a/b", "folder": "c"}, "mine.folder"),
        ({"file_name": None}, "mine.file_name"),
        ({"formatting": "xml"}, "mine.formatting"),
        ({"num_samples": "all"}, "mine.num_samples"),
        ({"columns": {"kto_tag": "label"}}, "mine.columns.kto_tag"),
        ({"ranking": True}, "mine.ranking"),
    ],
)
def test_an_entry_that_does_not_fit(info: dict[str, Any], part: str, tmp_path: Path) -> None:
    (line,) = refused(written(tmp_path, llama_factory(), rows=ALPACA, info=info)).splitlines()
    assert part in line


def test_all_problems_of_an_entry_in_one_message(tmp_path: Path) -> None:
    info = {"ranking": True, "colums": {}, "formatting": "xml", "ms_hub_url": "a/b"}
    assert len(refused(written(tmp_path, llama_factory(), rows=ALPACA, info=info)).splitlines()) == 4


# both


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_keys_that_may_be_off_but_not_on(key: str, tmp_path: Path) -> None:
    config = {"tokenizer": "embedded", "datasets": ["embedded"]}
    (line,) = refused(written(tmp_path, {**config, key: "something"})).splitlines()
    assert f": {key}: found 'something'" in line
    for off in (None, False):
        assert load(written(tmp_path, {**config, key: off})).left_to_trainer == ()


def test_packing_is_taken_over(tmp_path: Path) -> None:
    for key in ("packing", "sample_packing", "neat_packing"):
        config = load(written(tmp_path, {"tokenizer": "embedded", "datasets": ["embedded"], key: True}))
        assert (config.packing, config.left_to_trainer) == (True, ())


EMPTY = (
    "special_tokens",
    "dataset_prepared_path",
    "chat_template",
    "sequence_len",
    "val_set_size",
    "lora_target_modules",
)


def test_keys_without_a_value_say_nothing(tmp_path: Path) -> None:
    """As axolotl's examples have them."""
    config = {"base_model": "embedded", "datasets": ["embedded"]}
    found = load(written(tmp_path, {**config, **dict.fromkeys(EMPTY)}))
    assert found.model_copy(update={"left_to_trainer": ()}) == load(written(tmp_path, config))


NESTED = st.one_of(st.none(), st.text(max_size=2), st.integers(), st.lists(st.integers(), max_size=1))
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text("a{}%[", max_size=3),
    st.lists(NESTED, max_size=2),
    st.dictionaries(st.sampled_from(["a", "format", "user"]), NESTED, max_size=2),
)
TOP = sorted({*Config.model_fields, *ALIASES, *_MEANINGS, *REFUSED, "stage", "rl", "dataset_dir", "finetuning_type"})
OF_DATASET = sorted({*DatasetConfig.model_fields, *DATASET_ALIASES, *_OF_DATASET, *_FIELDS, "data_files", "field"})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    top=st.dictionaries(st.sampled_from(TOP), ODD, max_size=3),
    one=st.dictionaries(st.sampled_from(OF_DATASET), ODD, max_size=3),
)
def test_no_value_of_any_key_is_more_than_a_problem(top: dict[str, Any], one: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path, {"tokenizer": "embedded", "datasets": [{"path": "embedded", **one}], **top})
    try:
        load(path)
    except ConfigError as error:
        assert all("; expected " in line and "; fix: " in line for line in str(error).splitlines())  # noqa: PT017


@pytest.mark.parametrize("key", ["tokenizer", "template"])
def test_exit_code_of_what_the_configuration_caused(key: str, tmp_path: Path) -> None:
    value = {"tokenizer": "./no-such-folder", "template": "{% for %}"}[key]
    path = written(tmp_path, {"tokenizer": "embedded", "datasets": ["embedded"], key: value})
    for command in ("prepare", "preview", "render", "check"):
        done = CliRunner().invoke(app, [command, path])
        assert done.exit_code == 2, (command, done.output)
        assert done.stderr.startswith("error: ")
        assert not isinstance(done.exception, InstructFmtError)


def test_exit_code_where_every_row_is_rejected(tmp_path: Path) -> None:
    path = written(tmp_path, axolotl({"type": "alpaca"}), rows=[{"instruction": "a", "input": "", "output": None}] * 2)
    assert CliRunner().invoke(app, ["preview", path]).exit_code == 1
