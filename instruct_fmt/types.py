"""The values that flow from stage to stage. Plain, frozen, and blind to the stages themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from instruct_fmt.errors import Rejection

if TYPE_CHECKING:  # these two take longer to load than all of this package
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

Message = dict[str, Any]
Ints: TypeAlias = "npt.NDArray[np.int64]"
Bools: TypeAlias = "npt.NDArray[np.bool_]"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A row in canonical form, ready for a chat template.

    Attributes:
        messages: dicts with `role` and, where present, `content`, `reasoning_content`, `tool_calls`, `name`, …
        tools: JSON schemas of tools; None where there are none (never an empty list).
        documents: documents for retrieval templates; None where there are none.
        template_kwargs: template variables of this row.
        train: for each message True, False, a number that it counts in the loss, or None where the row says nothing.
        paths: for each message the JSON path of what it comes from, such as ``$.conversations[2]``.
        names: for each message our names of its fields → the dataset's, where they differ; ``""`` where the path leads
            to the field itself.
        columns: our names of what stands beside the messages → the dataset's, where they differ.
        unread: what a canonical form has no place for: the path, without numbers, and the value.
    """

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] | None = None
    documents: Sequence[Mapping[str, Any]] | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    train: tuple[bool | float | None, ...] = ()
    paths: tuple[str, ...] = ()
    names: tuple[Mapping[str, str], ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A row for a record template: the template's names and their values; a null is left out."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """A row that is a template's output already: everything in `completion` is trained, nothing in `prompt`.

    Attributes:
        path: where the completion comes from.
    """

    prompt: str
    completion: str
    path: str = "$"


Example = Conversation | Record | Text
TemplateKind = Literal["chat", "record"]


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """A template before it is compiled.

    Attributes:
        text: Jinja text.
        kind: a *chat* template loops over `messages`, a *record* template names columns.
        name: for messages and reports, such as ``alpaca``, ``<string>`` or a path.
        origin: where the text comes from.
        columns: the columns that a record template names, in the order of their first use.
        optional: those columns of it that may be null or missing, because the template tests them.
        own: whether it is the tokenizer's own, which nobody chose for the data at hand.
        variables: the names that a chat template reads beside those of every conversation.
        roles: the roles for which a chat template has a branch.
        mentioned: every name and word in the template's code.
    """

    text: str
    kind: TemplateKind
    name: str
    origin: str = ""
    columns: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    own: bool = False
    variables: frozenset[str] = field(default=frozenset(), compare=False)
    roles: frozenset[str] = field(default=frozenset(), compare=False)
    mentioned: frozenset[str] = field(default=frozenset(), compare=False)


@dataclass(frozen=True, slots=True)
class Span:
    """Who wrote a stretch of rendered text.

    Attributes:
        start, end: half-open range, in characters.
        owner: index of the message (chat) or name of the column (record); None for text outside of any.
        kind: ``literal`` (the template's text) or the field's path inside its message, such as ``content``.
        trained: whether the loss covers it.
    """

    start: int
    end: int
    owner: int | str | None
    kind: str
    trained: bool


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered row: its text, the trained ranges in characters, and who wrote what."""

    text: str
    trained: tuple[tuple[int, int], ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What inference must send to get a trained turn: its text and `input_ids`."""

    text: str
    input_ids: list[int]


@dataclass(frozen=True, slots=True)
class Stop:
    """What ends a generated turn: `strings` and, where they are one token each, their `ids`."""

    strings: tuple[str, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unread:
    """A column, or a field of messages, that nothing read.

    Attributes:
        rows: in how many rows it says something.
        row: the first of them.
        example: what it says there, shortened.
    """

    rows: int
    row: int
    example: str

    def __add__(self, other: Unread) -> Unread:
        first = min(self, other, key=lambda found: found.row)
        return Unread(self.rows + other.rows, first.row, first.example)


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """What `Formatter.encode_batch` returns.

    Attributes:
        table: `input_ids` and `labels`, int32 lists, one row for each emitted row.
        rows: for each emitted row, the index of the dataset's row that it comes from; int64.
        rejected: the rows left out.
        counts: numbers for the report, added up over batches.
        unread: what nothing read of the rows: path → how often, and the first.
    """

    table: pa.Table
    rows: Ints
    rejected: list[Rejection]
    counts: Counter[str]
    unread: Mapping[str, Unread] = field(default_factory=dict)


def add_unread(found: dict[str, Unread], more: Iterable[tuple[str, Unread]]) -> None:
    """Add what nothing read of more rows."""
    for path, other in more:
        found[path] = found[path] + other if path in found else other


Range = tuple[int, int]
Weighted = tuple[int, int, float]
"""A range, and what it counts in the loss."""
Printed = frozenset[tuple[int, tuple[str | int, ...]]]
"""Fields of a row that are in its text: the message's index or the column's place, and the path inside it."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A rendered row with everything that encoding must know. Ranges are half-open, in characters, in order.

    Attributes:
        text: the rendered text.
        trained: what the loss covers.
        spans: who wrote what, for people to look at.
        from_row: text that came from the row, and whether control tokens that are no structure are allowed in it.
        removable: text of the prompt that `overlength="truncate_prompt"` may cut into, the oldest first.
        cuts: where the text of a record is encoded apart.
        seams: turns of a conversation that must stand behind the ids of their prompts, the row's last turn at the end.
        bos: whether the tokenizer's own BOS goes in front where the text has none.
        eos: whether EOS is appended behind the end.
        counts: numbers for the report.
        printed: the fields of the row that are in the text.
        weights: what of the trained text does not count once.
        eos_weight: what an appended EOS counts.
    """

    text: str
    trained: tuple[Range, ...]
    spans: tuple[Span, ...]
    from_row: tuple[tuple[int, int, bool], ...] = ()
    removable: tuple[Range, ...] = ()
    cuts: tuple[int, ...] = ()
    seams: tuple[Range, ...] = ()
    bos: bool = False
    eos: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    printed: Printed = frozenset()
    weights: tuple[Weighted, ...] = ()
    eos_weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Added:
    """An added token of a tokenizer; `whole_word` where it counts only between word boundaries."""

    id: int
    content: str
    special: bool
    whole_word: bool = False

    @property
    def visible(self) -> bool:
        """Whether it is more than blanks, which are ordinary text."""
        return bool(self.content.replace("▁", " ").strip())


_OF_ROWS = ("trained", "cuts", "seams", "removable", "spoken", "control", "weighted")


@dataclass(frozen=True, slots=True)
class PlannedRows:
    """Rows of one plan, rendered as columns. Positions are bytes from the start of the row's text.

    Attributes:
        places: the rows' places in their batch, ascending; shape (rows,).
        texts: the rendered texts, with the tokens that belong in front and behind; large_string, no slice of another.
        trained: the trained ranges; shape (rows, ranges, 2).
        cuts: where the text is encoded apart; shape (rows, cuts).
        seams: turns that must stand behind the ids of their prompts, the row's last one at the end; shape
            (rows, turns, 2).
        seam_of: for each trained range the turn that it belongs to, -1 for none, -2 for an appended EOS; shape
            (ranges,).
        tails: for each end of each turn the ids of the literal text in front of it, since the last control token; None
            where a field of the row is among it; 2 * turns of them.
        removable: text of the prompt that `overlength="truncate_prompt"` may cut into; shape (rows, ranges, 2).
        spoken: what the model's messages wrote; shape (rows, ranges, 2).
        control: where each control token of the template ends; shape (rows, tokens).
        control_ids: their ids; shape (tokens,).
        ends: ids in front of those of each text, and trained ones behind them, that no text can be written for.
        counts: numbers for the report, for each row.
        unread: fields that the plan does not print: for each, which of the rows say something there.
        weighted: what of the trained text does not count once; shape (rows, ranges, 2).
        weights: what it counts; shape (ranges,).
        eos_weight: what an EOS counts that no text can be written for.
    """

    places: Ints
    texts: pa.Array
    trained: Ints
    cuts: Ints
    seams: Ints
    seam_of: Ints
    tails: Sequence[tuple[int, ...] | None]
    removable: Ints
    spoken: Ints
    control: Ints
    control_ids: Ints
    ends: tuple[tuple[int, ...], tuple[int, ...]]
    counts: Mapping[str, int]
    unread: Mapping[tuple[int, tuple[str | int, ...]], Bools] = field(default_factory=dict)
    weighted: Ints = field(default_factory=lambda: np.zeros((0, 0, 2), np.int64))
    weights: tuple[float, ...] = ()
    eos_weight: float = 1.0

    def only(self, rows: Bools) -> PlannedRows:
        """Some of the rows."""
        if rows.all():
            return self
        return replace(
            self,
            places=self.places[rows],
            texts=self.texts.filter(rows),
            unread={path: said[rows] for path, said in self.unread.items()},
            **{name: getattr(self, name)[rows] for name in _OF_ROWS},
        )
