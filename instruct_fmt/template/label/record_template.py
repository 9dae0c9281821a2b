"""Which characters of a rendered record are trained.

In: the values of a record template's columns. Out: `Marked` texts. The prompt ends where the answer begins; spaces
that end the template's text before it belong to the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2

from instruct_fmt.errors import RowError, shown
from instruct_fmt.template.label.chat_template import (
    PYTHON_ERRORS,
    compile_template,
    row_error,
    text_differs,
    tried_out,
)
from instruct_fmt.template.label.coverage import printed_fields
from instruct_fmt.template.label.marked import spans_of
from instruct_fmt.template.label.stops import ANSWER, StopFinder
from instruct_fmt.template.label.turn import TraceIndex
from instruct_fmt.types import Added, Marked, Range, Record


class RecordTemplate:
    """A compiled record template.

    Args:
        text: Jinja text.
        columns: the names of all columns.
        answers: the names of the trained columns; empty where `{% generation %}` blocks say what is trained.
        variables: special tokens and the formatter's own template variables.
        now: the clock that templates see.
        declared_stops: EOS and other stop strings.
        added: the tokenizer's added tokens.

    Raises:
        TemplateError: the text does not compile.
    """

    def __init__(
        self,
        text: str,
        columns: Sequence[str],
        answers: Sequence[str],
        variables: Mapping[str, Any],
        now: datetime | None,
        declared_stops: Iterable[str],
        added: Sequence[Added],
    ) -> None:
        self.template = compile_template(text)
        self.answers = tuple(answers)
        self.variables = {**variables, "add_generation_prompt": False}
        self.now = now
        self.stops = StopFinder(declared_stops, added)
        self.structural: set[str] = set()
        with tried_out():
            self._learn_stop(columns)

    def _learn_stop(self, columns: Sequence[str]) -> None:
        """Render placeholders, to see whether the template ends the answer with a special token."""
        try:
            trace = self.template.trace_record(dict.fromkeys(columns, ANSWER), self.variables, self.now)
        except (jinja2.TemplateError, *PYTHON_ERRORS):
            return  # a template may refuse placeholders; then EOS and stop= are what it has
        last = [end for _, end, run in trace.positions() if run.field is not None]
        literals = [trace.text[start:end] for start, end, run in trace.positions() if run.field is None]
        self.structural = set(self.stops.tokens_in("\0".join(literals)))
        self.stops.learn(trace.text[last[-1] :] if last else "", "", answer=False)

    def mark(self, record: Record, *, append_eos: bool) -> Marked:
        """The marked text of one record.

        Raises:
            RowError: the template refuses the row, or its mask cannot be proven.
        """
        names = list(record.values)
        index = self._index(record.values)
        ranges = self._ranges(index, names, record.values)
        trained = [names.index(name) for name in self.answers if name in names]
        text, end = index.text, ranges[-1][1]
        stopped = self._ends_in_stop(index, end)
        eos = append_eos and not stopped and not text[end:].strip()
        if eos:
            ranges = (*ranges[:-1], (ranges[-1][0], len(text)))
        return Marked(
            text=text,
            trained=ranges,
            spans=spans_of(index, ranges, lambda place: names[place] if place >= 0 else None),
            from_row=tuple(
                (start, stop, run.field.place in trained) for start, stop, run in index.pieces if run.field is not None
            ),
            removable=tuple(
                (start, stop) for start, stop, run in index.pieces if run.field is not None and stop <= ranges[0][0]
            ),
            cuts=tuple(start for start, _ in ranges),
            bos=True,
            eos=eos,
            counts={
                "turns": 1,
                "trained_turns": 1,
                "eos_appended": int(eos),
                "turns_without_stop": int(not eos and not stopped),
            },
            printed=printed_fields(text, index.pieces),
        )

    def plain(self, record: Record) -> str:
        """The record as plain Jinja renders it."""
        return self.template.plain({**self.variables, **record.values}, self.now)

    def _ends_in_stop(self, index: TraceIndex, end: int) -> bool:
        """Whether the template's own text ends in a stop at `end`."""
        ends = [end - len(stop) for stop in self.stops.stops if index.text.endswith(stop, 0, end)]
        return any(index.literal_until(start) >= end for start in ends)

    def prompt(self, record: Record) -> Marked:
        """The text before the answer, without the spaces that end it."""
        marked = self.mark(record, append_eos=False)
        end = marked.trained[0][0]
        from_row = tuple((start, min(stop, end), speaks) for start, stop, speaks in marked.from_row if start < end)
        return Marked(marked.text[:end], (), marked.spans, from_row=from_row, bos=True)

    def _index(self, values: Mapping[str, Any]) -> TraceIndex:
        try:
            trace = self.template.trace_record(values, self.variables, self.now)
            plain = self.template.plain({**self.variables, **values}, self.now)
        except (jinja2.TemplateError, *PYTHON_ERRORS) as error:
            raise row_error(error, "$") from error
        if plain != trace.text:
            raise text_differs(plain, trace.text)
        return TraceIndex(trace)

    def _ranges(self, index: TraceIndex, names: list[str], values: Mapping[str, Any]) -> tuple[Range, ...]:
        if not self.answers:
            ranges = index.generated(0, len(index.text))
            if not ranges:
                raise RowError(
                    "nothing-to-learn", "$", "no text inside the {% generation %} block", "some", "leave the row out"
                )
            return ranges
        return tuple(self._range(index, names, values, name) for name in self._in_order(index, names))

    def _in_order(self, index: TraceIndex, names: list[str]) -> list[str]:
        present = [name for name in self.answers if name in names]
        places = {name: index.content(names.index(name)) or (len(index.text), 0) for name in present}
        return sorted(present, key=lambda name: places[name][0])

    def _range(self, index: TraceIndex, names: list[str], values: Mapping[str, Any], name: str) -> Range:
        """From the answer's first character, and the spaces before it, to the first stop behind it."""
        place = names.index(name)
        body = index.content(place)
        if body is None:
            body = self._empty(index, values, name)
        begin, end = body
        start = begin
        while start and index.text[start - 1] == " " and _literal(index, start - 1):
            start -= 1
        self._check(index, place, name, values[name], (begin, end))
        limit = index.literal_until(end)
        tail = index.text[end:limit]
        found = self.stops.first(index.text, end, limit)
        if found is not None:
            return start, found[1]
        return (start, limit) if limit == len(index.text) and tail.strip() else (start, end)

    def _empty(self, index: TraceIndex, values: Mapping[str, Any], name: str) -> Range:
        """Where an answer that left no character in the text would begin: where a word stands in its place."""
        if str(values[name]).strip():
            raise self._dropped(name, str(values[name]))
        probe = TraceIndex(self.template.trace_record({**values, name: ANSWER}, self.variables, self.now))
        body = probe.content(list(values).index(name))
        if body is None or probe.text[: body[0]] + probe.text[body[1] :] != index.text:
            raise RowError(
                "nothing-to-learn", f"$.{name}", "an empty answer", "text", "leave the row out, or fill the column"
            )
        return body[0], body[0]

    def _check(self, index: TraceIndex, place: int, name: str, value: Any, body: Range) -> None:
        covered = 0
        for start, stop, run in index.pieces:
            if stop <= body[0] or start >= body[1] or run.field is None:
                continue
            if run.field.place != place:
                raise RowError(
                    "foreign-text",
                    f"$.{name}",
                    f"{shown(index.text[start:stop])} of another column inside the answer",
                    "only the answer's own text",
                    "change the template",
                )
            covered += len("".join(index.text[start:stop].split()))
        if isinstance(value, str) and covered < len("".join(value.split())):
            raise self._dropped(name, value)

    @staticmethod
    def _dropped(name: str, value: str) -> RowError:
        return RowError(
            "field-dropped",
            f"$.{name}",
            f"{shown(value)}, of which the template leaves out a part",
            "the whole answer in the text",
            "use a template that prints the column",
        )


def _literal(index: TraceIndex, at: int) -> bool:
    return any(start <= at < stop and run.field is None for start, stop, run in index.pieces)
