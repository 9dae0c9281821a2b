"""The stages for rows with certain columns: what reads them, renders and labels them, and makes their plans.

In: a formatter's stages and the names of columns. Out: examples of rows, marked texts of examples, their encoder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from instruct_fmt.adapt.adapter import Adapter, make_adapter
from instruct_fmt.adapt.canonical import with_column, with_dataset_path
from instruct_fmt.common.reasoning import reasoned
from instruct_fmt.encode.control import ControlTokens
from instruct_fmt.encode.row_encoder import RowEncoder, painted
from instruct_fmt.errors import RowError, UsageError
from instruct_fmt.pipeline.unread import check_named
from instruct_fmt.template.label.coverage import unread_words
from instruct_fmt.template.label.marked import counted_ranges, cut_spans
from instruct_fmt.template.label.marker import until
from instruct_fmt.template.label.ready_text import mark_text
from instruct_fmt.template.label.record_template import RecordTemplate
from instruct_fmt.template.plan.planner import Planner
from instruct_fmt.template.plan.symbolic_record import SymbolicRecord
from instruct_fmt.template.plan.symbolic_text import SymbolicText
from instruct_fmt.template.plan.tokens_of_text import TokensOfText
from instruct_fmt.template.trace.budget import allowance, row_budget
from instruct_fmt.types import Conversation, Example, Marked, Record, Text

if TYPE_CHECKING:
    from instruct_fmt.pipeline.stages import Stages

Row = Mapping[str, Any]


class DatasetStages:
    """The stages for rows with these columns. Threads may share them.

    Args:
        stages: the formatter's.
        columns: the names of the columns.
        sample: a row, for the name of their format only.

    Attributes:
        adapter: reads the rows.
        tokens: what plans must know about the tokenizer.
        planner: the plans made so far.

    Raises:
        UsageError: the columns fit no format.
    """

    def __init__(self, stages: Stages, columns: tuple[str, ...], sample: Row | None) -> None:
        self.stages, self.columns = stages, columns
        self.settings, self.source = stages.settings, stages.source
        self.adapter: Adapter = make_adapter(columns, sample, self.source, stages.asked)
        self.tokens = TokensOfText(
            *stages.vocabulary.written_ends,
            stages.vocabulary.prefix,
            [] if stages.vocabulary.eos_id is None else [stages.vocabulary.eos_id],
            self._written,
            ControlTokens(stages.vocabulary, ()).found,
            stages.vocabulary.ids_of,
            lambda id: stages.vocabulary.backend.id_to_token(id) or "",
            stages.settings.boundary,
            self._composes,
        )
        self.planner = self.new_planner()
        if self.source.text:
            self.encoder(self.kind)

    @property
    def _composes(self) -> bool:
        """Whether columns may be brought into NFC as the tokenizer does it; not where characters of the row count."""
        settings = self.settings
        cuts = settings.max_length is not None and settings.overlength not in ("drop", "error")
        composes = type(self.stages.vocabulary.backend.normalizer).__name__ == "NFC"
        return composes and not cuts and not self.stages.loss.patterns

    def _written(self, marked: Marked) -> Sequence[object]:
        """The control tokens that a row wrote and must not."""
        if self.settings.control_tokens == "allow":
            return ()
        return self.encoder(self.kind).control.written_by_row(marked)

    @property
    def _text_stops(self) -> Sequence[str]:
        """The stops that ready text may end with: where control tokens are text, so is a stop in it."""
        return self.stages.stops if self.stages.control(Text) == "allow" else ()

    @property
    def kind(self) -> type[Conversation | Record]:
        """The examples that the template takes."""
        return Conversation if self.source.kind == "chat" else Record

    def read(self, row: Row, counts: Counter[str] | None = None) -> Example:
        """A row as an example, its reasoning as the option wants it; fields that `field_map` names are counted.

        Raises:
            RowError: the row cannot be used.
            UsageError: the row lacks what was named.
        """
        example = self.adapter(row)
        if isinstance(example, Text) and self.stages.loss.parts:
            part = self.stages.loss.parts[0][0]
            raise UsageError(
                "loss_weights",
                f"{part!r}, a part of a turn, with text that is a template's output already",
                "conversations",
                'format="instruction", which makes messages of prompt and completion',
            )
        if self.settings.field_map:
            named = check_named(example, self.settings.field_map)
            if counts is not None:
                counts.update(f"named:{name}" for name in named)
        how = self.settings.reasoning
        return reasoned(example, how) if how != "keep" and isinstance(example, Conversation) else example

    @cached_property
    def record_template(self) -> RecordTemplate:
        """The record template."""
        return self.stages.record_template(self.columns)

    def encoder(self, kind: type[Example]) -> RowEncoder:
        """The encoder for this kind of example."""
        return self.stages.encoder(kind)

    def mark(self, example: Example) -> list[Marked]:
        """Render an example and mark what is trained of it.

        Raises:
            RowError: it cannot be rendered, or its mask cannot be proven; the path is the dataset's.
        """
        if isinstance(example, Text):
            return [mark_text(example, self._text_stops, append_eos=self.stages.append_eos)]
        with allowance(row_budget(example)):
            return self._mark(example)

    def _mark(self, example: Conversation | Record) -> list[Marked]:
        if isinstance(example, Record):
            try:
                return [self.record_template.mark(example, append_eos=self.stages.append_eos)]
            except RowError as error:
                raise self.in_dataset(error, example) from error
        try:
            return self.stages.marker.mark(example, self.planner.some)
        except RowError as error:
            # Words in a field that nothing reads are the likelier fault, where a message has no others.
            silent = unread_words(example.messages, self.source.mentioned, self.stages.asked.allow_dropped)
            raise self.in_dataset(silent or error, example) from error

    def counted(self, marked: Marked) -> Marked:
        """A marked text for people to look at: trained is what counts in the loss."""
        if not self.stages.loss:
            return marked
        ranges = counted_ranges(marked.trained, painted(marked, marked.trained, self.stages.loss))
        return replace(marked, trained=ranges, spans=cut_spans(marked.spans, ranges))

    def in_dataset(self, error: RowError, example: Example) -> RowError:
        """The error with the path of the dataset's own field."""
        if isinstance(example, Conversation):
            return with_dataset_path(error, example)
        return with_column(error, self.settings.columns) if isinstance(example, Record) else error

    def prompt(self, example: Example, turn: int) -> Marked:
        """The text that inference must send to get a trained turn, ready to be encoded."""
        if isinstance(example, Conversation):
            return self.stages.marker.prompt(example, turn)
        if isinstance(example, Record):
            return self.record_template.prompt(example)
        return Marked(example.prompt, (), (), from_row=((0, len(example.prompt), False),), bos=True)

    def new_planner(self) -> Planner:
        """A planner without plans."""
        is_record = self.source.kind == "record"
        return Planner(
            self.mark_one,
            self.plain,
            self.stages.chat,
            SymbolicRecord(self.record_template, self.stages.append_eos, self.tokens) if is_record else None,
            SymbolicText(self._text_stops, self.stages.append_eos, replace(self.tokens, written=lambda _: ())),
            self.tokens,
            self.source.mentioned | self.source.variables,
            planning=self.stages.planning,
        )

    def rows_of(self, conversation: Conversation) -> list[Conversation]:
        """The conversation, or with `history="expand"` one for each of its turns, up to it."""
        marker = self.stages.marker
        return (
            [until(conversation, end) for end in marker.ends(conversation)] if marker.policy.expands else [conversation]
        )

    def mark_one(self, example: Example) -> Marked:
        """An example's only text; with `history="expand"`, that of its last turn.

        Raises:
            RowError: as `mark`, without a look for cures.
        """
        if not isinstance(example, Conversation):
            return self.mark(example)[0]
        marker = self.stages.marker
        with allowance(row_budget(example)):
            return marker.mark_last(example) if marker.policy.expands else marker.mark_plainly(example)[0]

    def plain(self, example: Example) -> str:
        """The example as plain Jinja renders it; only for those that have a plan.

        Raises:
            RowError: the template refuses it or exceeds its budget.
        """
        if isinstance(example, Text):
            return example.prompt + example.completion
        with allowance(row_budget(example)):
            if isinstance(example, Conversation):
                return self.stages.marker.template.plain(example)
            return self.record_template.plain(example)
