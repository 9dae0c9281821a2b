"""Turns that an option refuses although they can be served: the errors, with the options that take them."""

from __future__ import annotations

from instruct_fmt.errors import RowError, option, shown


def history_rewritten(index: int) -> RowError:
    """The error for message `index`, which reads otherwise once it is history."""
    return RowError(
        "history-rewritten",
        f"$.messages[{index}]",
        "a turn that the template writes differently once it is history",
        "the same text as history and as the last turn",
        "leave the row out",
        changes=[
            option("history", "expand", "makes one row of each turn"),
            option("history", "auto", "leaves such turns out of the loss"),
        ],
    )


def prompt_not_prefix(index: int, prompt: str, text: str) -> RowError:
    """The error for message `index`, whose prompt is not how the text begins."""
    size = min(len(text), len(prompt))
    at = next((i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b), size)
    return RowError(
        "prompt-not-prefix",
        f"$.messages[{index}]",
        f"the generation prompt has {shown(prompt[at : at + 40])} where the training text has "
        f"{shown(text[at : at + 40])}",
        "a training text that begins with the generation prompt",
        "leave the row out",
        changes=[option("prompt_mismatch", "as_served", "trains the turn behind its prompt")],
    )
