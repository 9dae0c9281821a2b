"""What counts how much in the loss: parts of turns, patterns, messages; the same on every road."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import instruct_fmt as ifmt
from instruct_fmt.common.loss_weights import PARTS
from instruct_fmt.errors import RowError, UsageError
from instruct_fmt.template.plan.planning import PLANS_OFF

GOLDEN: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "golden/weights.yaml").read_text(encoding="utf-8"))
WITHOUT_STOP = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
TALK: dict[str, Any] = GOLDEN["rows"]["talk"]


@lru_cache(maxsize=128)
def _formatter(
    weights: tuple[tuple[str, float], ...], template: str = GOLDEN["template"], **options: Any
) -> ifmt.Formatter:
    return ifmt.compile(template, "embedded", loss_weights=dict(weights), max_rejected=1.0, **options)


def _shown(fmt: ifmt.Formatter, row: dict[str, list[Any]]) -> list[str]:
    """The trained tokens, decoded, a text for each stretch that counts the same."""
    weights = row.get("loss_weights") or [None] * len(row["labels"])
    found: list[tuple[Any, list[int]]] = []
    for id, label, weight in zip(row["input_ids"], row["labels"], weights, strict=True):
        key = (label != -100, weight)
        if not found or found[-1][0] != key:
            found.append((key, []))
        found[-1][1].append(id)
    texts = [(weight, fmt.tokenizer.decode(ids)) for (trained, weight), ids in found if trained]
    return [text if weight is None else f"{weight:g}: {text}" for weight, text in texts]


@pytest.mark.parametrize(
    "case", GOLDEN["cases"], ids=lambda case: " ".join(f"{k}={v}" for k, v in case["weights"].items())
)
@pytest.mark.parametrize("name", list(GOLDEN["rows"]))
def test_what_is_trained(case: dict[str, Any], name: str) -> None:
    fmt, row = _formatter(tuple(case["weights"].items())), GOLDEN["rows"][name]
    assert _shown(fmt, fmt.encode(row)) == case[name]
    batch = fmt.encode_batch(pa.Table.from_pylist([row] * 20))
    assert batch.counts["path:plan"] == 20
    assert [_shown(fmt, found) for found in batch.table.to_pylist()] == [case[name]] * 20
    assert "".join(fmt.render(row).text[start:end] for start, end in fmt.render(row).trained if start < end)


TEXT = st.text("ab 5\n{<é", max_size=8)
MESSAGE = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": TEXT},
    optional={"reasoning_content": TEXT, "weight": st.sampled_from([0, 1, 0.5])},
)
ROW = st.lists(st.tuples(TEXT, MESSAGE), min_size=1, max_size=3).map(
    lambda turns: {"messages": [one for text, turn in turns for one in ({"role": "user", "content": text}, turn)]}
)
NUMBER = st.sampled_from([0, 1, 0.5, -1, 2])
KEYS = st.sampled_from([*PARTS, "/[0-9]/", "/b+ ?/"])
WEIGHTS = st.dictionaries(KEYS, NUMBER, min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=12),
    weights=WEIGHTS,
    template=st.sampled_from([GOLDEN["template"], WITHOUT_STOP, "chatml", "gemma"]),
    history=st.sampled_from(["auto", "expand", "last"]),
)
def test_the_same_on_every_road(rows: list[Any], weights: dict[str, float], template: str, history: str) -> None:
    fmt = ifmt.compile(template, "embedded", loss_weights=weights, history=history, max_rejected=1.0)  # type: ignore[arg-type]
    ordinary = fmt.planned(PLANS_OFF).encode_rows(rows)
    for found in (fmt.encode_rows([*rows, *rows]), fmt.encode_batch(pa.Table.from_pylist([*rows, *rows]))):
        twice = pa.concat_tables([ordinary.table, ordinary.table])
        assert found.table.cast(twice.schema).to_pylist() == twice.to_pylist()
        assert [rejected.reason for rejected in found.rejected] == [
            rejected.reason for rejected in ordinary.rejected
        ] * 2


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=4), weight=st.sampled_from([0, 0.5, 2]))
def test_patterns_count_what_they_match(rows: list[Any], weight: float) -> None:
    """Beside a plain count over the characters of the tokens that the reference tokenizer gives."""
    fmt = _formatter((("/5/", weight),), "chatml")
    plain = _formatter((), "chatml")
    wanted = plain.encode_rows(rows)
    found = fmt.encode_rows(rows)
    assert len(found.rejected) >= len(wanted.rejected)
    kept = dict(zip(found.rows.tolist(), found.table.to_pylist(), strict=True))
    for number, row in zip(wanted.rows.tolist(), wanted.table.to_pylist(), strict=True):
        texts = [fmt.tokenizer.decode([id]) for id in row["input_ids"]]
        counts = [
            0.0 if label == -100 else weight if "5" in text else 1.0
            for text, label in zip(texts, row["labels"], strict=True)
        ]
        if not any(counts):
            assert number not in kept
            continue
        labels = [id if count else -100 for id, count in zip(row["input_ids"], counts, strict=True)]
        assert kept[number]["labels"] == labels
        assert kept[number].get("loss_weights", counts) == counts


def test_messages_have_weights() -> None:
    row = {"messages": [*TALK["messages"][:1], {**TALK["messages"][1], "weight": 0.25}, *TALK["messages"][2:]]}
    with pytest.raises(RowError, match=r"weight: bad-field: found 0.25; expected 0 or 1; fix: .*loss_weights"):
        _formatter(()).encode(row)
    fmt = _formatter((("message", 2.0), ("terminator", 3.0)))
    assert _shown(fmt, fmt.encode(row)) == [
        "0.5: <think>\nOne of 5 and 12\n</think>\n\nIt is 5",
        "1.5: <|im_end|>",
        "1: <think>\n\n</think>\n\nYes, not 12",
        "3: <|im_end|>",
    ]
    off = {"messages": [*TALK["messages"][:1], {**TALK["messages"][1], "weight": 0}, *TALK["messages"][2:]]}
    assert _shown(fmt, fmt.encode(off)) == ["1: <think>\n\n</think>\n\nYes, not 12", "3: <|im_end|>"]


@pytest.mark.parametrize(("weight", "shown"), [(0.0, " Hi\n"), (1.0, " Hi\n<|im_end|>")])
def test_an_appended_eos_is_a_terminator(weight: float, shown: str) -> None:
    fmt = _formatter((("terminator", weight),), WITHOUT_STOP)
    row = {"messages": [{"role": "user", "content": "Ho"}, {"role": "assistant", "content": "Hi"}]}
    assert _shown(fmt, fmt.encode(row)) == [shown]
    assert [_shown(fmt, found) for found in fmt.encode_rows([row] * 9).table.to_pylist()] == [[shown]] * 9


def test_nothing_that_counts_is_nothing_to_learn() -> None:
    fmt = _formatter(tuple(dict.fromkeys(("content", "reasoning", "inserted", "terminator"), 0.0).items()))
    batch = fmt.encode_rows([TALK] * 10)
    assert batch.counts["rejected:nothing-to-learn"] == 10


def test_records_know_patterns() -> None:
    fmt = ifmt.compile("alpaca", "embedded", loss_weights={"/[0-9]+/": 0})
    row = {"instruction": "Count to 3", "input": "", "output": "1 and 2 and 3"}
    assert _shown(fmt, fmt.encode(row)) == [" and", " and", "<|im_end|>"]
    with pytest.raises(UsageError, match="'content', a part of a turn"):
        ifmt.compile("alpaca", "embedded", loss_weights={"content": 0})


@pytest.mark.parametrize(
    ("weights", "found", "fix"),
    [
        ({"reasonning": 0}, "'reasonning'", "'reasoning': 0"),
        ({"content": "x"}, "'x' for 'content'", "reasoning"),
        ({"content": float("nan")}, "nan for 'content'", "reasoning"),
        ({"/[/": 0}, "'/[/' (", "reasoning"),
        ([1], "[1]", "reasoning"),
    ],
)
def test_what_cannot_be_a_weight(weights: Any, found: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        ifmt.compile("chatml", "embedded", loss_weights=weights)
    assert found in str(caught.value)
    assert fix in str(caught.value).partition("fix:")[2]


def test_prepared_packed_and_mapped(tmp_path: Path) -> None:
    fmt = _formatter((("reasoning", 0.5), ("terminator", 2.0)), max_length=256)
    import datasets

    rows = datasets.Dataset.from_list([TALK] * 30)
    plain = fmt.prepare(rows, progress=False, output_dir=tmp_path / "plain").dataset
    assert plain.column_names == ["input_ids", "labels", "loss_weights"]
    assert str(plain.features["loss_weights"]) == "List(Value('float32'))"
    mapped = rows.map(fmt, batched=True, remove_columns=rows.column_names)
    assert mapped[:] == plain[:]
    packed = fmt.prepare(rows, progress=False, output_dir=tmp_path / "packed", packing=True).dataset
    assert packed.column_names == ["input_ids", "labels", "loss_weights", "seq_lengths"]
    counted = [np.array(row["loss_weights"]) for row in packed]
    assert all(
        ((weights != 0) == (np.array(row["labels"]) != -100)).all()
        for weights, row in zip(counted, packed, strict=True)
    )
    assert sum(map(np.sum, counted)) == pytest.approx(sum(map(np.sum, plain["loss_weights"])))
    two = fmt.prepare(rows, progress=False, output_dir=tmp_path / "two", num_proc=2, batch_size=7).dataset
    assert two[:] == plain[:]


def _trainable(**options: Any) -> tuple[ifmt.Formatter, Any]:
    weights = {"terminator": 3.0, "content": 0.5, "/[aeiou]/": -0.25}
    fmt = ifmt.compile(None, "embedded", loss_weights=weights, max_length=256)
    return fmt, fmt.prepare(ifmt.open_dataset("embedded"), progress=False, **options).dataset


@pytest.mark.trainers
@pytest.mark.parametrize("kind", ["sft", "transformers"])
@pytest.mark.parametrize("packing", [False, True])
def test_trainers_count_tokens_as_the_weights_say(kind: str, packing: bool, tmp_path: Path) -> None:
    """The first loss, beside one made by hand of the same model's logits, row by row and token by token."""
    import torch
    from test_trainers import settings
    from train_sft import make_trainer, random_model

    fmt, rows = _trainable(packing=packing)
    model = random_model(len(fmt.tokenizer))
    total, number = 0.0, 0
    order: list[Any] = []
    trainer = make_trainer(kind, fmt, model, rows, {**settings(tmp_path), "max_steps": 1})
    model.register_forward_pre_hook(lambda _model, _args, kwargs: order.append(dict(kwargs)), with_kwargs=True)
    untouched = random_model(len(fmt.tokenizer)).eval()
    trainer.train()
    (batch,) = order[:1]
    assert batch["loss_weights"].shape == batch["labels"].shape
    with torch.no_grad():
        given = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids") if name in batch}
        logits = untouched(**given, use_cache=False).logits.double()
    for row in range(logits.shape[0]):
        for place in range(1, logits.shape[1]):
            label = int(batch["labels"][row, place])
            if label != -100:
                found = -torch.log_softmax(logits[row, place - 1], -1)[label]
                total += float(found) * float(batch["loss_weights"][row, place])
                number += 1
    (loss,) = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert loss == pytest.approx(total / number, abs=2e-3)


@pytest.mark.trainers
def test_weights_of_one_are_the_loss_of_transformers() -> None:
    import torch
    from transformers.loss.loss_utils import ForCausalLMLoss

    from instruct_fmt.train import weighted_loss

    torch.manual_seed(1)
    logits, labels = torch.randn(3, 7, 11), torch.randint(0, 11, (3, 7))
    labels[:, :3] = -100
    for number in (None, torch.tensor(20), 20):
        wanted = ForCausalLMLoss(logits, labels, 11, num_items_in_batch=number)
        for weights in (None, torch.ones(3, 7)):
            found = weighted_loss(logits, labels, 11, num_items_in_batch=number, loss_weights=weights)
            assert torch.allclose(found, wanted)


@pytest.mark.trainers
@pytest.mark.parametrize("kind", ["sft", "transformers"])
@pytest.mark.parametrize(("fault", "told"), [("column", "no loss_weights"), ("loss", "does not know loss_weights")])
def test_the_guard_misses_weights(kind: str, fault: str, told: str, tmp_path: Path) -> None:
    from test_trainers import settings
    from train_sft import random_model
    from transformers import Trainer, TrainingArguments
    from trl import SFTConfig, SFTTrainer

    from instruct_fmt.errors import DataError
    from instruct_fmt.train import sft_kwargs, sft_trainer_kwargs, trainer_kwargs, weighted

    fmt, rows = _trainable()
    model = random_model(len(fmt.tokenizer))
    kept = {"remove_unused_columns": fault == "column"}
    if kind == "sft":
        config = SFTConfig(**{**settings(tmp_path), **sft_kwargs(fmt), **kept})
        trainer = (weighted(SFTTrainer) if fault != "loss" else SFTTrainer)(
            model, args=config, **sft_trainer_kwargs(fmt, rows)
        )
    else:
        arguments = TrainingArguments(**settings(tmp_path), **kept)
        trainer = (weighted(Trainer) if fault != "loss" else Trainer)(
            model, args=arguments, **trainer_kwargs(fmt, rows)
        )
    with pytest.raises(DataError, match=told):
        trainer.train()


@pytest.mark.trainers
def test_what_trl_would_drop_is_refused() -> None:
    from instruct_fmt.train import sft_kwargs

    fmt, _ = _trainable()
    assert sft_kwargs(fmt)["remove_unused_columns"] is False
    with pytest.raises(UsageError, match="packing=True"):
        sft_kwargs(fmt, packing=True)
    with pytest.raises(UsageError, match="leave it out"):
        sft_kwargs(fmt, padding_free=True)
