"""Render an unmodified template and learn, for each character, who wrote it.

In: a compiled template and a row's values. Out: a `Trace`, the text with its runs.

Two things are followed. *Where a character was copied from*: values go in as `Traced` strings. *Whose part of the
template printed it*, its owner: every `for` saves and restores the owner, and the loop context, when it hands out a
message, makes that message the owner. No template text is edited, and the printed text is unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.compiler import Frame
from jinja2.runtime import Context

from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.budget import limits
from instruct_fmt.template.trace.charges import printed
from instruct_fmt.template.trace.environment import (
    BudgetedGenerator,
    GenerationBlock,
    OriginLost,
    TemplateEnvironment,
    charged_format,
    strftime_now,
)
from instruct_fmt.template.trace.filters import traced_filters
from instruct_fmt.template.trace.formatting import TracedFormatter, percent
from instruct_fmt.template.trace.origins import DOCUMENTS, TOOLS, VARIABLES, Field, Run, Runs, empty_object
from instruct_fmt.template.trace.owners import (
    ROLES,
    SPEAKING,
    OwnerLoop,
    Owners,
    TracedMessage,
    TracedMessages,
    message_of,
    owners_now,
)
from instruct_fmt.template.trace.traced import Traced

# Names that the formats of conversations give to members of messages, of their parts and of calls.
MEMBERS = frozenset(
    [
        *("role", "content", "name", "type", "text", "tool_calls", "function", "arguments", "id", "tool_call_id"),
        *("reasoning_content", "reasoning", "thinking", "image", "image_url", "audio", "video", "url"),
    ]
)
# Methods of a literal whose result may hold an argument that comes from the row.
_TAKING_TEXT = frozenset({"center", "join", "ljust", "replace", "rjust", "translate"})


@dataclass(frozen=True, slots=True)
class Trace:
    """A rendered text and its runs, in the order and with the boundaries in which the template printed them."""

    text: str
    runs: Runs

    def positions(self) -> Iterable[tuple[int, int, Run]]:
        """(start, end, run) for each run, in characters."""
        start = 0
        for run in self.runs:
            yield start, start + run.size, run
            start += run.size


def with_runs(text: str, runs: Runs) -> Traced:
    """The same text with other runs of the same sizes."""
    return text._with(runs) if isinstance(text, Traced) else tr.make(text, runs)


def _print(value: Any) -> Traced:
    """A printed expression or constant: its characters get the owner of the moment."""
    value = tr.text_of(printed(value))
    owners = owners_now.get()
    runs = []
    for run in tr.runs_of(value):
        owner = run.owner
        if owner is None or owner < 0:
            if owners.owner is not None:
                owner = owners.owner
            elif owner is None:
                owner = None if owners.near is None else -1 - owners.near
            if owners.owner is None and run.field is not None and run.field.place >= 0:
                owners.near = run.field.place
                owner = -1 - run.field.place if owner is None or owner < 0 else owner
        runs.append(run if owner == run.owner else run._replace(owner=owner))
    return with_runs(value, tuple(runs))


def _assigned(value: Any) -> Any:
    """`{% set x = … %}` inside message i's iteration: remember i, for text that is gathered and printed later."""
    owner = owners_now.get().owner
    if owner is None:
        return value
    if isinstance(value, str):
        weak = -1 - owner
        runs = [run._replace(owner=weak) if run.owner is None else run for run in tr.runs_of(value)]
        return with_runs(value, tuple(runs))
    if type(value) is list and any(isinstance(item, str) for item in value):
        return [_assigned(item) if isinstance(item, str) else item for item in value]
    return value


class TracedGenerator(BudgetedGenerator):
    """Every printed piece goes through `_print`; every loop saves and restores the owner."""

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return f"_print({''.join(group)!r})"

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write("_print(")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write(")")

    def visit_EvalContextModifier(self, node: nodes.EvalContextModifier, frame: Frame) -> None:
        for option in node.options:
            if option.key == "autoescape" and option.value != nodes.Const(False):
                self.writeline("_escaping()")
        super().visit_EvalContextModifier(node, frame)

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        self.writeline("_owners.get().push()")
        super().visit_For(node, frame)
        self.writeline("_owners.get().pop()")


def _escaping() -> None:
    raise OriginLost("it turns autoescape on")


class _MarkedGeneration(GenerationBlock):
    def _generated(self, caller: Callable[[], str]) -> str:
        value = caller()
        return with_runs(value, tuple(run._replace(generated=True) for run in tr.runs_of(value)))


class TracedEnvironment(TemplateEnvironment):
    """The sandbox whose templates print `Traced` strings."""

    code_generator_class = TracedGenerator
    concat = staticmethod(lambda pieces: tr.join("", list(pieces)))

    def __init__(self) -> None:
        super().__init__(generation=_MarkedGeneration)
        self.globals["strftime_now"] = lambda form: tr.coarse(strftime_now(form), form)

    def known_filters(self) -> dict[str, Callable[..., Any]]:
        return {**traced_filters(super().known_filters()), "_assigned": _assigned}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):  # a loop that names `loop` runs through the loop context
            loop.body.insert(0, nodes.ExprStmt(nodes.Name("loop", "load"), lineno=loop.lineno))
        for node in tree.find_all(nodes.Assign):
            node.node = nodes.Filter(node.node, "_assigned", [], [], None, None, lineno=node.lineno)
        return tree

    def runtime_names(self) -> Mapping[str, Any]:
        return {
            **super().runtime_names(),
            "LoopContext": OwnerLoop,
            "_print": _print,
            "_escaping": _escaping,
            "_owners": owners_now,
        }

    def join_texts(self, values: Any) -> str:
        return tr.join("", [tr.text_of(printed(value)) for value in values])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        result = super().call_binop(context, operator, left, right)
        if operator == "%" and isinstance(left, str):
            return percent(left, right, tr.plain(result))
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        return charged_format(value, TracedFormatter(self).of(value))

    def call(self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(__obj, "__self__", None)
        if type(owner) is str and __obj.__name__ in _TAKING_TEXT:
            __obj = getattr(tr.literal(owner), __obj.__name__)
        result = super().call(__context, __obj, *args, **kwargs)
        if isinstance(owner, Traced | bytes) and isinstance(result, str) and not isinstance(result, Traced):
            return tr.coarse(result, [owner, passed(args, kwargs)])
        return result


def passed(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """What a template passes in a call, less the variables that Jinja passes along."""
    return [*args, *(value for name, value in kwargs.items() if name not in ("_loop_vars", "_block_vars"))]


def trace_value(value: Any, index: int, path: tuple[str | int, ...] = ()) -> Any:
    """A copy of plain data whose strings, and the names of its members, remember their field."""
    if isinstance(value, str):
        return tr.content(value, Field(index, path)) if value else value
    if isinstance(value, dict):
        if not value:
            return empty_object(Field(index, path))
        return {_member(key, index, path): trace_value(item, index, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [trace_value(item, index, (*path, number)) for number, item in enumerate(value)]
    return value


def _member(name: Any, index: int, path: tuple[str | int, ...]) -> Any:
    """The name of a member, which is the row's text too, but where a format has fixed it."""
    if index >= 0 and "arguments" not in path and (name in MEMBERS or (not path and name.isidentifier())):
        return name
    return tr.content(name, Field(index, (*path, name))) if isinstance(name, str) and name else name


def trace_message(message: Mapping[str, Any], index: int) -> TracedMessage:
    role = message.get("role")
    values = trace_value(dict(message), index)
    if role in ROLES:
        values["role"] = role
    return message_of(values, index, role in SPEAKING)


class TracedTemplate:
    """A template compiled twice: once to trace, once plain, the reference that each trace is compared with.

    Args:
        text: Jinja text.

    Raises:
        jinja2.TemplateSyntaxError: the text does not compile.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._traced = TracedEnvironment().from_string(text)
        self._plain = TemplateEnvironment().from_string(text)

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


def _settled(run: Run) -> Run:
    """At the end a weak owner is as good as a strong one."""
    if run.owner is not None and run.owner < 0:
        return run._replace(owner=-1 - run.owner)
    return run


def traced_variables(
    tools: Any, documents: Any, of_row: Mapping[str, Any], of_formatter: Mapping[str, Any]
) -> dict[str, Any]:
    """Template variables: what comes from the row is traced, what comes from the formatter's options is its own."""
    row = {name: trace_value(value, VARIABLES, (name,)) for name, value in of_row.items()}
    return {
        **of_formatter,
        **row,
        "tools": trace_value(tools, TOOLS),
        "documents": trace_value(documents, DOCUMENTS),
    }
