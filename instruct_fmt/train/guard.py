"""A callback that stops a run whose labels are not the prepared ones.

It looks at what the model's forward pass is given, behind every collator, trainer and wrapper. The first batches are
compared, and no more: it costs nothing after that.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import TrainerCallback

from instruct_fmt.emit import WEIGHTS
from instruct_fmt.errors import DataError, InstructFmtError, UsageError
from instruct_fmt.train.caught import PreparedRows, check_batch
from instruct_fmt.train.loss import base_of, weighted_loss

logger = logging.getLogger("instruct_fmt")

ROWS_OF_STREAM = 10_000
_FLASH = re.compile("flash|kernels-community")
_LOOKED_AT = ("input_ids", "labels", "attention_mask", "position_ids", "cu_seq_lens_q")


class LabelGuard(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Compares the first batches that reach the model with a prepared dataset.

    Args:
        dataset: the prepared dataset, a stream of one, or a `pa.Table`.
        tokenizer: for the texts of tokens in messages.
        batches: how many batches are compared.

    Raises:
        DataError: while training: the labels that reach the model are not the prepared ones.
        NothingToLearn: likewise: no token of a batch is trained.

    >>> import instruct_fmt as ifmt
    >>> prepared = ifmt.compile(None, "embedded").prepare(ifmt.open_dataset("embedded"), progress=False)
    >>> guard = LabelGuard(prepared.dataset)  # for Trainer(…, callbacks=[guard])
    """

    def __init__(self, dataset: Any, tokenizer: Any = None, batches: int = 4) -> None:
        if type(batches) is not int or batches < 1:
            raise UsageError("batches", f"{batches!r}", "1 or more", "leave it out")
        self._dataset, self._tokenizer, self._batches = dataset, tokenizer, batches
        self._rows: PreparedRows | None = None
        self._hook: Any = None
        self.compared = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Listen to the model from now on."""
        self.close()
        self.compared = 0
        if getattr(args, "label_smoothing_factor", 0):
            logger.warning("labels are not compared: with label_smoothing_factor the trainer keeps them from the model")
            return
        self._hook = model.register_forward_pre_hook(self._look, with_kwargs=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Listen no more."""
        watched = self._hook is not None
        self.close()
        if watched and not self.compared:
            logger.warning("no batch was compared with the prepared rows: the model was not called with input_ids")

    def close(self) -> None:
        """Take the hook off the model."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _look(self, model: Any, args: Any, given: Mapping[str, Any]) -> None:
        if not model.training or given.get("input_ids") is None:
            return
        if self._rows is None:
            self._rows = _prepared(self._dataset)
        batch = {name: _array(given[name]) for name in _LOOKED_AT if given.get(name) is not None}
        name = f"batch {self.compared} of the training"
        try:
            if self._is_weighted:
                _check_weights(model, given, name)
            check_batch(batch, self._rows, name, self._text)
            _check_attention(model, given, batch, name)
        except InstructFmtError:
            self.close()
            raise
        self.compared += 1
        if self.compared == self._batches:
            self.close()
            self._rows = None

    @property
    def _is_weighted(self) -> bool:
        """Whether the dataset has weights of tokens."""
        return WEIGHTS in (getattr(self._dataset, "column_names", None) or ())

    def _text(self, id: int) -> str:
        return repr(self._tokenizer.decode([id])) if self._tokenizer is not None else f"id {id}"


def _check_attention(model: Any, given: Mapping[str, Any], batch: Mapping[str, Any], name: str) -> None:
    """Rows behind each other are told apart by `position_ids`, which models do not look at where they keep a cache.

    Source: `masking_utils.py` of transformers 5.24; kernels that take `cu_seq_lens_q` do not need it.
    """
    positions = batch.get("position_ids")
    if positions is None or "attention_mask" in batch or not (positions[:, 1:] == 0).any():
        return
    config = getattr(model, "config", None)
    kernel = str(getattr(config, "_attn_implementation", ""))
    if given.get("use_cache", getattr(config, "use_cache", False)) and not _FLASH.search(kernel):
        raise DataError(
            name,
            f"rows behind each other in a model with use_cache=True and the attention {kernel!r}: they see each other",
            "a model without a cache while it learns",
            "model.config.use_cache = False",
        )


def _check_weights(model: Any, given: Mapping[str, Any], name: str) -> None:
    """Weights of tokens must reach the model, and its loss must know them."""
    if given.get(WEIGHTS) is None:
        raise DataError(
            name,
            "no loss_weights, which the prepared rows have",
            "what each token counts",
            "remove_unused_columns=False, and instruct_fmt.train's collator: data_collator=collator(fmt)",
        )
    # With `fused_lm_head` TRL takes the loss from log-probabilities, whatever the model's loss function is.
    if given.get("fused_lm_head") or getattr(base_of(model), "loss_function", weighted_loss) is not weighted_loss:
        raise DataError(
            name,
            "a loss that does not know loss_weights",
            "one that multiplies each token's by them",
            "instruct_fmt.train.weighted(Trainer), or weighted(SFTTrainer), in place of the trainer's class",
        )


def _array(value: Any) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = value.detach().cpu().numpy()
    return found


def _prepared(dataset: Any) -> PreparedRows:
    """The rows of a dataset, or the first ones of a stream."""
    if isinstance(dataset, pa.Table):
        return PreparedRows.of([dataset])
    if hasattr(dataset, "num_rows"):
        names = [name for name in ("input_ids", "labels", "seq_lengths") if name in dataset.column_names]
        rows = dataset.select_columns(names).with_format("arrow")
        return PreparedRows.of(list(rows.iter(batch_size=10_000)))
    first = list(islice(dataset.with_format(None), ROWS_OF_STREAM))
    names = [name for name in ("input_ids", "labels", "seq_lengths") if first and name in first[0]]
    kind = pa.list_(pa.int32())
    columns = {name: pa.array([row[name] for row in first], kind) for name in names}
    return PreparedRows.of([pa.table(columns)] if first else [], is_whole=len(first) < ROWS_OF_STREAM)
