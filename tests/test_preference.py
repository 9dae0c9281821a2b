"""Preference data: every form in which it is published, as served; and the trainers of TRL take what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from train_sft import random_model

import instruct_fmt as ifmt
from instruct_fmt.embedded import tokenizer_path
from instruct_fmt.errors import NothingToLearn, TooManyRejected, UsageError
from instruct_fmt.train import prepared_pairs, processing_class

QUIET = {"activation_checkpointing": False, "dataloader_pin_memory": False}
USER = {"role": "user", "content": "Say hello."}
CHOSEN = {"role": "assistant", "content": "Hello!"}
REJECTED = {"role": "assistant", "content": "No."}
EARLIER = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hi!"}]
HUMAN = {"from": "human", "value": "Say hello."}
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
FORMS: dict[str, dict[str, Any]] = {
    "messages": {"prompt": [USER], "chosen": [CHOSEN], "rejected": [REJECTED]},
    "a message each": {"prompt": [USER], "chosen": CHOSEN, "rejected": REJECTED},
    "text behind messages": {"prompt": [USER], "chosen": "Hello!", "rejected": "No."},
    "messages behind text": {"prompt": "Say hello.", "chosen": [CHOSEN], "rejected": [REJECTED]},
    "texts": {"prompt": "Say hello.", "chosen": "Hello!", "rejected": "No."},
    "inside of both": {"chosen": [USER, CHOSEN], "rejected": [USER, REJECTED]},
    "inside of both, and said again": {
        "prompt": "Say hello.",
        "chosen": [USER, CHOSEN],
        "rejected": [USER, REJECTED],
    },
    "ShareGPT": {
        "conversations": [HUMAN],
        "chosen": {"from": "gpt", "value": "Hello!"},
        "rejected": {"from": "gpt", "value": "No."},
    },
}


def _formatter(**options: Any) -> ifmt.Formatter:
    return ifmt.compile("chatml", str(tokenizer_path()), **options)


def _ids(fmt: ifmt.Formatter, messages: list[dict[str, str]], *, prompt: bool = False) -> list[int]:
    found = fmt.tokenizer.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=prompt, chat_template=fmt.settings.template
    )
    return list(found["input_ids"])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_pair(form: str) -> None:
    fmt = _formatter(format="instruction" if form == "texts" else None)
    found = fmt.prepare_pairs(pa.Table.from_pylist([FORMS[form]] * 3)).dataset
    assert found.column_names == ["prompt_ids", "chosen_ids", "rejected_ids"]
    assert len(found) == 3
    row, prompt = found[0], _ids(fmt, [USER], prompt=True)
    assert row["prompt_ids"] == prompt
    for name, answer in (("chosen_ids", CHOSEN), ("rejected_ids", REJECTED)):
        whole = _ids(fmt, [USER, answer])
        assert row["prompt_ids"] + row[name] == whole[: len(prompt) + len(row[name])]
        assert fmt.tokenizer.decode(row[name]) == f"{answer['content']}<|im_end|>"


def test_several_turns_tools_and_a_system_prompt() -> None:
    fmt = ifmt.compile("qwen2_5", str(tokenizer_path()))
    row = {
        "prompt": [*EARLIER, USER],
        "chosen": [CHOSEN],
        "rejected": [REJECTED],
        "tools": [TOOL],
        "system": "Be kind.",
    }
    found = fmt.prepare_pairs(pa.Table.from_pylist([row])).dataset[0]
    said = [{"role": "system", "content": "Be kind."}, *EARLIER, USER, CHOSEN]
    assert found["prompt_ids"] == fmt.prompt({"messages": said, "tools": [TOOL]}).input_ids


def test_columns_of_other_trainers() -> None:
    fmt = _formatter()
    data = pa.Table.from_pylist([FORMS["messages"]] * 2)
    pair = fmt.prepare_pairs(data).dataset[0]
    kto = fmt.prepare_pairs(data, "kto").dataset
    assert [row["label"] for row in kto] == [True, False, True, False]
    assert [row["completion_ids"] for row in kto][:2] == [pair["chosen_ids"], pair["rejected_ids"]]
    reward = fmt.prepare_pairs(data, "reward").dataset[0]
    assert reward["chosen_ids"] == pair["prompt_ids"] + pair["chosen_ids"]
    assert fmt.prepare_pairs(data, "prompt").dataset[0] == {"prompt_ids": pair["prompt_ids"]}
    judged = [{"prompt": [USER], "completion": [answer], "label": answer is CHOSEN} for answer in (CHOSEN, REJECTED)]
    assert fmt.prepare_pairs(pa.Table.from_pylist(judged), "kto").dataset.to_list() == kto.to_list()[:2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": None}, r"\$\.chosen: bad-field: found None"),
        ({"chosen": [CHOSEN, USER, CHOSEN]}, r"\$\.chosen: bad-field: .*expected one message"),
        ({"rejected": [USER]}, r"\$\.rejected: bad-field"),
        ({"prompt": None}, r"\$: bad-field: .*a prompt"),
        ({"prompt": []}, r"\$\.prompt: bad-field"),
        ({"rejected": [{"role": "assistant", "content": None}]}, r"\$\.rejected\[0\]\.content: null-field"),
        ({"prompt": [{"role": "sprite", "content": "Hi."}]}, r"\$\.prompt\[0\]\.role: unknown-role"),
        ({"prompt": "Other.", "chosen": [USER, CHOSEN], "rejected": [USER, REJECTED]}, r"\$\.prompt: bad-field"),
    ],
    ids=str,
)
def test_a_bad_row_is_in_the_ledger(change: dict[str, Any], message: str) -> None:
    fmt = _formatter(max_rejected=1.0)
    rows: list[dict[str, Any]] = [FORMS["messages"], {**FORMS["messages"], **change}, FORMS["messages"]]
    found = fmt.prepare_pairs(_dataset(rows))
    assert (len(found.dataset), len(found.rejected), found.rejected[0].row) == (2, 1, 1)
    assert found.report.rows == 3
    with pytest.raises(ifmt.RowError, match=message):
        raise found.rejected[0].to_error()
    with pytest.raises(TooManyRejected, match="1 of 3 rows rejected"):
        _formatter().prepare_pairs(_dataset(rows))


def _dataset(rows: list[dict[str, Any]]) -> Any:
    import datasets

    names = ("prompt", "chosen", "rejected")
    features = datasets.Features(dict.fromkeys(names, datasets.Json()))
    return datasets.Dataset.from_list([{name: row[name] for name in names} for row in rows], features=features)


def test_no_column_goes_without_a_word() -> None:
    row = {**FORMS["messages"], "note": "Important.", "score": 3, "images": None}
    found = _formatter().prepare_pairs(pa.Table.from_pylist([row] * 2))
    assert {path: said.rows for path, said in found.report.unread.items()} == {"$.note": 2, "$.score": 2}
    pictured = pa.Table.from_pylist([{**FORMS["messages"], "images": ["a.png"]}])
    with pytest.raises(TooManyRejected, match="media"):
        _formatter().prepare_pairs(pictured)


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_an_answer_with_a_verdict_is_no_pair(kind: str) -> None:
    row = {"prompt": [USER], "completion": [CHOSEN], "label": True}
    with pytest.raises(TooManyRejected, match='kind="kto"'):
        _formatter().prepare_pairs(pa.Table.from_pylist([row]), kind)  # type: ignore[arg-type]


def test_pairs_that_are_too_long_go_whole() -> None:
    long = {**FORMS["messages"], "rejected": [{"role": "assistant", "content": "No. " * 50}]}
    found = _formatter(max_length=40).prepare_pairs(pa.Table.from_pylist([FORMS["messages"], long]))
    assert (len(found.dataset), found.report.over_length) == (1, 1)
    with pytest.raises(NothingToLearn):
        _formatter(max_length=4).prepare_pairs(pa.Table.from_pylist([long]))
    with pytest.raises(UsageError, match="shorten the two prompts"):
        _formatter(max_length=40, overlength="truncate").prepare_pairs(pa.Table.from_pylist([long]))


def test_rows_of_pairs_name_the_way() -> None:
    with pytest.raises(UsageError, match=r"fmt\.prepare_pairs\(dataset\)"):
        _formatter().prepare(pa.Table.from_pylist([FORMS["messages"]]), progress=False)


def _pairs(count: int) -> list[dict[str, Any]]:
    return [
        {
            "prompt": [{"role": "user", "content": f"Say {number}."}],
            "chosen": [{"role": "assistant", "content": f"It is {number}."}],
            "rejected": [{"role": "assistant", "content": f"Not {number}, " + "no" * (number % 5)}],
        }
        for number in range(count)
    ]


@pytest.mark.trainers
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # TRL's own
@pytest.mark.parametrize("kind", ["dpo", "kto", "reward"])
def test_trainers_take_them(kind: str, tmp_path: Path) -> None:
    import torch
    import trl
    from transformers import LlamaForSequenceClassification

    fmt = ifmt.compile(None, str(tokenizer_path()))
    prepared = fmt.prepare_pairs(pa.Table.from_pylist(_pairs(24)), kind).dataset  # type: ignore[arg-type]
    name = {"dpo": "DPO", "kto": "KTO", "reward": "Reward"}[kind]
    config, trainer = getattr(trl, f"{name}Config"), getattr(trl, f"{name}Trainer")
    model = random_model(len(fmt.tokenizer))
    if kind == "reward":
        torch.manual_seed(1)
        model.config.num_labels, model.config.pad_token_id = 1, 0
        model = LlamaForSequenceClassification(model.config)
    given = {
        "max_steps": 3,
        "per_device_train_batch_size": 4,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        **QUIET,
    }
    args = config(output_dir=str(tmp_path), **given, max_length=None, save_strategy="no", logging_steps=1)
    more = {"model": model, "args": args, "train_dataset": prepared, "processing_class": processing_class(fmt)}
    if kind == "reward":
        made = trainer(**more)
    else:
        made = prepared_pairs(trainer)(**more, ref_model=random_model(len(fmt.tokenizer)))
    seen: list[tuple[int, ...]] = []

    def look(model: Any, args: Any, given: dict[str, Any]) -> None:
        if model.training:
            rows = zip(given["input_ids"].tolist(), given["attention_mask"].tolist(), strict=True)
            seen.extend(tuple(id for id, there in zip(ids, mask, strict=True) if there) for ids, mask in rows)

    model.register_forward_pre_hook(look, with_kwargs=True)
    made.train()
    known = set()
    for row in prepared:
        prompt = row.get("prompt_ids", [])
        names = [name for name in ("chosen_ids", "rejected_ids", "completion_ids") if name in row]
        known |= {tuple(prompt + row[name]) for name in names}
    others = (
        {(*one["prompt_ids"], *other["completion_ids"]) for one in prepared for other in prepared}
        if kind == "kto"
        else set()
    )
    assert seen
    assert set(seen) <= known | others
    assert set(seen) & known


@pytest.mark.trainers
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # TRL's own
def test_ids_are_those_of_trl_where_its_boundary_is_right(tmp_path: Path) -> None:
    """It has the line break behind the stop too, which no model writes."""
    import datasets
    from trl import DPOConfig, DPOTrainer

    fmt = ifmt.compile(None, str(tokenizer_path()))
    rows = datasets.Dataset.from_list(_pairs(12))
    given = {"max_steps": 1, "report_to": "none", "use_cpu": True, "bf16": False, **QUIET}
    args = DPOConfig(output_dir=str(tmp_path), **given, max_length=None)
    models = {name: random_model(len(fmt.tokenizer)) for name in ("model", "ref_model")}
    theirs = DPOTrainer(**models, args=args, train_dataset=rows, processing_class=processing_class(fmt)).train_dataset
    for mine, other in zip(fmt.prepare_pairs(rows).dataset, theirs, strict=True):
        assert mine["prompt_ids"] == other["prompt_ids"]
        for name in ("chosen_ids", "rejected_ids"):
            assert mine[name] == other[name][: len(mine[name])]
            assert fmt.tokenizer.decode(other[name][len(mine[name]) :]).strip() == ""


@pytest.mark.trainers
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # TRL's own
@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_a_length_that_would_cut_answers_is_refused(kind: Any, tmp_path: Path) -> None:
    """The default of both is 1,024 tokens."""
    import datasets
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer

    fmt = ifmt.compile(None, str(tokenizer_path()))
    long = {**FORMS["messages"], "prompt": [{"role": "user", "content": "why " * 2000}]}
    pairs = fmt.prepare_pairs(datasets.Dataset.from_list([FORMS["messages"], long] * 4), kind).dataset
    config, trainer = (DPOConfig, DPOTrainer) if kind == "dpo" else (KTOConfig, KTOTrainer)
    models = {name: random_model(len(fmt.tokenizer)) for name in ("model", "ref_model")}
    given = {"report_to": "none", "use_cpu": True, "bf16": False, **QUIET}
    args = config(output_dir=str(tmp_path), **given)
    with pytest.raises(UsageError, match=r"max_length: found 1,024, with rows of up to 4,012 .*max_length=None"):
        prepared_pairs(trainer)(**models, args=args, train_dataset=pairs, processing_class=processing_class(fmt))


def _any(rows: list[dict[str, Any]]) -> Any:
    """Rows of any columns and values."""
    import datasets

    names = list(dict.fromkeys(name for row in rows for name in row))
    features = datasets.Features(dict.fromkeys(names, datasets.Json()))
    return datasets.Dataset.from_list([{name: row.get(name) for name in names} for row in rows], features=features)


BESIDE: dict[str, Any] = {
    "system": "Answer in French.",
    "tools": [TOOL],
    "chat_template_kwargs": {"enable_thinking": False},
}


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("kind", ["dpo", "kto", "reward", "prompt"])
def test_what_stands_beside_one_row_is_not_lost_for_another(name: str, kind: Any) -> None:
    """The first row of a batch has none of it; each row is what it is alone."""
    template = (
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
    )
    fmt = ifmt.compile(template, str(tokenizer_path()), prompt_mismatch="as_served")
    rows = [FORMS["messages"], {**FORMS["messages"], name: BESIDE[name]}, FORMS["messages"]]
    whole = fmt.prepare_pairs(_any(rows), kind)
    alone = [fmt.prepare_pairs(_any([row]), kind).dataset[:] for row in rows]
    assert whole.dataset[:] == {column: [one for found in alone for one in found[column]] for column in alone[0]}
    assert alone[0] != alone[1]
    assert fmt.prepare_pairs(_any(rows[::-1]), kind).report.emitted == 3


@pytest.mark.parametrize(
    ("row", "path"),
    [
        ({"prompt": 5, "chosen": "a", "rejected": "b"}, "$.prompt"),
        ({"prompt": [None], "chosen": "a", "rejected": "b"}, "$.prompt[0]"),
        ({"prompt": [5], "chosen": "a", "rejected": "b"}, "$.prompt[0]"),
        ({"prompt": [USER], "chosen": [None], "rejected": "b"}, "$.chosen[0]"),
        ({"prompt": "Hi", "chosen": "", "rejected": "b"}, "$.chosen"),
        ({"prompt": "Hi", "completion": 5, "label": True}, "$.completion"),
        ({"prompt": [USER], "completion": 5, "label": True}, "$.completion"),
        ({"prompt": "Hi", "completion": [], "label": True}, "$.completion"),
        ({"prompt": "Hi", "completion": "", "label": True}, "$.completion"),
        ({"prompt": [USER], "completion": [CHOSEN, USER, CHOSEN], "label": True}, "$.completion"),
        ({"prompt": [USER], "completion": [CHOSEN, USER], "label": True}, "$.completion"),
        ({"prompt": [USER], "completion": [CHOSEN, CHOSEN], "label": True}, "$.completion"),
        ({"prompt": [USER], "completion": [CHOSEN], "label": None}, "$.label"),
        ({"prompt": [USER], "completion": [CHOSEN], "label": "good"}, "$.label"),
        ({"prompt": [USER], "completion": [CHOSEN], "label": 2}, "$.label"),
    ],
)
def test_an_odd_row_is_rejected_by_name(row: dict[str, Any], path: str) -> None:
    fmt = _formatter(max_rejected=1.0, format="instruction")
    with pytest.raises(NothingToLearn) as caught:
        fmt.prepare_pairs(_any([row]), "kto")
    assert f"row 0, {path}: " in str(caught.value)
    good = {"prompt": [USER], "chosen": [CHOSEN], "rejected": [REJECTED]}
    found = fmt.prepare_pairs(_any([good, row, good]), "kto")
    assert (found.report.emitted, [one.path for one in found.rejected]) == (2, [path])


def test_verdicts_prompts_roles_and_names() -> None:
    fmt = _formatter()
    judged = [{"prompt": [USER], "completion": CHOSEN, "label": label} for label in (1, 0)]
    assert fmt.prepare_pairs(_any(judged), "kto").dataset["label"] == [True, False]
    alone = fmt.prepare_pairs(_any([{"prompt": [USER]}]), "prompt").dataset
    assert alone[0]["prompt_ids"] == _ids(fmt, [USER], prompt=True)
    wanted = fmt.prepare_pairs(_any([FORMS["messages"]])).dataset[:]
    chatbot = {
        name: {"role": "chatbot", "content": FORMS["messages"][name][0]["content"]} for name in ("chosen", "rejected")
    }
    assert fmt.prepare_pairs(_any([{"prompt": [USER], **chatbot}])).dataset[:] == wanted
    asked = {"question": [{"speaker": "user", "content": "Say hello."}], "win": "Hello!", "loss": "No."}
    names = {"prompt": "question", "chosen": "win", "rejected": "loss", "role": "speaker"}
    assert _formatter(field_map=names).prepare_pairs(_any([asked])).dataset[:] == wanted
    as_json = {name: json.dumps(value) for name, value in FORMS["messages"].items()}
    assert fmt.prepare_pairs(_any([as_json])).dataset[:] == wanted
    with pytest.raises(UsageError, match="'qestion', which is no column; expected question, win, loss; fix: field_map"):
        _formatter(field_map={"prompt": "qestion"}).prepare_pairs(_any([asked]))


def test_python_rows_may_differ_in_their_columns() -> None:
    fmt = _formatter()
    rows: list[dict[str, Any]] = [{"messages": [USER, CHOSEN]}, {"messages": [USER, CHOSEN], "system": "Be kind."}]
    both = fmt.encode_rows(rows).table.to_pylist()
    assert both == [fmt.encode(row) for row in rows]
    for odd in (None, 5, "text"):
        batch = _formatter(max_rejected=1.0).encode_rows([odd, *rows])  # type: ignore[list-item]  # what is refused
        assert batch.table.to_pylist() == both
        assert [(one.row, one.reason) for one in batch.rejected] == [(0, "bad-field")]


def test_weights_are_none_of_preference_data() -> None:
    """A masked beginning of an answer would have become a part of its prompt."""
    fmt = _formatter(loss_weights={"content": 0})
    with pytest.raises(UsageError, match=r"loss_weights: found \{'content': 0.0\}, .*without loss_weights"):
        fmt.prepare_pairs(_any([FORMS["messages"]]))
