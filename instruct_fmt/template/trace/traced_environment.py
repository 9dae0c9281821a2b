"""The sandbox whose templates print traced text.

Two things are followed. *Where a character was copied from*: values go in as `Traced` strings. *Whose part of the
template printed it*, its owner: every `for` saves and restores the owner, and the loop context, when it hands out a
message, makes that message the owner. No template text is edited, and the printed text is unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2 import nodes
from jinja2.compiler import Frame
from jinja2.runtime import Context

from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.charges import printed
from instruct_fmt.template.trace.environment import TemplateEnvironment, charged_format
from instruct_fmt.template.trace.filters import traced_filters
from instruct_fmt.template.trace.formatting import TracedFormatter, percent
from instruct_fmt.template.trace.generator import BudgetedGenerator
from instruct_fmt.template.trace.helpers import GenerationBlock, OriginLost, strftime_now
from instruct_fmt.template.trace.origins import Run
from instruct_fmt.template.trace.owners import OwnerLoop, owners_now
from instruct_fmt.template.trace.traced import Traced, with_runs

# Methods of a literal whose result may hold an argument that comes from the row.
_TAKING_TEXT = frozenset({"center", "join", "ljust", "replace", "rjust", "translate"})
BOUND_ALONG = frozenset({"_loop_vars", "_block_vars"})
"""Variables that Jinja passes along in a call."""


def _print(value: Any) -> Traced:
    """A printed expression or constant: its characters get the owner of the moment."""
    value = tr.text_of(printed(value))
    owners = owners_now.get()
    runs = []
    for run in tr.runs_of(value):
        owner, weak = run.owner, run.weak
        if owner is None or weak:
            if owners.owner is not None:
                owner, weak = owners.owner, False
            elif owner is None and owners.near is not None:
                owner, weak = owners.near, True
            if owners.owner is None and run.field is not None and run.field.place >= 0:
                owner = owners.near = run.field.place
                weak = True
        known = (owner, weak) == (run.owner, run.weak)
        runs.append(run if known else Run(run.size, run.field, run.offset, owner, run.generated, weak))
    return with_runs(value, tuple(runs))


def _assigned(value: Any) -> Any:
    """`{% set x = … %}` inside message i's iteration: remember i, for text that is gathered and printed later."""
    owner = owners_now.get().owner
    if owner is None:
        return value
    if isinstance(value, str):
        runs = [run._replace(owner=owner, weak=True) if run.owner is None else run for run in tr.runs_of(value)]
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
    return [*args, *(value for name, value in kwargs.items() if name not in BOUND_ALONG)]
