"""The stages in their order, for one formatter: rows → examples → marked texts → ids → table.

In: plain Python rows. Out: an `EncodedBatch`. A row that cannot be encoded becomes a `Rejection`, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa

from instruct_fmt.adapt import Adapter, find_shapes, make_adapter, table_rows
from instruct_fmt.batch import Batch
from instruct_fmt.encode.backends import Backend, choose
from instruct_fmt.encode.encoder import EncodedRow, Encoder
from instruct_fmt.encode.vocabulary import Vocabulary
from instruct_fmt.errors import DataError, RowError, UsageError
from instruct_fmt.fit.length import truncate, truncate_prompt
from instruct_fmt.settings import Settings
from instruct_fmt.template.chat import ChatTemplate
from instruct_fmt.template.planner import Planner, ShapeGroup
from instruct_fmt.template.records import RecordTemplate
from instruct_fmt.template.shapes import PLANNED_ROLES, plain_shape, record_shape
from instruct_fmt.template.sources import answer_column
from instruct_fmt.template.text import mark_text
from instruct_fmt.template.traced import Field
from instruct_fmt.template.turns import Marker, Policy
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
)

Row = Mapping[str, Any]


class Pipeline:
    """Everything heavy that a formatter needs, made where it runs.

    Args:
        settings: the formatter's settings.
        source: its template.
        tokenizer: the transformers tokenizer.
        vocabulary: what was read off it.

    Raises:
        TemplateError: the template does not compile or reads a clock that is not pinned.
    """

    def __init__(self, settings: Settings, source: TemplateSource, tokenizer: Any, vocabulary: Vocabulary) -> None:
        self.settings, self.source, self.vocabulary = settings, source, vocabulary
        self.append_eos = settings.append_eos == "auto" and vocabulary.eos_id is not None
        self.declared = [*([vocabulary.eos] if vocabulary.eos else []), *generation_stops(tokenizer), *settings.stop]
        self.declared = list(dict.fromkeys(self.declared))
        self.variables = {**vocabulary.special, **settings.template_kwargs}
        self.chat: Marker | None = None
        if source.kind == "chat" and source.text:
            template = ChatTemplate(source.text, self.variables, settings.now, self.declared, vocabulary.added)
            self.chat = Marker(template, _policy(settings, self.append_eos))
        self._records: dict[tuple[str, ...] | None, RecordTemplate] = {}
        self._encoders: dict[tuple[str, bool], Encoder] = {}
        self._planners: dict[tuple[str, ...], Planner] = {}
        self._adapters: dict[tuple[str, ...], tuple[str, Adapter]] = {}

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        if self.chat is not None:
            return list(self.chat.template.stops.stops)
        return list(self.record_template(None).stops.stops) if self.source.kind == "record" else self.declared

    def adapter(self, columns: Sequence[str], sample: Row | None) -> tuple[str, Adapter]:
        """The input format's name and its adapter, for these columns."""
        key = tuple(columns)
        if key not in self._adapters:
            settings = self.settings
            self._adapters[key] = make_adapter(
                key,
                sample,
                source=self.source,
                mapping=settings.columns,
                field_map=settings.field_map,
                format=settings.format,
                system=settings.system,
            )
        return self._adapters[key]

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

    def encoder(self, example: Example, columns: Sequence[str]) -> Encoder:
        """The encoder for this kind of example."""
        kind = type(example).__name__
        boundary = self.settings.boundary
        split = boundary == "split" or (boundary == "auto" and kind != "Conversation")
        if (kind, split) not in self._encoders:
            self._encoders[kind, split] = Encoder(
                self.vocabulary,
                self._structural(example, columns),
                cast("Literal['text', 'error', 'allow']", self._control(example)),
                self.backend,
                split=split,
            )
        return self._encoders[kind, split]

    def _control(self, example: Example) -> str:
        given = self.settings.control_tokens
        return given or ("error" if isinstance(example, Text) else "text")

    def _structural(self, example: Example, columns: Sequence[str]) -> list[str]:
        special = self.vocabulary.special
        found = {token for token in special.values() if isinstance(token, str)} | set(self.stops)
        if isinstance(example, Conversation):
            found |= self._marker().template.structural
        elif isinstance(example, Record):
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
        self._run_rows(batch, rows, columns, np.arange(first_row, first_row + len(rows)))
        return batch.finish(self._fit)

    def run_table(self, table: pa.Table, first_row: int) -> EncodedBatch:
        """`run` for a table: rows of plain shape stay columns, the others become Python rows."""
        batch, columns = Batch(), table.column_names
        batch.counts["rows"] = table.num_rows
        left = np.ones(table.num_rows, np.bool_)
        shapes = self._shapes(table)
        if shapes:
            self._run_plans(batch, shapes, columns, np.arange(first_row, first_row + table.num_rows), left)
        if left.any():
            numbers = np.flatnonzero(left)
            rest = table if len(numbers) == table.num_rows else table.take(pa.array(numbers))
            self._run_rows(batch, table_rows(rest), columns, numbers + first_row)
        return batch.finish(self._fit)

    def _shapes(self, table: pa.Table) -> list[ShapeGroup]:
        """The rows of plain shape, as columns."""
        settings = self.settings
        found = find_shapes(
            table,
            source=self.source,
            mapping=settings.columns,
            field_map=settings.field_map,
            format=settings.format,
            system=settings.system,
            roles=PLANNED_ROLES,
        )
        return [
            ShapeGroup(
                plain_shape(rows.roles) if rows.roles else record_shape(rows.names),
                rows.places,
                {Field(place, (name,)): column for (place, name), column in rows.columns.items()},
                partial(self._example, table, rows.places),
            )
            for rows in found
        ]

    def _example(self, table: pa.Table, places: Ints, place: int) -> Example:
        row = table_rows(table.slice(int(places[place]), 1))[0]
        return self.adapter(table.column_names, row)[1](row)

    def _run_rows(self, batch: Batch, rows: Sequence[Row], columns: Sequence[str], numbers: Ints) -> None:
        """Encode Python rows, those with a plan together, the others one by one."""
        examples: list[Example | None] = []
        for row, number in zip(rows, numbers.tolist(), strict=True):
            try:
                examples.append(self.adapter(columns, row)[1](row))
            except RowError as error:
                batch.reject(error, number)
                examples.append(None)
        left = np.array([example is not None for example in examples], np.bool_)
        self._run_plans(batch, self.planner(columns).shapes(examples), columns, numbers, left)
        for place in np.flatnonzero(left).tolist():
            example = cast("Example", examples[place])
            try:
                for marked in self.mark(example, columns):
                    batch.add(int(numbers[place]), self.encoder(example, columns), marked)
            except RowError as error:
                batch.reject(error, int(numbers[place]))

    def _run_plans(
        self, batch: Batch, shapes: Sequence[ShapeGroup], columns: Sequence[str], numbers: Ints, left: Bools
    ) -> None:
        """Encode the rows that have a plan, and strike them off those that are `left`."""
        planner = self.planner(columns)
        for group in planner.group(shapes):
            encoder = self.encoder(group.example(0), columns)
            if not encoder.planned.able:
                continue
            block, right = encoder.planned.encode(group.rows)
            sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(block.trained)])
            right &= np.diff(sums[block.offsets]) > 0
            if self.settings.max_length is not None:
                right &= np.diff(block.offsets) <= self.settings.max_length
            chosen = np.flatnonzero(right)
            left[group.places[chosen]] = False
            block = block if len(chosen) == len(right) else block.take(chosen)
            batch.add_block(numbers[group.places[chosen]], block, group.rows.marked, encoder.backend)
        batch.counts.update(planner.take_counts())

    def planner(self, columns: Sequence[str]) -> Planner:
        """The plans made so far for rows with these columns."""
        key = tuple(columns)
        if key not in self._planners:
            self._planners[key] = Planner(
                lambda example: self.mark(example, columns),
                self.chat,
                self.record_template(columns) if self.source.kind == "record" else None,
                append_eos=self.append_eos,
            )
        return self._planners[key]

    @cached_property
    def backend(self) -> Backend:
        """The tokenizer engine."""
        added = [token.content for token in self.vocabulary.added]
        return choose(self.settings.backend, self.vocabulary.backend, added)

    def mark(self, example: Example, columns: Sequence[str]) -> list[Marked]:
        """Render an example and mark what is trained of it."""
        if isinstance(example, Record):
            return [self.record_template(columns).mark(example, append_eos=self.append_eos)]
        if isinstance(example, Text):
            stops = self.stops if self._control(example) == "allow" else ()  # else a stop in the text is text
            return [mark_text(example, stops, append_eos=self.append_eos)]
        try:
            return self._marker().mark(example)
        except RowError as error:
            raise with_dataset_path(error, example) from error

    def _fit(self, number: int, encoder: Encoder, marked: Marked, row: EncodedRow) -> EncodedRow:
        """The row within `max_length`, and with something to learn."""
        limit, policy = self.settings.max_length, self.settings.overlength
        if limit is not None and len(row.ids) > limit:
            error = RowError(
                "over-length",
                "$",
                f"{len(row.ids)} tokens",
                f"at most {limit}",
                'raise max_length, or shorten with overlength="truncate_prompt" or "truncate"',
                number,
            )
            if policy == "error":
                raise DataError(str(error))
            shorter = _shorten(row, encoder, marked, limit, policy)
            if shorter is None or not shorter.trained.any():
                raise error
            row = shorter
        if not row.trained.any():
            raise RowError("nothing-to-learn", "$", "no trained token", "at least one", "leave the row out")
        return row


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
    return EncodedRow(row.ids[keep], row.trained[keep], row.neutralised)


def with_dataset_path(error: RowError, example: Conversation) -> RowError:
    """The error with the path of the dataset's own field: an adapted row has other names and places."""
    match = re.match(r"\$\.messages\[(\d+)\](.*)", error.path)
    if match is None or int(match[1]) >= len(example.paths):
        return error
    path = example.paths[int(match[1])] + match[2]
    return RowError(error.reason, path, error.found, error.expected, error.fix)


def _policy(settings: Settings, append_eos: bool) -> Policy:
    return Policy(
        train_on=settings.train_on,
        history=cast("Any", settings.history),
        prompt_mismatch=cast("Any", settings.prompt_mismatch),
        allow_dropped=frozenset(settings.allow_dropped),
        append_eos=append_eos,
    )
