"""Render an unmodified template and learn, for each character, who wrote it.

In: a compiled template and a row's values. Out: a `Trace`, the text with its runs.

Two things are followed. *Where a character was copied from*: values go in as `Traced` strings. *Whose part of the
template printed it*, its owner: every `for` saves and restores the owner, and the loop context, when it hands out a
message, makes that message the owner. No template text is edited, and the printed text is unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.budget import limits
from instruct_fmt.template.trace.environment import (
    TemplateEnvironment,
)
from instruct_fmt.template.trace.helpers import RaisedByTemplate
from instruct_fmt.template.trace.origins import Run
from instruct_fmt.template.trace.owners import (
    Owners,
    TracedMessage,
    TracedMessages,
    owners_now,
)
from instruct_fmt.template.trace.spots import Spot, line_of_raise, spot_in_line
from instruct_fmt.template.trace.trace import Trace
from instruct_fmt.template.trace.traced_environment import TracedEnvironment
from instruct_fmt.template.trace.traced_values import trace_value


class TracedTemplate:
    """A template compiled twice: once to trace, once plain, the reference that each trace is compared with.

    Args:
        text: Jinja text.
        environment: what traces it.

    Raises:
        jinja2.TemplateSyntaxError: the text does not compile.
    """

    def __init__(self, text: str, environment: TracedEnvironment | None = None) -> None:
        self.text = text
        self._traced = (environment or TracedEnvironment()).from_string(text)
        self._plain = TemplateEnvironment().from_string(text)

    def spot_of(self, error: BaseException) -> Spot | None:
        """Where in the text a render was when it raised; None where that cannot be told."""
        for template in (self._traced, self._plain):
            line = line_of_raise(template, error)
            if line is not None:
                calls = ("raise_exception",) if isinstance(error, RaisedByTemplate) else ()
                return spot_in_line(self.text, line, *calls, *_quoted(error), "{%", "{{")
        return None

    def trace_chat(
        self,
        messages: Iterable[TracedMessage],
        variables: Mapping[str, Any],
        now: datetime | None = None,
        owners: Owners | None = None,
    ) -> Trace:
        """Render traced messages; `variables` hold everything else, traced where it comes from the row.

        Where that fails, `owners` tell whose turn it was.
        """
        return self.trace_values({**variables, "messages": TracedMessages(messages)}, now, owners)

    def trace_record(self, values: Mapping[str, Any], variables: Mapping[str, Any], now: datetime | None) -> Trace:
        """Render a record: the field of each value is its place among `values`, its path its name."""
        traced = {name: trace_value(value, place, (name,)) for place, (name, value) in enumerate(values.items())}
        return self.trace_values({**variables, **traced}, now)

    def trace_values(self, variables: Mapping[str, Any], now: datetime | None, owners: Owners | None = None) -> Trace:
        """Render with values that are traced already."""
        token = owners_now.set(owners or Owners())
        try:
            with limits(now):
                context = self._traced.new_context(dict(variables))
                pieces = list(self._traced.root_render_func(context))
        finally:
            owners_now.reset(token)
        runs = [_settled(run) for piece in pieces for run in tr.runs_of(piece)]
        return Trace("".join(pieces), tuple(runs))

    def plain(self, variables: Mapping[str, Any], now: datetime | None = None) -> str:
        """The reference: the same template and values in an ordinary environment."""
        with limits(now):
            return self._plain.render(dict(variables))


def _quoted(error: BaseException) -> list[str]:
    """The names that an error puts in quotes, which may be those of the place."""
    return re.findall(r"'([A-Za-z_][\w.]*)'", str(error))


def _settled(run: Run) -> Run:
    """At the end a weak owner is as good as a strong one."""
    return Run(*run[:5]) if run.weak else run
