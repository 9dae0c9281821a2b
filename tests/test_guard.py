"""The guard of labels: silent where the model gets what was prepared, and an error that names the cause where not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from test_trainers import dataset, formatter, settings
from train_sft import make_trainer, random_model

import instruct_fmt as ifmt
from instruct_fmt.errors import DataError, NothingToLearn
from instruct_fmt.train import Collator, label_guard, sft_kwargs, sft_trainer_kwargs, trainer_kwargs

pytestmark = pytest.mark.trainers
Batch = dict[str, Any]


class Changed:
    """A collator whose batches are changed."""

    def __init__(self, collator: Collator, change: Callable[[Batch], Batch]) -> None:
        self._collator, self._change = collator, change

    def __call__(self, rows: Any) -> Batch:
        return self._change(self._collator(rows))


def _prepared(**options: Any) -> tuple[ifmt.Formatter, Any]:
    fmt = formatter("records", max_length=200)
    return fmt, fmt.prepare(dataset("records"), progress=False, **options).dataset


def _train(fmt: ifmt.Formatter, rows: Any, folder: Path, change: Callable[[Batch], Batch], **more: Any) -> Any:
    from transformers import Trainer, TrainingArguments

    given = trainer_kwargs(fmt, rows, **more)
    given["data_collator"] = Changed(given["data_collator"], change)
    arguments = TrainingArguments(**{**settings(folder), "max_steps": 3}, remove_unused_columns=False)
    trainer = Trainer(random_model(len(fmt.tokenizer)), args=arguments, **given)
    trainer.train()
    return given["callbacks"][0]


def _with(batch: Batch, **changed: Any) -> Batch:
    return {**batch, **changed}


def _cut(batch: Batch) -> Batch:
    return {name: value[:, :20] for name, value in batch.items()}


def _longer(batch: Batch) -> Batch:
    import torch

    end = batch["attention_mask"].sum(1) - 1
    ids, labels = (torch.cat([batch[name], batch[name][:, :1]], 1) for name in ("input_ids", "labels"))
    mask = torch.cat([batch["attention_mask"][:, :1], batch["attention_mask"]], 1)
    for row, last in enumerate(end.tolist()):
        ids[row, last + 1] = labels[row, last + 1] = ids[row, last]
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def _eos_masked(batch: Batch) -> Batch:
    labels = batch["labels"].clone()
    labels[labels == labels[0][batch["attention_mask"][0].sum() - 1]] = -100
    return _with(batch, labels=labels)


def _prompt_trained(batch: Batch) -> Batch:
    return _with(batch, labels=batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100))


def _padding_trained(batch: Batch) -> Batch:
    return _with(batch, labels=batch["labels"].masked_fill(batch["attention_mask"] == 0, 0))


def _shifted(batch: Batch) -> Batch:
    return _with(batch, labels=batch["labels"].roll(-1, 1).masked_fill(batch["attention_mask"] == 0, -100))


def _half_masked(batch: Batch) -> Batch:
    labels = batch["labels"].clone()
    labels[:, ::2] = -100
    return _with(batch, labels=labels)


def _all_masked(batch: Batch) -> Batch:
    return _with(batch, labels=batch["labels"].fill_(-100))


def _without_labels(batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if name != "labels"}


def _others(batch: Batch) -> Batch:
    return _with(batch, input_ids=(batch["input_ids"] + 1) % 1000)


FAULTS: list[tuple[Callable[[Batch], Batch], type[Exception], str]] = [
    (_cut, DataError, "the row was cut: max_length=None"),
    (_longer, DataError, "something adds .* behind it"),
    (_eos_masked, DataError, "a collator takes this token for padding"),
    (_prompt_trained, DataError, "the prompt is trained"),
    (_padding_trained, DataError, "labels where there is padding"),
    (_shifted, DataError, "labels that are not the prepared ones"),
    (_half_masked, DataError, "something masks trained tokens"),
    (_all_masked, NothingToLearn, "no token that is trained"),
    (_without_labels, DataError, "no labels"),
    (_others, DataError, "train on the dataset that the guard was given"),
]


@pytest.mark.parametrize(("change", "kind", "message"), FAULTS, ids=lambda one: getattr(one, "__name__", ""))
def test_a_planted_fault_stops_the_run(
    change: Callable[[Batch], Batch], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    fmt, rows = _prepared()
    with pytest.raises(kind, match=message) as caught:
        _train(fmt, rows, tmp_path, change)
    assert "batch 0 of the training" in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("free", [False, True])
def test_rows_that_see_each_other(packed: bool, free: bool, tmp_path: Path) -> None:
    fmt, rows = _prepared(packing=packed)
    if packed and not free:
        with pytest.raises(DataError, match="padding_free=True"):
            _train(fmt, rows, tmp_path, lambda batch: batch, padding_free=free)

        def flat(batch: Batch) -> Batch:
            return {name: batch[name] for name in ("input_ids", "labels")}

        with pytest.raises(DataError, match=r"they see each other|a prepared row, whole"):
            _train(fmt, rows, tmp_path, flat, padding_free=True)
        return
    guard = _train(fmt, rows, tmp_path, lambda batch: batch, padding_free=free)
    assert guard.compared == 3


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["sft", "transformers"])
def test_trainers_pass(kind: str, packed: bool, tmp_path: Path) -> None:
    fmt, rows = _prepared(packing=packed)
    trainer = make_trainer(kind, fmt, random_model(len(fmt.tokenizer)), rows, {**settings(tmp_path), "max_steps": 6})
    trainer.train()
    (guard,) = (one for one in trainer.callback_handler.callbacks if type(one).__name__ == "LabelGuard")
    assert guard.compared == 4


def test_rows_that_trl_packs_pass(tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    fmt, rows = _prepared()
    config = SFTConfig(**{**settings(tmp_path), "max_steps": 2}, **sft_kwargs(fmt, packing=True))
    trainer = SFTTrainer(random_model(len(fmt.tokenizer)), args=config, **sft_trainer_kwargs(fmt, rows))
    trainer.train()
    (guard,) = (one for one in trainer.callback_handler.callbacks if type(one).__name__ == "LabelGuard")
    assert guard.compared == 2


def test_packed_rows_do_not_see_each_other() -> None:
    """Their logits are those of each row by itself."""
    import torch

    fmt, rows = _prepared(packing=400)
    model = random_model(len(fmt.tokenizer)).eval()
    batch = Collator(0, padding_free=True)(list(rows.select(range(3))))
    with torch.no_grad():
        found = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[0]
        edges = batch["cu_seq_lens_q"].tolist()
        for start, stop in pairwise(edges):
            alone = model(input_ids=batch["input_ids"][:, start:stop]).logits[0]
            assert torch.allclose(found[start:stop], alone, atol=1e-4)
    assert len(edges) > 4


def test_a_cache_that_lets_packed_rows_see_each_other(tmp_path: Path) -> None:
    fmt, rows = _prepared()
    with pytest.raises(DataError, match="use_cache = False"):
        _train(fmt, rows, tmp_path, lambda batch: {**batch, "use_cache": True}, padding_free=True)


def test_a_stream_passes_and_a_cut_one_does_not(tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    fmt, rows = _prepared()
    stream = rows.to_iterable_dataset().shuffle(seed=1, buffer_size=20)
    for longest in (None, 16):
        given = {**settings(tmp_path), "max_steps": 3}
        config = SFTConfig(**given, **sft_kwargs(fmt))
        trainer = SFTTrainer(random_model(len(fmt.tokenizer)), args=config, **sft_trainer_kwargs(fmt, stream))
        if longest is None:
            trainer.train()
            continue
        trainer.data_collator = Changed(trainer.data_collator, _cut)
        with pytest.raises(DataError, match="the row was cut"):
            trainer.train()


def test_the_guard_alone(tmp_path: Path) -> None:
    """TRL by itself, its default `max_length` and all: the rows are cut, and the guard says so."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    fmt = formatter("records")
    row = {"instruction": "Count.", "input": "", "output": " ".join(map(str, range(900)))}
    rows = fmt.prepare(datasets.Dataset.from_list([row] * 4), progress=False).dataset
    config = SFTConfig(**{**settings(tmp_path), "max_steps": 1})
    trainer = SFTTrainer(
        random_model(len(fmt.tokenizer)),
        args=config,
        train_dataset=rows,
        processing_class=fmt.tokenizer,
        callbacks=[label_guard(fmt, rows)],
    )
    with pytest.raises(DataError, match="1024 tokens, of which 1024 are the beginning of the prepared row 0"):
        trainer.train()


def _second_masked(batch: Batch) -> Batch:
    edges = batch["cu_seq_lens_q"]
    labels = batch["labels"].clone()
    labels[0, edges[1] : edges[2]] = -100
    return _with(batch, labels=labels)


def _lengths_of_one(batch: Batch) -> Batch:
    import torch

    edges = torch.tensor([0, batch["input_ids"].shape[1]], dtype=torch.int32)
    return _with(batch, cu_seq_lens_q=edges, cu_seq_lens_k=edges)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_second_masked, "row 1: .* labels that are not the prepared ones"),
        (_lengths_of_one, "some rows see each other"),
    ],
)
def test_a_fault_of_one_row_without_padding(
    change: Callable[[Batch], Batch], message: str, packed: bool, tmp_path: Path
) -> None:
    fmt, rows = _prepared(packing=packed)
    with pytest.raises(DataError, match=message):
        _train(fmt, rows, tmp_path, change, padding_free=True)


def _without_mask(batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if name != "attention_mask"}


def _square_mask(batch: Batch) -> Batch:
    import torch

    mask = batch["attention_mask"].bool()
    size = mask.shape[1]
    seen = torch.tril(torch.ones(size, size)).bool()[None] & mask[:, None, :]
    return _with(batch, attention_mask=torch.where(seen[:, None], 0.0, -1e9))


@pytest.mark.parametrize("change", [_without_mask, _square_mask])
def test_padding_that_nothing_tells_passes(change: Callable[[Batch], Batch], tmp_path: Path) -> None:
    """Behind a row, where a causal model does not look."""
    fmt, rows = _prepared()
    assert _train(fmt, rows, tmp_path, change).compared == 3


def test_padding_to_a_multiple_without_padding_between_rows(tmp_path: Path) -> None:
    fmt, rows = _prepared(packing=True)
    assert _train(fmt, rows, tmp_path, lambda batch: batch, padding_free=True, pad_to_multiple_of=64).compared == 3


def test_label_smoothing_keeps_labels_from_the_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from transformers import Trainer, TrainingArguments

    fmt, rows = _prepared()
    arguments = TrainingArguments(**{**settings(tmp_path), "max_steps": 2}, label_smoothing_factor=0.1)
    Trainer(random_model(len(fmt.tokenizer)), args=arguments, **trainer_kwargs(fmt, rows)).train()
    assert "labels are not compared" in caplog.text
