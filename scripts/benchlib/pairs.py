"""Preference data: pairs made into ids here and by TRL."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import datasets

from benchlib.child import Job, Result, timed


def pairs(job: Job) -> Result:
    """`fmt.prepare_pairs`."""
    import instruct_fmt as ifmt

    dataset = datasets.Dataset.from_file(job.data)
    fmt = ifmt.compile(job.template, job.tokenizer, **json.loads(job.options))
    fmt.prepare_pairs(dataset.select(range(20)))  # the engine is made
    first, cpu, made = timed(lambda: fmt.prepare_pairs(dataset))
    return Result(0.0, first, len(dataset), cpu=cpu, tokens=made.report.tokens)


def trl_pairs(job: Job) -> Result:
    """`DPOTrainer` around a model of a few numbers; timed is its data preparation and nothing else."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    dataset = datasets.Dataset.from_file(job.data)
    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer)
    taken = []

    class Timed(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
            prepare = super()._prepare_dataset
            first, cpu, prepared = timed(lambda: prepare(*args, **kwargs))
            taken.append((first, cpu))
            return prepared

    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    models = [LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size)) for _ in range(2)]
    config = DPOConfig(output_dir="trainer", max_length=None, report_to="none", use_cpu=True, bf16=False)
    made = Timed(*models, config, train_dataset=dataset, processing_class=tokenizer).train_dataset
    tokens = sum(
        2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])
        for row in made.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"])
    )
    first, cpu = taken[0]
    return Result(0.0, first, len(dataset), cpu=cpu, tokens=tokens)


SIDES: dict[str, Callable[[Job], Result]] = {"pairs_here": pairs, "trl_pairs": trl_pairs}
