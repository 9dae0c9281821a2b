"""What a trainer must be told so that prepared rows reach the loss unchanged.

In: a formatter, and what it prepared. Out: plain keyword arguments for TRL and transformers, of which nothing is
imported before it is asked for.

TRL 1.16 leaves rows that have `input_ids` and `labels` alone, except that its `max_length`, 1024 by default,
cuts them, answer, terminator and all; and it writes a pad token into a tokenizer that lacks one. Both are
prevented here.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from instruct_fmt.errors import TokenizerError, UsageError
from instruct_fmt.train.collate import Collator

LENGTHS = "seq_lengths"

if TYPE_CHECKING:
    from instruct_fmt.formatter import Formatter
    from instruct_fmt.train.guard import LabelGuard

__all__ = [
    "collator",
    "label_guard",
    "prepared_pairs",
    "processing_class",
    "sft_kwargs",
    "sft_trainer_kwargs",
    "trainer_kwargs",
]


def sft_kwargs(fmt: Formatter, packing: bool = False, padding_free: bool = False) -> dict[str, Any]:
    """Arguments of `trl.SFTConfig` that must be so for prepared rows; everything else is yours to choose.

    Args:
        fmt: the formatter that prepares the rows.
        packing: lets TRL pack whole rows (``bfd``) into sequences of the formatter's `max_length` tokens.
        padding_free: puts the rows of a batch one behind the other, without padding; needed for rows that
            ``prepare(packing=…)`` has packed, which then do not see each other.

    Returns:
        Keyword arguments for ``SFTConfig(output_dir=…, **sft_kwargs(fmt))``. A second value for one of them
        is a TypeError of Python's, on purpose.

    Raises:
        UsageError: packing without a `max_length` of the formatter: TRL would cut rows longer than its own; packing
            and `padding_free`, which TRL's packing brings along; or either beside `loss_weights`, which TRL would drop.

    >>> import instruct_fmt as ifmt
    >>> fmt = ifmt.compile(None, "embedded")
    >>> sft_kwargs(fmt)["max_length"] is None
    True
    """
    same = {
        # Labels are there already; these two would ask for other columns.
        "assistant_only_loss": False,
        "completion_only_loss": False,
        # A value here would become the tokenizer's and the model's EOS.
        "eos_token": None,
        "packing": packing,
    }
    if not packing:
        # No preparation: no truncation, no EOS, no tokenization of a row that was not prepared.
        more: dict[str, Any] = {"max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}}
        if fmt.stages.weighted:
            if padding_free:
                fix = "leave it out here: sft_trainer_kwargs brings a collator that does it"
                raise UsageError("padding_free", "TRL's beside loss_weights, which it drops", "this package's", fix)
            more["remove_unused_columns"] = False  # no model names loss_weights among its arguments
        return same | more | ({"padding_free": True} if padding_free else {})
    if padding_free:
        raise UsageError(
            "packing",
            "packing beside padding_free",
            "one of them",
            "packing=True alone to let TRL pack; padding_free=True alone for what prepare(packing=…) has packed",
        )
    if fmt.stages.weighted:
        fix = "fmt.prepare(dataset, packing=True) and sft_kwargs(fmt)"
        raise UsageError("packing", "packing by TRL beside loss_weights", "rows that are packed already", fix)
    longest = fmt.settings.max_length
    if longest is None:
        raise UsageError(
            "packing",
            "no max_length",
            "one, because TRL cuts every row that is longer than a packed sequence",
            "give max_length to compile(), so that longer rows are handled there",
        )
    # Packing is a step of TRL's preparation, and the only one that touches rows with input_ids and labels.
    return same | {"max_length": longest, "packing_strategy": "bfd", "eval_packing": True}


def processing_class(fmt: Formatter) -> Any:
    """A copy of the formatter's tokenizer that has a pad token, for a trainer to own.

    Trainers write into the tokenizer that they get; a copy keeps the formatter and its fingerprint as they
    are. The pad token is the tokenizer's own or, where it has none, its EOS: rows are padded by length, so no
    EOS is masked.

    Raises:
        TokenizerError: the tokenizer has neither a pad token nor an EOS token.

    >>> import instruct_fmt as ifmt
    >>> processing_class(ifmt.compile(None, "embedded")).pad_token
    '<|endoftext|>'
    """
    tokenizer = copy.deepcopy(fmt.tokenizer)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise TokenizerError(
                "tokenizer",
                "neither a pad token nor an EOS token",
                "one of them for padding",
                "set tokenizer.pad_token before compile()",
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def sft_trainer_kwargs(fmt: Formatter, dataset: Any, guard: bool = True) -> dict[str, Any]:
    """Arguments of `trl.SFTTrainer` itself: the dataset, the tokenizer, and the guard of the labels.

    Args:
        fmt: the formatter that prepared the rows.
        dataset: the prepared dataset, or a stream of one.
        guard: stops the run if the labels that reach the model in the first batches are not the prepared ones.

    >>> import instruct_fmt as ifmt
    >>> fmt = ifmt.compile(None, "embedded")
    >>> prepared = fmt.prepare(ifmt.open_dataset("embedded"), progress=False).dataset
    >>> sorted(sft_trainer_kwargs(fmt, prepared))
    ['callbacks', 'processing_class', 'train_dataset']
    """
    found = {"train_dataset": dataset, "processing_class": processing_class(fmt)}
    if fmt.stages.weighted:
        packed = LENGTHS in (getattr(dataset, "column_names", None) or ())
        found["data_collator"] = collator(fmt, padding_free=packed)
    return found | ({"callbacks": [label_guard(fmt, dataset)]} if guard else {})


def trainer_kwargs(
    fmt: Formatter,
    dataset: Any,
    pad_to_multiple_of: int | None = None,
    padding_free: bool = False,
    guard: bool = True,
) -> dict[str, Any]:
    """Arguments of `transformers.Trainer`: the dataset, the collator, and the guard of the labels.

    Args:
        fmt: the formatter that prepared the rows.
        dataset: the prepared dataset, or a stream of one.
        pad_to_multiple_of, padding_free: as in `Collator`.
        guard: as in `sft_trainer_kwargs`.
    """
    batches = collator(fmt, pad_to_multiple_of, padding_free)
    found = {"train_dataset": dataset, "data_collator": batches, "processing_class": processing_class(fmt)}
    return found | ({"callbacks": [label_guard(fmt, dataset)]} if guard else {})


def prepared_pairs(trainer: type[Any]) -> type[Any]:
    """A preference trainer of TRL's that takes what `prepare_pairs` made as it is.

    TRL 1.16 tokenizes whatever `DPOTrainer` and `KTOTrainer` get; the class that comes back leaves rows with ids alone.
    `RewardTrainer` does so by itself.

    Args:
        trainer: `trl.DPOTrainer`, `trl.KTOTrainer`, or a class of theirs.

    Returns:
        The class. It refuses, with `UsageError`, a `max_length` that would cut a row: TRL cuts answers at their ends,
        and 1,024 tokens are its default.
    """

    class Prepared(trainer):  # type: ignore[misc]  # a class that is given
        def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
            names = set(dataset.column_names or next(iter(dataset)))
            if not names >= {"prompt_ids"} or not names & {"chosen_ids", "completion_ids"}:
                return super()._prepare_dataset(dataset, processing_class, args, dataset_name)
            _check_whole(dataset, args.max_length)
            if not getattr(self, "calculate_KL", False):
                return dataset
            # Each prompt beside the answer of another one of its batch, as KTO's baseline asks for.
            return dataset.map(_turned, batched=True, batch_size=args.per_device_train_batch_size)

    Prepared.__name__ = f"Prepared{trainer.__name__}"
    return Prepared


def _check_whole(dataset: Any, max_length: int | None) -> None:
    """Refuse a length at which a trainer would cut rows; of a stream nobody knows them.

    Raises:
        UsageError: it would.
    """
    if max_length is None:
        return
    columns = dataset.column_names or ()
    answers = [name for name in ("chosen_ids", "rejected_ids", "completion_ids") if name in columns]
    rows = dataset.with_format("arrow").iter(batch_size=10_000) if hasattr(dataset, "num_rows") else None
    longest = max((_longest(table, answers) for table in rows), default=0) if rows is not None else None
    if longest is None or longest > max_length:
        found = "a stream, whose rows it may cut" if longest is None else f"rows of up to {longest:,} tokens"
        fix = "max_length=None in its configuration; compile(…, max_length=…) drops and counts long pairs"
        raise UsageError("max_length", f"{max_length:,}, with {found}", "a trainer that cuts no answer", fix)


def _longest(table: Any, answers: Sequence[str]) -> int:
    """The most tokens of a prompt with an answer."""
    import pyarrow.compute as pc

    prompts = pc.list_value_length(table.column("prompt_ids"))
    sizes = (pc.max(pc.add(prompts, pc.list_value_length(table.column(name)))).as_py() for name in answers)
    return int(max(sizes))


def _turned(rows: dict[str, Any]) -> dict[str, Any]:
    answers = rows["completion_ids"]
    return {"KL_completion_ids": [answers[-1], *answers[:-1]]}


def label_guard(fmt: Formatter, dataset: Any, batches: int = 4) -> LabelGuard:
    """A callback that stops a run whose labels are not the prepared ones; see `LabelGuard`."""
    from instruct_fmt.train.guard import LabelGuard

    return LabelGuard(dataset, fmt.tokenizer, batches)


def collator(fmt: Formatter, pad_to_multiple_of: int | None = None, padding_free: bool = False) -> Collator:
    """The `Collator` for the formatter's rows, with the pad token of `processing_class`.

    Args:
        fmt: the formatter that prepares the rows.
        pad_to_multiple_of: rounds the length of a batch, in tokens, up to a multiple of this.
        padding_free: as in `Collator`.

    Raises:
        TokenizerError: the tokenizer has neither a pad token nor an EOS token.
    """
    return Collator(int(processing_class(fmt).pad_token_id), pad_to_multiple_of, padding_free)
