"""The stages in their order, for one formatter: rows → examples → marked texts → ids → table.

In: plain Python rows. Out: an `EncodedBatch`. A row that cannot be encoded becomes a `Rejection`, never a guess.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa

from instruct_fmt.adapt import (
    Adapter,
    Asked,
    added_roles,
    allowed_names,
    filled_nulls,
    make_adapter,
    table_rows,
    with_column,
    with_dataset_path,
)
from instruct_fmt.adapt.columns.arrow import check_whole
from instruct_fmt.adapt.rows.plain import MAX_CHARACTERS, plain_row
from instruct_fmt.common.reasoning import reasoned
from instruct_fmt.common.threads import in_order, rows_at_a_time
from instruct_fmt.emit import empty_table, table_of
from instruct_fmt.encode.backends import Backend, choose
from instruct_fmt.encode.control import ControlTokens
from instruct_fmt.encode.flat import only
from instruct_fmt.encode.row_encoder import EncodedRow, RowEncoder
from instruct_fmt.errors import DataError, Rejection, RowError, UsageError, shown
from instruct_fmt.fit.length import truncate, truncate_prompt
from instruct_fmt.pipeline.batch import Batch, Block, counted
from instruct_fmt.pipeline.checks import check_options, policy_of
from instruct_fmt.pipeline.grouping import shape_groups
from instruct_fmt.pipeline.trials import Trials
from instruct_fmt.pipeline.unread import check_named, of_columns, of_plans, of_row, of_table
from instruct_fmt.settings import Settings
from instruct_fmt.template.label.chat_template import ChatTemplate
from instruct_fmt.template.label.coverage import unread_words
from instruct_fmt.template.label.headers import role_headers
from instruct_fmt.template.label.marker import Marker
from instruct_fmt.template.label.ready_text import mark_text
from instruct_fmt.template.label.record_template import RecordTemplate
from instruct_fmt.template.plan.planner import Planner, ShapeGroup
from instruct_fmt.template.plan.tokens_of_text import TokensOfText
from instruct_fmt.template.source.load import answer_column
from instruct_fmt.template.trace.budget import allowance, row_budget
from instruct_fmt.tokenizer.loading import generation_stops
from instruct_fmt.tokenizer.vocabulary import Vocabulary
from instruct_fmt.types import (
    Bools,
    Conversation,
    EncodedBatch,
    Example,
    Ints,
    Marked,
    Record,
    TemplateSource,
    Text,
    Unread,
    add_unread,
)

Row = Mapping[str, Any]


class Pipeline:
    """Everything heavy that a formatter needs, made where it runs.

    Args:
        settings: the formatter's settings.
        source: its template.
        vocabulary: what was read off the tokenizer.

    Raises:
        TemplateError: the template does not compile or reads a clock that is not pinned.
    """

    def __init__(self, settings: Settings, source: TemplateSource, vocabulary: Vocabulary) -> None:
        self.settings, self.source, self.vocabulary = settings, source, vocabulary
        self.append_eos = settings.append_eos == "auto" and vocabulary.eos_id is not None
        self.declared = [*([vocabulary.eos] if vocabulary.eos else []), *generation_stops(vocabulary), *settings.stop]
        self.declared = list(dict.fromkeys(self.declared))
        self.variables = {**vocabulary.special, **settings.template_kwargs}
        self.chat: Marker | None = None
        if source.kind == "chat" and source.text:
            template = ChatTemplate.compiled(source.text, self.variables, settings.now, self.declared, vocabulary.added)
            self.chat = Marker(template, policy_of(settings, source, self.append_eos))
        self._records: dict[tuple[str, ...] | None, RecordTemplate] = {}
        self._encoders: dict[type[Example], RowEncoder] = {}
        self._planners: dict[tuple[str, ...], Planner] = {}
        self._adapters: dict[tuple[str, ...], Adapter] = {}
        check_options(settings, source, self.asked)  # what cannot work fails here

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        if self.chat is not None:
            return list(self.chat.template.stops.stops)
        return list(self.record_template(None).stops.stops) if self.source.kind == "record" else self.declared

    def adapter(self, columns: Sequence[str], sample: Row | None) -> Adapter:
        """What reads rows with these columns."""
        key = tuple(columns)
        if key not in self._adapters:
            self._adapters[key] = make_adapter(key, sample, self.source, self.asked)
        return self._adapters[key]

    def read(self, row: Row, columns: Sequence[str], counts: Counter[str] | None = None) -> Example:
        """A row as an example, its reasoning as the option wants it; fields that `field_map` names are counted.

        Raises:
            RowError: the row cannot be used.
            UsageError: the columns fit no format, or the row lacks what was named.
        """
        example = self.adapter(columns, row)(row)
        if self.settings.field_map:
            named = check_named(example, self.settings.field_map)
            if counts is not None:
                counts.update(f"named:{name}" for name in named)
        how = self.settings.reasoning
        return reasoned(example, how) if how != "keep" and isinstance(example, Conversation) else example

    @cached_property
    def asked(self) -> Asked:
        """What the user says about the rows."""
        settings = self.settings
        said = settings.format is not None or settings.control_tokens == "text" or self.source.own
        return Asked(
            columns=settings.columns,
            field_map=settings.field_map,
            format=settings.format,
            system=settings.system,
            allow_dropped=allowed_names(settings.allow_dropped),
            roles=added_roles(settings.roles),
            markers=() if said or self.chat is None else self._markers(self.chat),
        )

    def _markers(self, chat: Marker) -> tuple[str, ...]:
        """What only a template writes: its role headers, and the control tokens of a conversation."""
        added = {token.content for token in self.vocabulary.added if token.visible}
        return tuple(sorted(role_headers(chat.template) | added.intersection(self._structural(Conversation, ()))))

    def record_template(self, columns: Sequence[str] | None) -> RecordTemplate:
        """The record template, with its trained columns found among the dataset's columns."""
        key = None if columns is None else tuple(columns)
        if key not in self._records:
            settings, source = self.settings, self.source
            answers = answer_column(source, settings.columns, columns, settings.train_on)
            self._records[key] = RecordTemplate.compiled(
                source.text,
                [name for name in source.columns if name not in self.variables],
                answers,
                self.variables,
                settings.now,
                self.declared,
                self.vocabulary.added,
            )
        return self._records[key]

    def prompt(self, example: Example, columns: Sequence[str], turn: int) -> Marked:
        """The text that inference must send to get a trained turn, ready to be encoded."""
        if isinstance(example, Conversation):
            return self._marker().prompt(example, turn)
        if isinstance(example, Record):
            return self.record_template(columns).prompt(example)
        return Marked(example.prompt, (), (), from_row=((0, len(example.prompt), False),), bos=True)

    def _marker(self) -> Marker:
        if self.chat is None:  # a record template makes no conversations
            raise UsageError(
                "the tokenizer has no chat template, and none was given; found conversations; expected a template; "
                'fix: pass template="chatml", another library name, Jinja text or a path'
            )
        return self.chat

    def encoder(self, kind: type[Example], columns: Sequence[str]) -> RowEncoder:
        """The encoder for this kind of example."""
        if kind not in self._encoders:
            self._encoders[kind] = RowEncoder(
                self.vocabulary,
                self._structural(kind, columns),
                cast("Literal['text', 'error', 'allow']", self._control(kind)),
                self.backend,
                cast("Literal['auto', 'joint', 'split']", self.settings.boundary),
            )
        return self._encoders[kind]

    def _control(self, kind: type[Example]) -> str:
        return self.settings.control_tokens or ("error" if kind is Text else "text")

    def _structural(self, kind: type[Example], columns: Sequence[str]) -> list[str]:
        special = self.vocabulary.special
        found = {token for token in special.values() if isinstance(token, str)} | set(self.stops)
        if kind is Conversation:
            found |= self._marker().template.structural
        elif kind is Record:
            found |= self.record_template(columns).structural
        return sorted(found)

    def run(self, rows: Iterable[Row], columns: Sequence[str], first_row: int) -> EncodedBatch:
        """Encode rows; bad ones become rejections.

        Raises:
            UsageError: the columns fit no format.
            DataError: with `overlength="error"`, a row that is too long.
        """
        batch, given = Batch(), list(rows)
        batch.counts["rows"] = len(given)
        kept, places = _admitted(batch, given, np.arange(first_row, first_row + len(given)))
        if kept:
            add_unread(batch.unread, of_columns(self.adapter(columns, kept[0]).beside, kept, first_row))
        self._run_rows(batch, kept, columns, places + first_row, np.zeros(len(kept), np.bool_))
        return self._finish(batch, columns)

    def run_one(self, row: Row) -> list[EncodedRow]:
        """Encode a single row; with `history="expand"` it makes several.

        Raises:
            RowError: the row cannot be encoded.
            UsageError: the columns fit no format.
        """
        row = plain_row(row)
        columns = list(row)
        try:
            return self.encode_one(row, columns)
        except RowError as error:
            raise self.trials.with_tried_fix(error, row, columns) from error

    def encode_one(self, row: Row, columns: Sequence[str]) -> list[EncodedRow]:
        """`run_one`, its errors without a look for cures."""
        example = self.read(row, columns)
        encoder = self.encoder(type(example), columns)
        planned = self.planner(columns).one(example)
        found = [planned] if planned is not None else self.mark(example, columns)
        rows = []
        for marked, encoded in zip(found, encoder.encode(found), strict=True):
            if isinstance(encoded, RowError):
                raise self._in_dataset(encoded, example)
            rows.append(self._fit(0, encoder, marked, encoded))
        return rows

    def _finish(self, batch: Batch, columns: Sequence[str]) -> EncodedBatch:
        batch.counts.update(self.planner(columns).take_counts())
        return batch.finish(self._fit)

    def run_table(self, table: pa.Table, first_row: int) -> EncodedBatch:
        """`run` for a table: rows of plain shape stay columns, the others become Python rows."""
        batch, columns = Batch(), table.column_names
        batch.counts["rows"] = table.num_rows
        starts = range(0, table.num_rows, rows_at_a_time(table.num_rows, table.nbytes))
        in_order(lambda start: check_whole(table.slice(start, starts.step)), starts)
        batch.counts.update({f"null:{path}": count for path, count in filled_nulls(table).items()})
        if table.num_rows:
            add_unread(batch.unread, of_table(self.adapter(columns, None).beside, table, first_row))
        left, tried = np.ones(table.num_rows, np.bool_), np.zeros(table.num_rows, np.bool_)
        self._ready(columns)
        blocks = [(table.slice(start, starts.step), first_row + start) for start in starts]
        for start, block in zip(starts, in_order(self._run_columns, blocks), strict=True):
            batch.add_block(block, in_order=True)
            left[start : start + starts.step] = block.left
            tried[start : start + starts.step] = block.tried
        if left.any():
            numbers = np.flatnonzero(left)
            rest = table if len(numbers) == table.num_rows else table.take(pa.array(numbers))
            kept, places = _admitted(batch, table_rows(rest), numbers + first_row)
            self._run_rows(batch, kept, columns, numbers[places] + first_row, tried[numbers[places]])
        return self._finish(batch, columns)

    def _ready(self, columns: Sequence[str]) -> None:
        """Make what threads share, before there are any."""
        self.planner(columns)
        if self.source.text:
            self.encoder(Conversation if self.source.kind == "chat" else Record, columns)

    def _run_columns(self, block: tuple[pa.Table, int]) -> Block:
        """Encode the rows of plain shape that have a plan."""
        table, first_row = block
        # Else where the reasoning begins and ends is asked of each row, or its size.
        plain = self.settings.reasoning == "keep" and table.nbytes <= MAX_CHARACTERS
        shapes = list(shape_groups(table, self.source, self.asked, self.read)) if plain else []
        return self._run_plans(shapes, table.column_names, np.arange(table.num_rows) + first_row)

    def _run_rows(self, batch: Batch, rows: Sequence[Row], columns: Sequence[str], numbers: Ints, tried: Bools) -> None:
        """Encode Python rows, those with a plan together, the others one by one; `tried` ones are others."""
        examples = [self._read(batch, row, columns, number) for row, number in zip(rows, numbers.tolist(), strict=True)]
        chances = [None if was_tried else example for example, was_tried in zip(examples, tried.tolist(), strict=True)]
        block = self._run_plans(self.planner(columns).shapes(chances), columns, numbers)
        batch.add_block(block, in_order=False)
        for place in np.flatnonzero(block.left).tolist():
            example = examples[place]
            if example is not None:
                self._run_row(batch, rows[place], example, columns, int(numbers[place]))

    def _read(self, batch: Batch, row: Row, columns: Sequence[str], number: int) -> Example | None:
        """A row as an example; None for one that is rejected."""
        try:
            example = self.read(row, columns, batch.counts)
        except RowError as error:
            batch.reject(self.trials.with_tried_fix(error, row, columns), number)
            return None
        if isinstance(example, Conversation):
            for path, value in dict(example.unread).items():
                batch.note(path, Unread(1, number, shown(value)))
        return example

    def _run_row(self, batch: Batch, row: Row, example: Example, columns: Sequence[str], number: int) -> None:
        """Mark a row, to be encoded with the others that have no plan."""
        try:
            found = self.mark(example, columns)
        except RowError as error:
            batch.reject(self.trials.with_tried_fix(error, row, columns), number)
            return
        explain = partial(self._explained, row=row, example=example, columns=columns)
        for marked in found:
            batch.add(number, self.encoder(type(example), columns), marked, explain)
        for name, value in self.adapter(columns, row).said_in(row, example):
            batch.note(f"$.{name}", Unread(1, number, shown(value)))
        for path, unread in of_row(example, found, self.source, self.settings.columns, number):
            batch.note(path, unread)

    def _run_plans(self, shapes: Sequence[ShapeGroup], columns: Sequence[str], numbers: Ints) -> Block:
        """Encode the rows that have a plan; `numbers` are the numbers of all rows in the dataset."""
        left, tried = np.ones(len(numbers), np.bool_), np.zeros(len(numbers), np.bool_)
        kind = Conversation if self.source.kind == "chat" else Record
        encoder = self.encoder(kind, columns) if shapes else None
        groups = self.planner(columns).group(shapes) if encoder is not None and encoder.planned.able else []
        if encoder is None or not groups:
            return Block(numbers[:0], empty_table(), Counter(), left, tried)
        for group in groups:
            tried[group.places] = True
        rows = encoder.planned.encode(groups)
        sizes, rejected = np.diff(rows.offsets), list[Rejection]()
        if self.settings.max_length is not None and (sizes > self.settings.max_length).any():
            long = sizes > self.settings.max_length
            if self.settings.overlength == "drop":
                left[rows.places[long]] = False
                found = zip(numbers[rows.places[long]].tolist(), sizes[long].tolist(), strict=True)
                rejected = [Rejection.from_error(self._too_long(size), number) for number, size in found]
            rows = only(rows, ~long)
        left[rows.places] = False
        trained, emitted = int(np.count_nonzero(rows.trained)), len(rows.places)
        counts = Counter(counted("plan", encoder.backend, emitted, len(rows.ids), trained))
        for group, times in zip(groups, np.bincount(rows.groups, minlength=len(groups)).tolist(), strict=True):
            counts.update({name: count * times for name, count in group.counts.items()})
        left_out, apart = int(rows.left_out.sum()), int(np.count_nonzero(rows.apart))
        counts.update({"trained_turns": -left_out, "turns_skipped:seam": left_out, "encoded_apart": apart})
        table = table_of(rows.ids, rows.trained, rows.offsets)
        unread = list(of_plans(groups, shapes, self.settings.columns, numbers))
        return Block(numbers[rows.places], table, counts, left, tried, rejected, unread)

    def _explained(self, error: RowError, row: Row, example: Example, columns: Sequence[str]) -> RowError:
        """An error about a row that waited to be encoded."""
        return self.trials.with_tried_fix(self._in_dataset(error, example), row, columns)

    def _in_dataset(self, error: RowError, example: Example) -> RowError:
        """The error with the path of the dataset's own field."""
        if isinstance(example, Conversation):
            return with_dataset_path(error, example)
        return with_column(error, self.settings.columns) if isinstance(example, Record) else error

    @cached_property
    def trials(self) -> Trials:
        """Finds the options that cure a row."""
        return Trials(self)

    def changed(self, settings: Settings) -> Pipeline:
        """The same with other settings; what does not depend on them is shared."""
        other = copy(self)
        other.settings = settings
        other._records, other._planners, other._adapters, other._encoders = {}, {}, {}, {}
        for name in ("asked", "trials"):
            other.__dict__.pop(name, None)
        if self.chat is not None:
            other.chat = Marker(self.chat.template, policy_of(settings, self.source, self.append_eos))
        return other

    def planner(self, columns: Sequence[str]) -> Planner:
        """The plans made so far for rows with these columns."""
        key = tuple(columns)
        if key not in self._planners:
            control = ControlTokens(self.vocabulary, ())
            self._planners[key] = Planner(
                lambda example: self.mark(example, columns),
                lambda example: self._plain(example, columns),
                self.chat,
                self.record_template(columns) if self.source.kind == "record" else None,
                TokensOfText(
                    *self.vocabulary.written_ends,
                    control.found,
                    self.vocabulary.ids_of,
                    lambda id: self.vocabulary.backend.id_to_token(id) or "",
                    self.settings.boundary,
                ),
                append_eos=self.append_eos,
            )
        return self._planners[key]

    def _plain(self, example: Example, columns: Sequence[str]) -> str:
        """The example as plain Jinja renders it; only for those that have a plan."""
        if isinstance(example, Conversation):
            return self._marker().template.plain(example)
        assert isinstance(example, Record)
        return self.record_template(columns).plain(example)

    @cached_property
    def backend(self) -> Backend:
        """The tokenizer engine."""
        return choose(self.settings.backend, self.vocabulary)

    def mark(self, example: Example, columns: Sequence[str]) -> list[Marked]:
        """Render an example and mark what is trained of it."""
        if isinstance(example, Text):
            stops = self.stops if self._control(Text) == "allow" else ()  # else a stop in the text is text
            return [mark_text(example, stops, append_eos=self.append_eos)]
        with allowance(row_budget(example)):
            return self._mark(example, columns)

    def _mark(self, example: Conversation | Record, columns: Sequence[str]) -> list[Marked]:
        if isinstance(example, Record):
            try:
                return [self.record_template(columns).mark(example, append_eos=self.append_eos)]
            except RowError as error:
                raise self._in_dataset(error, example) from error
        try:
            return self._marker().mark(example)
        except RowError as error:
            # Words in a field that nothing reads are the likelier fault, where a message has no others.
            silent = unread_words(example.messages, self.source.mentioned, self.asked.allow_dropped)
            raise self._in_dataset(silent or error, example) from error

    def _fit(self, number: int, encoder: RowEncoder, marked: Marked, row: EncodedRow) -> EncodedRow:
        """The row within `max_length`, and with something to learn."""
        limit, policy = self.settings.max_length, self.settings.overlength
        if limit is not None and len(row.ids) > limit:
            error = self._too_long(len(row.ids), number)
            if policy == "error":
                raise DataError(str(error))
            shorter = _shorten(row, encoder, marked, limit, policy)
            if shorter is None or not shorter.trained.any():
                raise error
            row = shorter
        if not row.trained.any():
            raise RowError("nothing-to-learn", "$", "no trained token", "at least one", "leave the row out")
        return row

    def _too_long(self, tokens: int, number: int | None = None) -> RowError:
        limit = self.settings.max_length
        return RowError("over-length", "$", f"{tokens} tokens", f"at most {limit}", f"max_length={tokens}", number)


def _admitted(batch: Batch, rows: Sequence[Row], numbers: Ints) -> tuple[list[Row], Ints]:
    """The rows that are plain data of a reasonable size, and their places; the others are rejected."""
    kept: list[Row] = []
    places: list[int] = []
    for place, row in enumerate(rows):
        try:
            kept.append(plain_row(row))
            places.append(place)
        except RowError as error:
            batch.reject(error, int(numbers[place]))
    return kept, np.asarray(places, np.int64)


def _shorten(row: EncodedRow, encoder: RowEncoder, marked: Marked, limit: int, policy: str) -> EncodedRow | None:
    if policy == "drop":
        return None
    spans = encoder.token_spans(marked)
    if policy == "truncate":
        keep = truncate(spans.starts, limit)
    else:
        found = truncate_prompt(spans.starts, spans.ends, row.trained, marked.removable, limit)
        if found is None:
            return None
        keep = found
    return replace(row, ids=row.ids[keep], trained=row.trained[keep])
