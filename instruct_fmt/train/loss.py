"""The loss of a causal language model whose tokens count more or less than once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruct_fmt.emit import UNTRAINED, WEIGHTS


def weighted_loss(
    logits: Any,
    labels: Any,
    vocab_size: int,
    num_items_in_batch: Any = None,
    ignore_index: int = UNTRAINED,
    shift_labels: Any = None,
    loss_weights: Any = None,
    **_: Any,
) -> Any:
    """Cross entropy, each token times its weight; the sum is divided by the number of trained tokens.

    For models of transformers, whose forward pass hands `loss_weights` on: ``model.loss_function = weighted_loss``,
    which `weighted` does. Weights of 1, or none at all, give the loss that such models have by themselves.

    Args:
        logits: of shape (rows, length, vocabulary).
        labels: int64 of shape (rows, length); `ignore_index` where nothing is trained.
        vocab_size: the size of the vocabulary.
        num_items_in_batch: by what the sum is divided, where a trainer knows it of several batches.
        ignore_index: what labels are where nothing is trained.
        shift_labels: labels that are a token further already, in place of `labels`.
        loss_weights: float32 of shape (rows, length); None for 1 everywhere.

    Returns:
        A tensor of no dimensions.
    """
    from torch.nn import functional

    if shift_labels is None:
        shift_labels = functional.pad(labels, (0, 1), value=ignore_index)[..., 1:]
    found = functional.cross_entropy(
        logits.float().view(-1, vocab_size),
        shift_labels.reshape(-1).to(logits.device),
        ignore_index=ignore_index,
        reduction="none",
    )
    if loss_weights is not None:
        weights = functional.pad(loss_weights, (0, 1), value=0)[..., 1:]
        found = found * weights.reshape(-1).to(found)
    if num_items_in_batch is None:
        return found.sum() / (shift_labels != ignore_index).sum()
    number = num_items_in_batch
    return found.sum() / (number.to(found.device) if hasattr(number, "to") else number)


def weighted(trainer: type[Any]) -> type[Any]:
    """A trainer whose loss counts each token as the column `loss_weights` says.

    TRL's `SFTTrainer` takes its loss from log-probabilities of the model and knows no weights; the class that comes
    back takes it from the model's own forward pass, and lacks TRL's figures of entropy and accuracy in the log.

    Args:
        trainer: `transformers.Trainer`, `trl.SFTTrainer`, or a class of theirs.

    Returns:
        A class with the same arguments.
    """
    from transformers import Trainer

    class Weighted(trainer):  # type: ignore[misc]  # a class that is given
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            base_of(self.model).loss_function = weighted_loss

        def compute_loss(self, model: Any, inputs: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
            if inputs.get(WEIGHTS) is None:
                return super().compute_loss(model, inputs, *args, **kwargs)
            return Trainer.compute_loss(self, model, {**inputs, "use_cache": False}, *args, **kwargs)

    Weighted.__name__ = f"Weighted{trainer.__name__}"
    return Weighted


def base_of(model: Any) -> Any:
    """The model itself, in place of an adapter around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
