"""The other sides: TRL's data preparation, transformers row by row, and the bare engines on rendered text.

A function is one `Job`, run in a fresh process. Imports are not timed, nor is anything that makes the input.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from benchlib.child import Job, Result, timed
from benchlib.rows import SAMPLED, Rows


def trl_unmasked(job: Job) -> Result:
    """`trl` without `assistant_only_loss`: all that it can do under most templates is to train on the whole text."""
    return trl(job, masked=False)


def trl(job: Job, *, masked: bool = True) -> Result:
    """`SFTTrainer` around a model of a few numbers; timed is its data preparation and nothing else.

    Conversations are prepared with `assistant_only_loss` and TRL's own training template, prompt and completion as
    they are. `max_length=None` spares TRL the two passes that truncate.
    """
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    dataset = datasets.Dataset.from_file(job.data)
    start = time.perf_counter()
    tokenizer = _tokenizer(job)
    setup = time.perf_counter() - start
    taken = []

    class Timed(SFTTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
            prepare = super()._prepare_dataset
            first, cpu, prepared = timed(lambda: prepare(*args, **kwargs))
            taken.append((first, cpu))
            return prepared

    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size))
    config = SFTConfig(
        output_dir="trainer",
        max_length=None,
        assistant_only_loss=masked and "messages" in dataset.column_names,
        dataset_num_proc=job.num_proc,
        report_to="none",
        use_cpu=True,
        bf16=False,
    )
    made = Timed(model, config, train_dataset=dataset, processing_class=tokenizer).train_dataset
    rows = made.select(range(min(SAMPLED, len(made))))
    sample = {str(number): [row["input_ids"], row["labels"]] for number, row in enumerate(rows)}
    tokens = pc.sum(pc.list_value_length(made.data.column("input_ids"))).as_py()
    first, cpu = taken[0]
    return Result(setup, first, len(dataset), cpu=cpu, tokens=int(tokens), sample=sample)


def transformers_mask(job: Job) -> Result:
    """`apply_chat_template(…, return_assistant_tokens_mask=True)` with TRL's training template, row by row."""
    from trl.chat_template_utils import get_training_chat_template

    rows = datasets.Dataset.from_file(job.data).to_list()
    start = time.perf_counter()
    tokenizer = _tokenizer(job)
    template = get_training_chat_template(tokenizer)
    setup = time.perf_counter() - start
    options = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}

    def once() -> int:
        made = (tokenizer.apply_chat_template(row["messages"], chat_template=template, **options) for row in rows)
        return sum(len(found["input_ids"]) for found in made)

    return _passes(job, once, setup, len(rows))


def _tokenizer(job: Job) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer)
    if job.template:
        tokenizer.chat_template = Path(job.template).read_text(encoding="utf-8")
    return tokenizer


def tokenizers_bare(job: Job) -> Result:
    """`tokenizers.Tokenizer.encode_batch` on rendered text."""
    from tokenizers import Tokenizer

    texts: list[str] = _texts(job).to_pylist()
    start = time.perf_counter()
    engine = Tokenizer.from_file(str(Path(job.tokenizer) / "tokenizer.json"))
    setup = time.perf_counter() - start

    def once() -> int:
        tokens = 0
        for first in range(0, len(texts), job.batch_size):
            found = engine.encode_batch(texts[first : first + job.batch_size], add_special_tokens=False)
            tokens += sum(map(len, found))
        return tokens

    return _passes(job, once, setup, len(texts))


def gigatoken_bare(job: Job) -> Result:
    """`gigatoken` on rendered text: the limit. A `batch_size` of 0 is one call for everything."""
    import awkward
    import gigatoken

    texts = _texts(job)
    definition = (Path(job.tokenizer) / "tokenizer.json").read_text(encoding="utf-8")
    start = time.perf_counter()
    engine = gigatoken.Tokenizer.from_json(definition)
    setup = time.perf_counter() - start

    def once() -> int:
        tokens, step = 0, job.batch_size or len(texts)
        for first in range(0, len(texts), step):
            found = engine.encode_batch(awkward.from_arrow(texts[first : first + step]))
            tokens += len(found.layout.content)
        return tokens

    return _passes(job, once, setup, len(texts))


def _texts(job: Job) -> pa.Array:
    with pa.memory_map(job.data) as source:
        column = pa.ipc.open_stream(source).read_all().column("text")
    return pa.array(column.to_pylist(), pa.large_string())


def _passes(job: Job, once: Callable[[], int], setup: float, rows: int) -> Result:
    first, cpu, tokens = timed(once)
    warm = timed(once)[0] if job.warm else None
    return Result(setup, first, rows, warm, cpu, tokens)


def rendered(rows: Rows, job: Job, folder: Path) -> Rows:
    """The rows as rendered text, made by other means than this package, in a column `text`."""
    given = hashlib.sha256(job.tokenizer.encode())
    if job.template:
        given.update(Path(job.template).read_bytes())
    path = folder / f"{Path(rows.path).stem}-{given.hexdigest()[:8]}-text.arrow"
    made = replace(rows, path=str(path))
    if path.exists():
        return made
    engine = _tokenizer(job)
    schema = pa.schema([("text", pa.large_string())])
    part = path.with_suffix(".part")
    with _quiet(), pa.ipc.new_stream(str(part), schema) as writer:
        for batch in datasets.Dataset.from_file(rows.path).iter(1000):
            writer.write_table(pa.table({"text": list(_rendered(batch, engine))}, schema=schema))
    part.rename(path)
    return made


def _rendered(batch: dict[str, list[Any]], engine: Any) -> Iterator[str]:
    if "messages" in batch:
        yield from (engine.apply_chat_template(messages, tokenize=False) for messages in batch["messages"])
    else:
        yield from (prompt + text for prompt, text in zip(batch["prompt"], batch["completion"], strict=True))


@contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


SIDES: dict[str, Callable[[Job], Result]] = {
    "trl": trl,
    "trl_unmasked": trl_unmasked,
    "transformers_mask": transformers_mask,
    "tokenizers_bare": tokenizers_bare,
    "gigatoken_bare": gigatoken_bare,
}
