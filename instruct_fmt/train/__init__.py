"""What trainers need: TRL's `SFTTrainer` and transformers' `Trainer`. torch is imported only where a batch is made."""

from instruct_fmt.train.collate import Collator
from instruct_fmt.train.loss import weighted, weighted_loss
from instruct_fmt.train.trainers import (
    collator,
    label_guard,
    prepared_pairs,
    processing_class,
    sft_kwargs,
    sft_trainer_kwargs,
    trainer_kwargs,
)

__all__ = [
    "Collator",
    "collator",
    "label_guard",
    "prepared_pairs",
    "processing_class",
    "sft_kwargs",
    "sft_trainer_kwargs",
    "trainer_kwargs",
    "weighted",
    "weighted_loss",
]
