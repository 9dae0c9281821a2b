"""Which characters of a rendered record are trained.

In: the values of a record template's columns. Out: `Marked` texts. The prompt ends where the answer begins; spaces
that end the template's text before it belong to the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2

from instruct_fmt.errors import RowError, shown
from instruct_fmt.template.label.compiled import compile_template, tried_out
from instruct_fmt.template.label.coverage import printed_fields
from instruct_fmt.template.label.marked import spans_of
from instruct_fmt.template.label.probes import ANSWER
from instruct_fmt.template.label.stops import StopFinder
from instruct_fmt.template.label.template_errors import PYTHON_ERRORS, row_error, text_differs
from instruct_fmt.template.trace.trace import Trace, TraceIndex
from instruct_fmt.template.trace.traced_template import TracedTemplate
from instruct_fmt.types import Added, Marked, Range, Record


@dataclass(frozen=True)
class RecordRenderer:
    """Renders records.

    Attributes:
        template: the compiled template.
        variables: special tokens and the formatter's own template variables.
        now: the clock that templates see.
    """

    template: TracedTemplate
    variables: Mapping[str, Any]
    now: datetime | None

    def trace(self, values: Mapping[str, Any]) -> Trace:
        """Render traced values; what the template raises comes out as it is."""
        return self.template.trace_record(values, self.variables, self.now)

    def plain(self, values: Mapping[str, Any]) -> str:
        """The values as plain Jinja renders them.

        Raises:
            RowError: the template refuses the row or exceeds its budget.
        """
        try:
            return self.template.plain({**self.variables, **values}, self.now)
        except (jinja2.TemplateError, *PYTHON_ERRORS) as error:
            raise row_error(error, "$", self.template) from error

    def proven(self, values: Mapping[str, Any]) -> Trace:
        """`trace`, compared with the plain rendering.

        Raises:
            RowError: the template refuses the row or exceeds its budget, or the two texts differ.
        """
        try:
            trace, plain = self.trace(values), self.plain(values)
        except (jinja2.TemplateError, *PYTHON_ERRORS) as error:
            raise row_error(error, "$", self.template) from error
        if plain != trace.text:
            raise text_differs(plain, trace.text)
        return trace


class RecordTemplate:
    """A record template: what renders it, and what is known of it. `compiled` makes one from Jinja text.

    Args:
        renderer: renders records.
        answers: the names of the trained columns; empty where `{% generation %}` blocks say what is trained.
        stops: what ends an answer.
        structural: the added tokens that the template writes.
        whole: whether the whole text is trained.
    """

    def __init__(
        self,
        renderer: RecordRenderer,
        answers: Sequence[str],
        stops: StopFinder,
        structural: frozenset[str],
        *,
        whole: bool,
    ) -> None:
        self.renderer, self.answers, self.stops, self.structural = renderer, tuple(answers), stops, structural
        self.whole = whole

    @classmethod
    def compiled(
        cls,
        text: str,
        columns: Sequence[str],
        answers: Sequence[str],
        variables: Mapping[str, Any],
        now: datetime | None,
        declared_stops: Iterable[str],
        added: Sequence[Added],
        *,
        whole: bool = False,
    ) -> RecordTemplate:
        """Compile Jinja text and try it out.

        Args:
            text: Jinja text.
            columns: the names of all columns.
            answers: see the class.
            variables: special tokens and the formatter's own template variables.
            now: the clock that templates see.
            declared_stops: EOS and other stop strings.
            added: the tokenizer's added tokens.
            whole: whether the whole text is trained.

        Raises:
            TemplateError: the text does not compile.
        """
        renderer = RecordRenderer(compile_template(text), {**variables, "add_generation_prompt": False}, now)
        stops = StopFinder(declared_stops, added)
        with tried_out():
            return cls(renderer, answers, stops, _learn(renderer, columns, stops), whole=whole)

    def rendered_by(self, renderer: RecordRenderer) -> RecordTemplate:
        """The same, as another renderer prints it; what is known of it stays."""
        return RecordTemplate(renderer, self.answers, self.stops, self.structural, whole=self.whole)

    def mark(self, record: Record, *, append_eos: bool) -> Marked:
        """The marked text of one record.

        Raises:
            RowError: the template refuses the row, or its mask cannot be proven.
        """
        return self._marked(record, append_eos=append_eos, whole=self.whole)

    def _marked(self, record: Record, *, append_eos: bool, whole: bool) -> Marked:
        names = list(record.values)
        index = TraceIndex(self.renderer.proven(record.values))
        text = index.text
        ranges = self._everything(text) if whole else self._ranges(index, names, record.values)
        trained = [names.index(name) for name in self.answers if name in names]
        end = len(text.rstrip()) if whole else ranges[-1][1]
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
                (start, stop)
                for start, stop, run in index.pieces
                if run.field is not None and (run.field.place not in trained if whole else stop <= ranges[0][0])
            ),
            cuts=() if whole else tuple(start for start, _ in ranges),
            bos=True,
            eos=eos,
            counts={
                "turns": 1,
                "turns_silent": int(self._is_silent(record)),
                "trained_turns": 1,
                "eos_appended": int(eos),
                "turns_without_stop": int(not eos and not stopped),
            },
            printed=printed_fields(text, index.pieces),
        )

    def _is_silent(self, record: Record) -> bool:
        """Whether all answers are empty, so that the stop alone is trained."""
        answers = [record.values[name] for name in self.answers if name in record.values]
        return bool(answers) and not any(str(answer).strip() for answer in answers)

    def plain(self, record: Record) -> str:
        """The record as plain Jinja renders it."""
        return self.renderer.plain(record.values)

    def _ends_in_stop(self, index: TraceIndex, end: int) -> bool:
        """Whether the template's own text ends in a stop at `end`."""
        ends = [end - len(stop) for stop in self.stops.stops if index.text.endswith(stop, 0, end)]
        return any(index.literal_until(start) >= end for start in ends)

    def prompt(self, record: Record) -> Marked:
        """The text before the answer, without the spaces that end it."""
        marked = self._marked(record, append_eos=False, whole=False)
        end = marked.trained[0][0]
        from_row = tuple((start, min(stop, end), speaks) for start, stop, speaks in marked.from_row if start < end)
        return Marked(marked.text[:end], (), marked.spans, from_row=from_row, bos=True)

    @staticmethod
    def _everything(text: str) -> tuple[Range, ...]:
        if not text.strip():
            raise RowError("nothing-to-learn", "$", "a text without a word", "text", "leave the row out")
        return ((0, len(text)),)

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
        probe = TraceIndex(self.renderer.trace({**values, name: ANSWER}))
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


def _learn(renderer: RecordRenderer, columns: Sequence[str], stops: StopFinder) -> frozenset[str]:
    """Render placeholders, to see whether the template ends the answer with a special token; the tokens that it
    writes."""
    try:
        trace = renderer.trace(dict.fromkeys(columns, ANSWER))
    except (jinja2.TemplateError, *PYTHON_ERRORS):
        return frozenset()  # a template may refuse placeholders; then EOS and stop= are what it has
    last = [end for _, end, run in trace.positions() if run.field is not None]
    literals = [trace.text[start:end] for start, end, run in trace.positions() if run.field is None]
    stops.learn(trace.text[last[-1] :] if last else "", "", answer=False)
    return frozenset(stops.tokens_in("\0".join(literals)))


def _literal(index: TraceIndex, at: int) -> bool:
    return any(start <= at < stop and run.field is None for start, stop, run in index.pieces)
