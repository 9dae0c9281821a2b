"""What SFTTrainer and Trainer feed to the model is what the formatter made, token for token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import train_sft
from train_sft import make_trainer, random_model

import instruct_fmt as ifmt
from instruct_fmt.embedded import records_path, sample_path, tokenizer_path
from instruct_fmt.errors import TokenizerError, UsageError
from instruct_fmt.train.trainers import collator, processing_class, sft_kwargs

STEPS = 20
BATCH = 4
Row = tuple[tuple[int, ...], tuple[int, ...]]


def formatter(kind: str, **options: Any) -> ifmt.Formatter:
    return ifmt.compile("alpaca" if kind == "records" else None, str(tokenizer_path()), **options)


def dataset(kind: str) -> Any:
    import datasets

    path = records_path() if kind == "records" else sample_path()
    return datasets.Dataset.from_list([json.loads(line) for line in path.read_text("utf-8").splitlines()])


def encoded(kind: str, road: str) -> Any:
    fmt, rows = formatter(kind), dataset(kind)
    if road == "prepare":
        return fmt.prepare(rows, progress=False).dataset
    return rows.map(fmt, batched=True, remove_columns=rows.column_names)


def test_sft_kwargs_without_packing() -> None:
    found = sft_kwargs(formatter("chat", max_length=512))
    assert found == {
        "assistant_only_loss": False,
        "completion_only_loss": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "eos_token": None,
        "max_length": None,
        "packing": False,
    }
    assert found == formatter("chat").sft_kwargs()


def test_packing_needs_the_length_that_the_formatter_keeps() -> None:
    assert sft_kwargs(formatter("chat", max_length=512), packing=True)["max_length"] == 512
    with pytest.raises(UsageError, match="max_length"):
        sft_kwargs(formatter("chat"), packing=True)


def test_the_formatter_keeps_its_tokenizer() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_path())
    tokenizer.pad_token = None
    fmt = ifmt.compile(None, tokenizer)
    before = fmt.fingerprint
    owned = processing_class(fmt)
    assert (owned.pad_token, fmt.tokenizer.pad_token) == ("<|im_end|>", None)
    assert fmt.fingerprint == before
    assert collator(fmt).pad_token_id == owned.eos_token_id
    tokenizer.eos_token = None
    with pytest.raises(TokenizerError, match="pad token"):
        processing_class(ifmt.compile("USER: {q}\nASSISTANT: {a}", tokenizer, stop=["\n"]))


@pytest.fixture(autouse=True)
def _two_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("trainers") is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Caught:
    """Every row of every forward pass in training, un-padded."""

    def __init__(self, model: Any) -> None:
        self.rows: list[Row] = []
        self.longest = 0
        model.register_forward_pre_hook(self._catch, with_kwargs=True)

    def _catch(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        ids, labels, mask = (kwargs[name].tolist() for name in ("input_ids", "labels", "attention_mask"))
        for row_ids, row_labels, row_mask in zip(ids, labels, mask, strict=True):
            length = sum(row_mask)
            assert row_mask == [1] * length + [0] * (len(row_mask) - length)
            assert set(row_labels[length:]) <= {-100}
            self.rows.append((tuple(row_ids[:length]), tuple(row_labels[:length])))


def settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "seed": 7,
    }


def sft(fmt: ifmt.Formatter, model: Any, rows: Any, folder: Path) -> Any:
    return make_trainer("sft", fmt, model, rows, settings(folder))


def plain(fmt: ifmt.Formatter, model: Any, rows: Any, folder: Path) -> Any:
    return make_trainer("transformers", fmt, model, rows, settings(folder))


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def as_rows(data: Any) -> set[Row]:
    return {(tuple(row["input_ids"]), tuple(row["labels"])) for row in data}


def whole_loss(model: Any, fmt: ifmt.Formatter, rows: Any) -> float:
    """The loss of the first rows, in order: without the noise of which rows a step drew."""
    import torch

    pad = collator(fmt)
    starts = range(0, min(len(rows), 8 * BATCH), BATCH)
    batches = [pad(list(rows.select(range(at, min(at + BATCH, len(rows)))))) for at in starts]
    with torch.no_grad():
        return sum(float(model(**batch).loss) for batch in batches) / len(batches)


def check_steps(make: Any, fmt: ifmt.Formatter, rows: Any, folder: Path) -> None:
    """Twenty steps: the rows in the forward passes are prepared rows, each label included; the loss falls."""
    model = random_model(len(fmt.tokenizer))
    caught = Caught(model)
    trainer = make(fmt, model, rows, folder)
    before = whole_loss(model, fmt, rows)
    caught.rows.clear()
    trainer.train()
    seen, prepared = set(caught.rows), as_rows(rows)
    assert len(caught.rows) >= STEPS * (BATCH - 1)
    assert seen <= prepared
    assert seen == prepared or len(prepared) > STEPS * BATCH
    found = losses(trainer)
    assert len(found) == STEPS
    assert sum(found[-5:]) < sum(found[:5])
    assert whole_loss(model, fmt, rows) < 0.9 * before


@pytest.mark.trainers
@pytest.mark.parametrize("road", ["prepare", "map"])
@pytest.mark.parametrize("kind", ["chat", "records"])
@pytest.mark.parametrize("make", [sft, plain])
def test_the_model_sees_the_prepared_labels(make: Any, kind: str, road: str, tmp_path: Path) -> None:
    check_steps(make, formatter(kind), encoded(kind, road), tmp_path)


@pytest.mark.trainers
@pytest.mark.real
@pytest.mark.parametrize(("template", "file"), [("alpaca", "alpaca_en.json"), ("llama2", "content_parts_sft.jsonl")])
@pytest.mark.parametrize("make", [sft, plain])
def test_real_rows(make: Any, template: str, file: str, tmp_path: Path, real_tokenizers: Path, real_data: Path) -> None:
    import datasets

    # Its pad token is missing, so that EOS pads.
    fmt = ifmt.compile(template, str(real_tokenizers / "llama2"), max_length=128)
    text = (real_data / file).read_text("utf-8")
    read = json.loads(text) if file.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    rows = fmt.prepare(datasets.Dataset.from_list(read[:400]), progress=False).dataset
    check_steps(make, fmt, rows.select(range(STEPS * BATCH)), tmp_path)


@pytest.mark.trainers
def test_both_roads_give_the_same_rows() -> None:
    assert as_rows(encoded("chat", "prepare")) == as_rows(encoded("chat", "map"))


@pytest.mark.trainers
@pytest.mark.parametrize("make", [sft, plain])
def test_a_row_longer_than_the_default_of_trl_is_not_cut(make: Any, tmp_path: Path) -> None:
    import datasets

    fmt = formatter("records")
    row = {"instruction": "Count.", "input": "", "output": " ".join(map(str, range(900)))}
    rows = datasets.Dataset.from_list([row] * BATCH).map(
        fmt, batched=True, remove_columns=["instruction", "input", "output"]
    )
    assert len(rows[0]["input_ids"]) > 1024
    model = random_model(len(fmt.tokenizer))
    caught = Caught(model)
    trainer = make(fmt, model, rows, tmp_path)
    trainer.args.max_steps = 1
    trainer.train()
    assert set(caught.rows) == as_rows(rows)
    assert caught.rows[0][1][-1] == fmt.tokenizer.eos_token_id


@pytest.mark.trainers
@pytest.mark.parametrize("make", [sft, plain])
def test_an_eos_that_is_also_the_pad_token_is_trained(make: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_path())
    tokenizer.pad_token = tokenizer.eos_token
    fmt = ifmt.compile("alpaca", tokenizer)
    rows = fmt.prepare(dataset("records"), progress=False).dataset
    model = random_model(len(tokenizer))
    caught = Caught(model)
    trainer = make(fmt, model, rows, tmp_path)
    trainer.args.max_steps = 2
    trainer.train()
    assert set(caught.rows) <= as_rows(rows)
    assert {labels[-1] for _, labels in caught.rows} == {tokenizer.eos_token_id}


@pytest.mark.trainers
def test_packing_keeps_every_row_whole(tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    fmt = formatter("records", max_length=256)
    rows = fmt.prepare(dataset("records"), progress=False).dataset
    trainer = SFTTrainer(
        random_model(len(fmt.tokenizer)),
        args=SFTConfig(**settings(tmp_path), **sft_kwargs(fmt, packing=True)),
        train_dataset=rows,
        processing_class=processing_class(fmt),
    )
    packed = set()
    for row in trainer.train_dataset:
        start = 0
        for length in row["seq_lengths"]:
            part = slice(start, start + length)
            packed.add((tuple(row["input_ids"][part]), tuple(row["labels"][part])))
            start += length
    assert packed == as_rows(rows)


@pytest.mark.trainers
def test_the_loss_is_that_of_trl_where_its_mask_is_right(tmp_path: Path) -> None:
    """Prompt and completion as text, which it encodes apart and ends with EOS: step by step the same loss."""
    import datasets
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    given = [{"prompt": f"Question {n}: say {n}.\nAnswer:", "completion": f" It is {n}."} for n in range(40)]
    rows = datasets.Dataset.from_list(given)
    fmt = ifmt.compile(None, str(tokenizer_path()), format="prompt_completion")
    prepared = fmt.prepare(rows, progress=False).dataset
    few = {**settings(tmp_path), "max_steps": 10}
    theirs = SFTTrainer(
        random_model(len(fmt.tokenizer)),
        args=SFTConfig(**few, max_length=None, completion_only_loss=True),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(tokenizer_path()),
    )
    ours = sft(fmt, random_model(len(fmt.tokenizer)), prepared, tmp_path)
    ours.args.max_steps = 10
    found = []
    for trainer in (ours, theirs):
        torch_seed(7)
        trainer.train()
        found.append(losses(trainer))
    assert len(found[0]) == 10
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def torch_seed(seed: int) -> None:
    import torch

    torch.manual_seed(seed)


@pytest.mark.trainers
@pytest.mark.parametrize("kind", ["sft", "transformers"])
def test_the_script_prints_falling_losses(kind: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = train_sft.main(["embedded", "--trainer", kind, "--steps", "6", "--set", f"output.path={tmp_path / 'rows'}"])
    assert code == 0
    line = capsys.readouterr().out.splitlines()[-1]
    found = [float(loss) for loss in line.removeprefix("loss: ").split()]
    assert len(found) == 6
    assert found[-1] < found[0]


def test_the_script_names_a_wrong_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_sft.main(["embedded", "--set", "max_lenght=5"]) == 2
    assert "max_length" in capsys.readouterr().err
