"""Every option of a formatter, declared once: its type, its default, what it may be and what it means.

The checks, the keys of a configuration file with their schema, and the reference in `docs/configuration.md` follow from
what stands here; the signature of `compile` repeats it for editors, and a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from instruct_fmt.common.engines import ENGINES, REFERENCE
from instruct_fmt.common.loss_weights import PARTS
from instruct_fmt.option_kinds import Choice, Count, Form, Kind, Moment, Names, Share, Text, Texts, Trained, Weights

_ABOUT = "about"


@dataclass(frozen=True, slots=True)
class About:
    """What is said about an option.

    Attributes:
        kind: what it may be.
        doc: what it means, in a sentence or two, in Markdown.
        example: a value, as YAML writes it.
        of_dataset: whether one dataset of a configuration may have a value of its own.
    """

    kind: Kind
    doc: str
    example: str = ""
    of_dataset: bool = False


def _said(kind: Kind, doc: str, *, example: str = "", of_dataset: bool = False) -> dict[str, About]:
    return {_ABOUT: About(kind, doc, example, of_dataset)}


def about() -> dict[str, About]:
    """What is said about each option, in order."""
    return {option.name: option.metadata[_ABOUT] for option in fields(Options)}


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `compile`, checked.

    Raises:
        UsageError: a value that cannot work.

    >>> Options(max_length=512, stop="</s>").stop
    ('</s>',)
    """

    columns: Mapping[str, str] = field(
        default_factory=dict,
        metadata=_said(
            Names(), "The template's name of a column → the dataset's.", example="{output: response}", of_dataset=True
        ),
    )
    train_on: str | tuple[str, ...] = field(
        default="assistant",
        metadata=_said(
            Trained(
                {
                    "assistant": "every turn of the model's, or the answer column",
                    "last": "the last one",
                    "all": "the whole text",
                }
            ),
            "What is trained: one of these words, or a list of roles (chat) or columns (record).",
            example="last",
            of_dataset=True,
        ),
    )
    history: Literal["auto", "as_rendered", "last", "expand", "error"] = field(
        default="auto",
        metadata=_said(
            Choice(
                {
                    "auto": "trains those that read the same as when they are generated",
                    "as_rendered": "trains all",
                    "last": "is `auto` for one turn",
                    "expand": "makes one row of each turn",
                    "error": "rejects such rows",
                }
            ),
            "What becomes of turns that are not the last, where the template may write them differently.",
            example="expand",
        ),
    )
    max_length: int | None = field(
        default=None, metadata=_said(Count("tokens"), "The most tokens of a row; None for no limit.", example="4096")
    )
    overlength: Literal["drop", "drop_turns", "truncate_prompt", "truncate", "error"] = field(
        default="drop",
        metadata=_said(
            Choice(
                {
                    "drop": "counts and drops",
                    "drop_turns": "leaves out the oldest questions with their answers, and shortens the prompt where "
                    "that is not enough",
                    "truncate_prompt": "shortens what others say before the answer, the oldest first",
                    "truncate": "cuts the end off, terminator included",
                    "error": "stops",
                }
            ),
            "What becomes of a row over `max_length`.",
            example="truncate_prompt",
        ),
    )
    boundary: Literal["auto", "joint", "split"] = field(
        default="auto",
        metadata=_said(
            Choice(
                {
                    "auto": "behind exactly the ids of its prompt, so that a completion is encoded apart where "
                    "a token would "
                    "cross the seam",
                    "joint": "encodes a row in one piece, as `apply_chat_template` does, whatever crosses",
                    "split": "always encodes apart",
                }
            ),
            "Where the ids of a turn begin. Records are always split, unless `joint`.",
            example="joint",
        ),
    )
    control_tokens: Literal["text", "error", "allow"] | None = field(
        default=None,
        metadata=_said(
            Choice(
                {
                    "text": "encodes them as ordinary text",
                    "error": "rejects the row",
                    "allow": "encodes them as tokens",
                },
                none=True,
            ),
            "What happens to control tokens in a row's text; None is `text`. For rows that are a template's "
            "output already "
            "(`text`, textual `prompt`/`completion`) there is no default: they are rejected until you choose.",
            example="error",
        ),
    )
    append_eos: Literal["auto", "never"] = field(
        default="auto",
        metadata=_said(
            Choice(
                {"auto": "appends EOS behind a last turn that does not end in a stop", "never": "does not"},
                spelled={True: "auto", False: "never"},
            ),
            "Whether EOS is appended; True and False are the same.",
            example="never",
        ),
    )
    stop: tuple[str, ...] = field(
        default=(), metadata=_said(Texts(), "Further stop strings of the model.", example='["</answer>"]')
    )
    prompt_mismatch: Literal["as_served", "error", "as_rendered"] = field(
        default="as_served",
        metadata=_said(
            Choice(
                {
                    "as_served": "makes the row of the prompt and the completion",
                    "error": "rejects it",
                    "as_rendered": "trains what is there",
                }
            ),
            "What happens to a turn that the template asks for otherwise than it writes it.",
            example="error",
        ),
    )
    reasoning: Literal["keep", "strip", "field"] = field(
        default="keep",
        metadata=_said(
            Choice(
                {
                    "keep": "leaves it as the row has it, inline or as a field",
                    "strip": "leaves it out",
                    "field": "makes a field `reasoning_content` of a block with which a content begins",
                }
            ),
            "What becomes of the model's reasoning.",
            example="field",
        ),
    )
    empty_reasoning: Literal["error", "close"] = field(
        default="error",
        metadata=_said(
            Choice({"error": "rejects the row", "close": "lets the model close the block at once"}),
            "What happens to a turn without reasoning whose prompt opens a block of it that the template does "
            "not close.",
            example="close",
        ),
    )
    completion_format: str | None = field(
        default=None,
        metadata=_said(
            Form(),
            "What the model writes where the template cannot tell; less what the prompt supplies; the stop is added.",
            example='"<think>\\n{reasoning}\\n</think>\\n\\n{content}"',
        ),
    )
    loss_weights: Mapping[str, float] = field(
        default_factory=dict,
        metadata=_said(
            Weights(PARTS),
            "What parts of the model's turns count in the loss, and regular expressions in slashes; others count 1. 0 "
            "and 1 are labels; other numbers make a column `loss_weights` (docs/weights.md).",
            example='{reasoning: 0, "/[0-9]+/": 2}',
        ),
    )
    max_rejected: float = field(
        default=0.01,
        metadata=_said(
            Share(),
            "The share of rows that may be rejected before `prepare` fails; over-length rows do not count.",
            example="0.05",
        ),
    )
    template_kwargs: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=_said(Names(values=True), "Template variables.", example="{enable_thinking: false}", of_dataset=True),
    )
    now: datetime | None = field(
        default=None, metadata=_said(Moment(), "The clock that templates see.", example="2025-01-31")
    )
    backend: str = field(
        default="auto",
        metadata=_said(
            Choice(
                {
                    "auto": "takes the fastest that is installed and proves equal to `tokenizers`",
                    REFERENCE: "Hugging Face's",
                    **{name: engine.about for name, engine in ENGINES.items()},
                }
            ),
            "The tokenizer engine.",
            example="tokenizers",
        ),
    )
    format: str | None = field(
        default=None,
        metadata=_said(
            Text(),
            "The input format's name; None recognises it by the columns. Textual `prompt` and `completion` are a user "
            "message and an assistant message with `instruction`, or where a chat template was given; a "
            "template's output that is "
            "ready with `prompt_completion`, or where there is no template; and an error where the template is the "
            "tokenizer's own and nothing was said.",
            example="instruction",
            of_dataset=True,
        ),
    )
    system: str | None = field(
        default=None,
        metadata=_said(
            Text(),
            "A system prompt for conversations that have none, and for records under a template that names one.",
            example="Be brief.",
            of_dataset=True,
        ),
    )
    allow_dropped: tuple[str, ...] = field(
        default=(),
        metadata=_said(
            Texts(),
            "Fields of a trained message, such as `reasoning_content`, roles, such as `system`, and columns, such as "
            "`label`, that may be left out.",
            example="[reasoning_content]",
        ),
    )
    field_map: Mapping[str, str] = field(
        default_factory=dict,
        metadata=_said(
            Names(),
            "Names of the dataset's fields: ours → the dataset's.",
            example="{messages: dialog, role: speaker}",
            of_dataset=True,
        ),
    )
    roles: Mapping[str, str] = field(
        default_factory=dict,
        metadata=_said(
            Names(),
            "More names of roles; the same word twice is a role that the template prints as it is. The usual "
            "names of each "
            "role are known.",
            example="{critic: user}",
            of_dataset=True,
        ),
    )

    def __post_init__(self) -> None:
        for name, said in about().items():
            object.__setattr__(self, name, said.kind.checked(name, getattr(self, name)))
