"""What is trained of a conversation, and why a turn may not be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from instruct_fmt.common.loss_weights import NO_WEIGHTS, LossWeights

History = Literal["auto", "as_rendered", "last", "expand", "error"]
# Why a turn cannot be served; an earlier turn is left out under that name.
UNSERVED = frozenset(
    {
        "empty-reasoning",
        "reasoning-closed",
        "block-twice",
        "guard",
        "no-turn",
        "no-prompt",
        "prefill-unknown",
        "field-dropped",
        "field-order",
    }
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What is trained of a conversation; the names are those of `compile`."""

    train_on: str | tuple[str, ...] = "assistant"
    history: History = "auto"
    prompt_mismatch: Literal["as_served", "error", "as_rendered"] = "as_served"
    empty_reasoning: Literal["error", "close"] = "error"
    completion_format: str | None = None
    allow_dropped: frozenset[str] = frozenset()
    append_eos: bool = True
    loss_weights: LossWeights = NO_WEIGHTS

    @property
    def expands(self) -> bool:
        """Whether each turn makes a row of its own; a text that is trained whole is one."""
        return self.history == "expand" and self.train_on != "all"
