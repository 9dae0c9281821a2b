"""The stages in their order, for one formatter: rows → examples → marked texts → ids → table.

In: plain Python rows. Out: an `EncodedBatch`. A row that cannot be encoded becomes a `Rejection`, never a guess.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa

from instruct_fmt.adapt import (
    Adapter,
    Asked,
    Roles,
    ShapedRows,
    added_roles,
    allowed_names,
    check_system,
    column_of,
    filled_nulls,
    find_shapes,
    make_adapter,
    table_rows,
    trained_roles,
    value_at,
    with_column,
    with_dataset_path,
)
from instruct_fmt.batch import Batch, Block, counted
from instruct_fmt.emit import empty_table, table_of
from instruct_fmt.encode.backends import Backend, choose
from instruct_fmt.encode.control import ControlTokens
from instruct_fmt.encode.encoder import EncodedRow, Encoder
from instruct_fmt.encode.flat import only
from instruct_fmt.encode.vocabulary import Vocabulary
from instruct_fmt.errors import Change, DataError, InstructFmtError, Rejection, RowError, UsageError, shown
from instruct_fmt.fit.length import truncate, truncate_prompt
from instruct_fmt.names import hint
from instruct_fmt.reasoning import reasoned
from instruct_fmt.settings import Settings, changed_settings
from instruct_fmt.template.chat import ChatTemplate
from instruct_fmt.template.coverage import unread_words
from instruct_fmt.template.headers import role_headers
from instruct_fmt.template.origins import TOOLS, Field
from instruct_fmt.template.plan import TokensOfText
from instruct_fmt.template.planner import Planner, ShapeGroup
from instruct_fmt.template.policy import Policy
from instruct_fmt.template.records import RecordTemplate
from instruct_fmt.template.shapes import PLANNED_ROLES, calls_shape, example_shape, leaf_text, leaves
from instruct_fmt.template.sources import answer_column
from instruct_fmt.template.text import mark_text
from instruct_fmt.template.turns import Marker
from instruct_fmt.template.variables import RESERVED, SPECIAL_TOKENS
from instruct_fmt.threads import in_order, rows_at_a_time
from instruct_fmt.tokenizer import generation_stops
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
)
from instruct_fmt.unread import check_named, of_plans, of_row

Row = Mapping[str, Any]
_MAX_CHANGES = 32


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
            template = ChatTemplate(source.text, self.variables, settings.now, self.declared, vocabulary.added)
            self.chat = Marker(template, _policy(settings, source, self.append_eos))
            _check_variables(settings.template_kwargs, source)
        elif source.kind == "record":
            _refuse_options_of_chats(settings)
        self._records: dict[tuple[str, ...] | None, RecordTemplate] = {}
        self._encoders: dict[type[Example], Encoder] = {}
        self._planners: dict[tuple[str, ...], Planner] = {}
        self._adapters: dict[tuple[str, ...], Adapter] = {}
        self._changes: dict[str, Pipeline] = {}
        asked = self.asked  # what cannot work fails here
        if source.kind == "record":
            check_system(source, asked)

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
            self._records[key] = RecordTemplate(
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
        if self.chat is None and not self.source.text:
            raise UsageError(
                "the tokenizer has no chat template, and none was given; found conversations; expected a template; "
                'fix: pass template="chatml", another library name, Jinja text or a path'
            )
        if self.chat is None:
            raise UsageError(
                f"the template {self.source.name!r} is a record template; found conversations; expected the columns "
                f"{list(self.source.columns)}; fix: use a chat template, or template=None for the tokenizer's own"
            )
        return self.chat

    def encoder(self, kind: type[Example], columns: Sequence[str]) -> Encoder:
        """The encoder for this kind of example."""
        if kind not in self._encoders:
            self._encoders[kind] = Encoder(
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
        batch, rows = Batch(), list(rows)
        batch.counts["rows"] = len(rows)
        self._note_columns(batch, rows, columns, first_row)
        numbers = np.arange(first_row, first_row + len(rows))
        self._run_rows(batch, rows, columns, numbers, np.zeros(len(rows), np.bool_))
        return self._finish(batch, columns)

    def _note_columns(self, batch: Batch, rows: Sequence[Row], columns: Sequence[str], first_row: int) -> None:
        """List the columns that nothing reads."""
        if not rows:
            return
        beside = self.adapter(columns, rows[0]).beside
        for number, row in enumerate(rows, first_row):
            for name, value in beside.said_in(row):
                batch.note(f"$.{name}", Unread(1, number, shown(value)))

    def run_one(self, row: Row) -> list[EncodedRow]:
        """Encode a single row; with `history="expand"` it makes several.

        Raises:
            RowError: the row cannot be encoded.
            UsageError: the columns fit no format.
        """
        columns = list(row)
        try:
            return self._encode_one(row, columns)
        except RowError as error:
            raise self._with_tried_fix(error, row, columns) from error

    def _encode_one(self, row: Row, columns: Sequence[str]) -> list[EncodedRow]:
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
        batch.counts.update({f"null:{path}": count for path, count in filled_nulls(table).items()})
        if table.num_rows:
            for name, said in self.adapter(columns, None).beside.said(table):
                first = int(np.argmax(said))
                value = shown(value_at(table, name, first))
                batch.note(f"$.{name}", Unread(int(np.count_nonzero(said)), first_row + first, value))
        left, tried = np.ones(table.num_rows, np.bool_), np.zeros(table.num_rows, np.bool_)
        starts = range(0, table.num_rows, rows_at_a_time(table.num_rows, table.nbytes))
        self._ready(columns)
        pieces = [(table.slice(start, starts.step), first_row + start) for start in starts]
        for start, block in zip(starts, in_order(self._run_columns, pieces), strict=True):
            batch.add_block(block, in_order=True)
            left[start : start + starts.step] = block.left
            tried[start : start + starts.step] = block.tried
        if left.any():
            numbers = np.flatnonzero(left)
            rest = table if len(numbers) == table.num_rows else table.take(pa.array(numbers))
            self._run_rows(batch, table_rows(rest), columns, numbers + first_row, tried[numbers])
        return self._finish(batch, columns)

    def _ready(self, columns: Sequence[str]) -> None:
        """Make what threads share, before there are any."""
        self.planner(columns)
        if self.source.text:
            self.encoder(Conversation if self.source.kind == "chat" else Record, columns)

    def _run_columns(self, piece: tuple[pa.Table, int]) -> Block:
        """Encode the rows of plain shape that have a plan."""
        table, first_row = piece
        return self._run_plans(self._shapes(table), table.column_names, np.arange(table.num_rows) + first_row)

    def _shapes(self, table: pa.Table) -> list[ShapeGroup]:
        """The rows of plain shape, as columns."""
        if self.settings.reasoning != "keep":
            return []  # where a reasoning begins and ends is asked of each row
        found = find_shapes(table, self.source, self.asked, roles=PLANNED_ROLES, calls_shape=calls_shape)
        groups = (self._group(rows, partial(self._example, table, rows.places)) for rows in found)
        return [group for group in groups if group is not None]

    def _group(self, rows: ShapedRows, example: Callable[[int], Example]) -> ShapeGroup | None:
        """Rows of one shape with a column for each field of theirs; None where the shape cannot be planned."""
        first = example(0)
        shape = example_shape(first)
        columns: dict[Field, pa.Array] = {}
        for field, _ in leaves(first) if shape is not None and not isinstance(first, Text) else ():
            objects = rows.tools if field.place == TOOLS else rows.calls.get(field.place)
            path = field.path if field.place == TOOLS else field.path[1:]
            if objects is not None and (field.place == TOOLS or field.path[0] == "tool_calls"):
                columns[field] = column_of(objects, path, leaf_text)
            elif len(field.path) == 1 and (field.place, field.path[0]) in rows.texts:
                columns[field] = rows.texts[field.place, str(field.path[0])]
            else:
                return None
        return ShapeGroup(shape, rows.places, columns, example) if columns else None

    def _example(self, table: pa.Table, places: Ints, place: int) -> Example:
        row = table_rows(table.slice(int(places[place]), 1))[0]
        return self.read(row, table.column_names)

    def _run_rows(self, batch: Batch, rows: Sequence[Row], columns: Sequence[str], numbers: Ints, tried: Bools) -> None:
        """Encode Python rows, those with a plan together, the others one by one; `tried` ones are others."""
        examples: list[Example | None] = []
        for row, number in zip(rows, numbers.tolist(), strict=True):
            try:
                found = self.read(row, columns, batch.counts)
                examples.append(found)
                if isinstance(found, Conversation):
                    for path, value in dict(found.unread).items():
                        batch.note(path, Unread(1, number, shown(value)))
            except RowError as error:
                batch.reject(self._with_tried_fix(error, row, columns), number)
                examples.append(None)
        chances = [None if was_tried else example for example, was_tried in zip(examples, tried.tolist(), strict=True)]
        block = self._run_plans(self.planner(columns).shapes(chances), columns, numbers)
        batch.add_block(block, in_order=False)
        for place in np.flatnonzero(block.left).tolist():
            example = examples[place]
            if example is None:
                continue
            number = int(numbers[place])
            try:
                found = self.mark(example, columns)
            except RowError as error:
                batch.reject(self._with_tried_fix(error, rows[place], columns), number)
                continue
            explain = partial(self._explained, row=rows[place], example=example, columns=columns)
            for marked in found:
                batch.add(number, self.encoder(type(example), columns), marked, explain)
            for name, value in self.adapter(columns, rows[place]).said_in(rows[place], example):
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
        return self._with_tried_fix(self._in_dataset(error, example), row, columns)

    def _in_dataset(self, error: RowError, example: Example) -> RowError:
        """The error with the path of the dataset's own field."""
        if isinstance(example, Conversation):
            return with_dataset_path(error, example)
        return with_column(error, self.settings.columns) if isinstance(example, Record) else error

    def _with_tried_fix(self, error: RowError, row: Row, columns: Sequence[str]) -> RowError:
        """The error with those of its changes that cure the row; it says so where none does."""
        if not error.changes:
            return error
        worked = [change for change in error.changes if self._works(change, row, columns)]
        fix = "; or ".join([error.fix, *(f"{change.code} {change.about}" for change in worked)])
        if not worked:
            fix = f"{fix}; no option that was tried on the row helps"
        return RowError(error.reason, error.path, error.found, error.expected, fix, error.row)

    def _works(self, change: Change, row: Row, columns: Sequence[str]) -> bool:
        """Whether a row comes out with a change of the call."""
        try:
            found = self._changed(change)._encode_one(row, columns)
        except InstructFmtError:
            return False
        return all(encoded.trained.any() for encoded in found)

    def reads(self, change: Change, row: Row, path: str) -> bool:
        """Whether with a change of the call a row comes out, and what stands at `path` is read."""
        # Reasoning is often printed in the last turn alone.
        wide = change._replace(settings={**change.settings, "history": "expand"})
        try:
            batch = self._changed(wide).run([row], list(row), 0)
        except InstructFmtError:
            return False
        return bool(batch.table.num_rows) and not batch.rejected and path not in batch.unread

    def _changed(self, change: Change) -> Pipeline:
        """The same with other settings; what does not depend on them is shared."""
        key = repr(change.settings)
        if key not in self._changes:
            if len(self._changes) >= _MAX_CHANGES:
                self._changes.clear()
            other = copy(self)
            other.settings = changed_settings(self.settings, change.settings)
            other._records, other._planners, other._adapters, other._changes, other._encoders = {}, {}, {}, {}, {}
            other.__dict__.pop("asked", None)
            if self.chat is not None:
                other.chat = Marker(self.chat.template, _policy(other.settings, self.source, self.append_eos))
            self._changes[key] = other
        return self._changes[key]

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
        if isinstance(example, Record):
            try:
                return [self.record_template(columns).mark(example, append_eos=self.append_eos)]
            except RowError as error:
                raise self._in_dataset(error, example) from error
        if isinstance(example, Text):
            stops = self.stops if self._control(Text) == "allow" else ()  # else a stop in the text is text
            return [mark_text(example, stops, append_eos=self.append_eos)]
        try:
            return self._marker().mark(example)
        except RowError as error:
            # Words in a field that nothing reads are the likelier fault, where a message has no others.
            silent = unread_words(example.messages, self.source.mentioned, self.asked.allow_dropped)
            raise self._in_dataset(silent or error, example) from error

    def _fit(self, number: int, encoder: Encoder, marked: Marked, row: EncodedRow) -> EncodedRow:
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


def _shorten(row: EncodedRow, encoder: Encoder, marked: Marked, limit: int, policy: str) -> EncodedRow | None:
    if policy == "drop":
        return None
    pieces = encoder.pieces(marked)
    if policy == "truncate":
        keep = truncate(pieces.starts, limit)
    else:
        found = truncate_prompt(pieces.starts, pieces.ends, row.trained, marked.removable, limit)
        if found is None:
            return None
        keep = found
    return replace(row, ids=row.ids[keep], trained=row.trained[keep])


def _refuse_options_of_chats(settings: Settings) -> None:
    """Options that say something of turns; a record has none.

    Raises:
        UsageError: one of them is given.
    """
    for name, default in (("completion_format", None), ("empty_reasoning", "error"), ("reasoning", "keep")):
        if getattr(settings, name) != default:
            raise UsageError(
                f"{name}: found {getattr(settings, name)!r} with a record template; expected a chat template, whose "
                f"turns it is about; fix: leave {name} out"
            )


def _check_variables(given: Mapping[str, Any], source: TemplateSource) -> None:
    """Template variables that a chat template does not read would be ignored.

    Raises:
        UsageError: names the nearest one that it reads.
    """
    for name in given:
        if name in RESERVED:
            raise UsageError(
                f"template_kwargs: found {name!r}, which the formatter sets itself; expected other variables; "
                "fix: leave it out"
            )
        if name not in source.variables and name not in SPECIAL_TOKENS:
            known = ", ".join(map(repr, sorted(source.variables))) or "none"
            raise UsageError(
                f"template_kwargs: found {name!r}{hint(name, source.variables)}, which the template {source.name!r} "
                f"does not read; expected variables that it reads: {known}; fix: correct the name, or leave it out"
            )


def _policy(settings: Settings, source: TemplateSource, append_eos: bool) -> Policy:
    trained = settings.train_on
    if isinstance(trained, tuple):
        trained = trained_roles(trained, Roles(added_roles(settings.roles), source.roles))
    return Policy(
        train_on=trained,
        history=cast("Any", settings.history),
        prompt_mismatch=cast("Any", settings.prompt_mismatch),
        empty_reasoning=cast("Any", settings.empty_reasoning),
        completion_format=settings.completion_format,
        allow_dropped=allowed_names(settings.allow_dropped),
        append_eos=append_eos,
    )
