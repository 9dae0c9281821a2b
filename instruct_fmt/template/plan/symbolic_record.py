"""Records with symbols in place of their values, and the plan that comes out of one of a shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2

from instruct_fmt.template.label.record_template import RecordRenderer, RecordTemplate
from instruct_fmt.template.label.template_errors import PYTHON_ERRORS, row_error
from instruct_fmt.template.plan.make import make_plan
from instruct_fmt.template.plan.plan import Plan
from instruct_fmt.template.plan.recorder import PLACEHOLDER, Recorder
from instruct_fmt.template.plan.symbolic import Symbolic, of_text, plain_text, symbolic
from instruct_fmt.template.plan.symbolic_environment import SymbolicEnvironment
from instruct_fmt.template.plan.tokens_of_text import TokensOfText
from instruct_fmt.template.plan.unprinted import unprinted_leaves
from instruct_fmt.template.trace.origins import Field
from instruct_fmt.template.trace.trace import Trace
from instruct_fmt.template.trace.traced_template import TracedTemplate
from instruct_fmt.types import Record


@dataclass(frozen=True)
class _SymbolicRecordRenderer(RecordRenderer):
    """Renders symbols in place of a record's values.

    Attributes:
        symbolic: the template, compiled for symbols.
        symbols: the values.
    """

    symbolic: TracedTemplate
    symbols: Mapping[str, Symbolic]

    def proven(self, values: Mapping[str, Any]) -> Trace:
        try:
            return self.symbolic.trace_values({**self.variables, **self.symbols}, self.now)
        except (jinja2.TemplateError, *PYTHON_ERRORS) as error:  # symbols are not always what a template expects
            raise row_error(error, "$", self.symbolic) from error


def _ends_in_words(text: str) -> bool:
    """Whether a text ends in a field that says something, which becomes a guard, or in none: else its end is before."""
    last = max((match.start() for match in PLACEHOLDER.finditer(text)), default=len(text))
    return bool(of_text(text[last:]).strip()) if last < len(text) else True


class SymbolicRecord:
    """Makes plans of records."""

    def __init__(self, template: RecordTemplate, append_eos: bool, tokens: TokensOfText) -> None:
        self._template, self._append_eos, self._tokens = template, append_eos, tokens
        self._compiled: TracedTemplate | None = None

    def plan(self, record: Record, recorder: Recorder) -> Plan | None:
        """The plan of records of this one's shape."""
        known = self._template.renderer
        if self._compiled is None:
            self._compiled = TracedTemplate(known.template.text, SymbolicEnvironment())
        symbols = {
            name: symbolic(value, Field(place, (name,))) for place, (name, value) in enumerate(record.values.items())
        }
        renderer = _SymbolicRecordRenderer(known.template, known.variables, known.now, self._compiled, symbols)
        shown = Record({name: plain_text(value) for name, value in symbols.items()})
        marked = self._template.rendered_by(renderer).mark(shown, append_eos=self._append_eos)
        if self._template.whole and not _ends_in_words(marked.text):
            recorder.refused.append("a field at the end of a text that is trained whole, which says nothing")
        names = list(record.values)
        answers = [names.index(name) for name in self._template.answers if name in names]
        return make_plan(marked, recorder, answers, unprinted_leaves(record, marked.printed, ()), self._tokens)
