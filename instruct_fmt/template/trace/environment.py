"""The Jinja environment that templates run in: the names and settings of transformers' chat templates, in a sandbox
with a budget.

In: template text. Out: a `jinja2.Environment` whose templates print what `apply_chat_template` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from instruct_fmt.template.trace.budget import (
    CHARACTERS_OF_STEP,
    allowance,
    budget,
    folding_budget,
)
from instruct_fmt.template.trace.charged import charged_filters, charged_tests
from instruct_fmt.template.trace.charges import (
    charge_call,
    charge_method,
    charge_operator,
    looked_at,
    made,
    paid,
    printed,
    step,
)
from instruct_fmt.template.trace.generator import REPEATED, BudgetedGenerator, cost_of, pay
from instruct_fmt.template.trace.helpers import (
    GenerationBlock,
    TemplateDict,
    TemplateNamespace,
    indent,
    limited_range,
    raise_exception,
    strftime_now,
    tojson,
)

REMEMBERED = 4096
"""So many attributes of types are remembered with whether a template may have them."""
MAX_TEXT, MAX_NODES = 500_000, 15_000
"""Of a template: more would take seconds to compile. The longest in public use has 45,000 characters."""


def _check_text(constant: Any) -> None:
    """Refuse half a surrogate pair that an escape has made."""
    text = constant.value if isinstance(constant, nodes.Const) else constant.data
    try:
        if isinstance(text, str):
            text.encode()
    except UnicodeEncodeError:
        what = "half of a surrogate pair, which is no character"
        raise jinja2.TemplateSyntaxError(what, constant.lineno) from None


def _fits(source: str) -> str:
    """The text of a template, if it can be compiled in reasonable time.

    Raises:
        TemplateSyntaxError: it is too long, or holds what no file can hold.
    """
    if len(source) > MAX_TEXT:
        raise jinja2.TemplateSyntaxError(f"a template of {len(source):,} characters; at most {MAX_TEXT:,} are read", 1)
    try:
        source.encode()
    except UnicodeEncodeError as error:
        line = source.count("\n", 0, error.start) + 1
        raise jinja2.TemplateSyntaxError("half of a surrogate pair, which is no character", line) from None
    return source


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox, with every operation that can take long, or build much from little, paid from the budget."""

    code_generator_class = BudgetedGenerator
    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self, *, generation: type[GenerationBlock] = GenerationBlock) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[generation, jinja2.ext.loopcontrols],
            finalize=printed,
        )
        self._safe: dict[tuple[type, str], bool] = {}
        self.filters.update(tojson=tojson, indent=indent)
        self.globals.update(
            raise_exception=raise_exception,
            strftime_now=strftime_now,
            dict=TemplateDict(),
            namespace=TemplateNamespace,
            range=limited_range,
        )
        self.globals.pop("lipsum", None)  # random text: never the same row twice
        self.filters.pop("random", None)
        self.filters = {**charged_filters(self.known_filters()), "_charged": _charged}
        self.tests = charged_tests(self.tests)

    def known_filters(self) -> dict[str, Callable[..., Any]]:
        """The filters, before they pay."""
        return dict(self.filters)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        try:
            tree = super()._parse(_fits(source), name, filename)
        except ValueError as error:  # Python's limit on the digits of a number
            raise jinja2.TemplateSyntaxError(str(error).split(";")[0], 1) from None
        parts = list(tree.find_all(nodes.Node))
        if len(parts) > MAX_NODES:
            many = f"a template of {len(parts):,} parts; at most {MAX_NODES:,} are compiled"
            raise jinja2.TemplateSyntaxError(many, 1)
        for part in parts:
            if isinstance(part, nodes.Const | nodes.TemplateData):
                _check_text(part)
        bodies: list[Any] = [tree, *(part for part in parts if isinstance(part, REPEATED))]
        for found in bodies:
            if isinstance(found, nodes.For) and found.test is not None:
                price = nodes.Const(cost_of([found.test]).nodes)
                found.test = nodes.Filter(found.test, "_charged", [price], [], None, None, lineno=found.lineno)
            pay(found.body, found.lineno or 1)
        return tree

    def from_string(
        self,
        source: str | nodes.Template,
        globals: Any = None,
        template_class: type[jinja2.Template] | None = None,
    ) -> jinja2.Template:
        try:
            with allowance(folding_budget()):
                template = super().from_string(source, globals, template_class)
        except (RecursionError, MemoryError, SyntaxError, TypeError) as error:  # of Python's compiler
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise jinja2.TemplateSyntaxError(f"what cannot be compiled ({what})", 1) from None
        template.root_render_func.__globals__.update(self.runtime_names())
        return template

    def runtime_names(self) -> Mapping[str, Any]:
        """Names that compiled templates take from here, some of them instead of Jinja's own."""
        joins = dict.fromkeys(("str_join", "markup_join"), self.join_texts)
        return {**joins, "_step": step, "_looked_at": looked_at, "_made": made, "_paid": paid}

    def join_texts(self, values: Any) -> str:
        text = "".join([str(printed(value)) for value in values])
        budget().build(len(text))
        return text

    def getattr(self, obj: Any, attribute: str) -> Any:
        """As Jinja does it, a member of a mapping without the detour over an error."""
        kind = type(obj)
        if isinstance(obj, dict) and not kind.__dictoffset__ and not hasattr(kind, attribute):
            try:
                return obj[attribute]
            except LookupError:
                return self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """As Jinja does it, asked once for each attribute of a type: neither depends on the object."""
        key = type(obj), attr
        known = self._safe.get(key)
        if known is None:
            if len(self._safe) >= REMEMBERED:
                self._safe.clear()
            known = self._safe[key] = super().is_safe_attribute(obj, attr, value)
        return known

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            budget().build(str.__len__(left) + str.__len__(right))
            return left + right
        charge_operator(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        if operator == "%":
            return paid(result)
        return made(result) if isinstance(result, list | tuple) else result

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, tuple) or (isinstance(argument, str) and str.__len__(argument) > CHARACTERS_OF_STEP):
            budget().look(argument)  # its hash goes through all that is in it
        return super().getitem(obj, argument)

    def call(self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        charge_call(__obj, args, kwargs)
        return paid(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` in the sandbox. What Jinja wraps it in hides whose method it is, so it pays here."""
        if getattr(value, "__name__", None) not in ("format", "format_map"):
            return None
        wrapped = super().wrap_str_format(value)
        return None if wrapped is None else charged_format(value, wrapped)


@jinja2.pass_context
def _charged(_context: Context, value: Any, price: int) -> Any:
    """The value of a loop's condition, which is asked also where the body is not run; never worked out beforehand."""
    budget().step(price)
    return value


def charged_format(method: Any, function: Callable[..., str]) -> Callable[..., str]:
    """`function`, which does what a `format` method does, paying for it."""

    def charged(*args: Any, **kwargs: Any) -> str:
        charge_method(method.__self__, method.__name__, args, kwargs)
        return function(*args, **kwargs)

    return charged
