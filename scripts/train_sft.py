#!/usr/bin/env python3
"""From a configuration to a few steps of a real trainer: prepare, train, print the losses.

    .venv/bin/python scripts/train_sft.py embedded
    .venv/bin/python scripts/train_sft.py CONFIG --trainer transformers --model FOLDER --steps 100 --set max_length=512

The configuration is what `instruct-fmt prepare` takes; the extra `train` must be installed. The model
`random` is a small one with random weights and the tokenizer's vocabulary, made here without a download.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from instruct_fmt.errors import InstructFmtError, UsageError
from instruct_fmt.run.config.load import load
from instruct_fmt.run.open import open_sources, options_of
from instruct_fmt.run.prepare import prepare_sources
from instruct_fmt.train import sft_kwargs, sft_trainer_kwargs, trainer_kwargs, weighted

RANDOM = "random"


def random_model(vocabulary: int, seed: int = 7) -> Any:
    """A causal language model of one small Llama layer, with random weights and `vocabulary` tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


def make_trainer(kind: str, fmt: Any, model: Any, dataset: Any, settings: dict[str, Any]) -> Any:
    """TRL's `SFTTrainer` (`sft`) or `transformers.Trainer` (`transformers`) on rows as they were prepared."""
    columns = dataset.column_names or ()
    packed, counted = "seq_lengths" in columns, "loss_weights" in columns
    if kind == "sft":
        from trl import SFTConfig, SFTTrainer

        config = SFTConfig(**settings, **sft_kwargs(fmt, padding_free=packed and not counted))
        trainer = weighted(SFTTrainer) if counted else SFTTrainer
        return trainer(model, args=config, **sft_trainer_kwargs(fmt, dataset))
    from transformers import Trainer, TrainingArguments

    if packed or counted:  # the model's forward pass names no such argument; the collator needs it
        settings = {**settings, "remove_unused_columns": False}
    arguments = TrainingArguments(**settings)
    trainer = weighted(Trainer) if counted else Trainer
    return trainer(model, args=arguments, **trainer_kwargs(fmt, dataset, padding_free=packed))


def train(options: argparse.Namespace, folder: str) -> list[float]:
    """Prepares and trains; returns the loss of each step."""
    config = load(options.config, options.set)
    sources = open_sources(config, Path(options.config).parent)
    prepared = prepare_sources(sources, options_of(config))
    print(prepared.report)
    fmt: Any = sources[0].fmt
    model = options.model
    if model == RANDOM:
        model = random_model(len(fmt.tokenizer))
    elif options.trainer == "transformers":
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(model)
    trainer = make_trainer(options.trainer, fmt, model, prepared.dataset, settings(options, folder))
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def settings(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """What both trainers are told: every step is logged, nothing is saved, full precision."""
    import torch

    return {
        "output_dir": folder,
        "max_steps": options.steps,
        "per_device_train_batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": False,
        "activation_checkpointing": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "disable_tqdm": True,
        "seed": options.seed,
    }


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("config", help="a YAML file, or `embedded`")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of it")
    parser.add_argument("--trainer", choices=["sft", "transformers"], default="sft")
    parser.add_argument("--model", default=RANDOM, help="a name, a folder, or `random`")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=4, help="rows in a step")
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=7)
    return parser


def main(given: list[str] | None = None) -> int:
    """Runs; returns the exit code: 0, 1 (data), 2 (usage)."""
    options = arguments().parse_args(given)
    try:
        with tempfile.TemporaryDirectory() as folder:
            losses = train(options, folder)
    except InstructFmtError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print("loss: " + " ".join(f"{loss:.3f}" for loss in losses))
    return 0


if __name__ == "__main__":
    sys.exit(main())
