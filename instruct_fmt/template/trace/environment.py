"""The Jinja environment that templates run in: the names and settings of transformers' chat templates, in a sandbox
with a budget.

In: template text. Out: a `jinja2.Environment` whose templates print what `apply_chat_template` prints.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame, operators
from jinja2.filters import do_indent
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from instruct_fmt.template.trace.budget import (
    CHARACTERS_OF_STEP,
    BudgetExceeded,
    allowance,
    budget,
    clock,
    folding_budget,
)
from instruct_fmt.template.trace.charges import (
    charge_call,
    charge_method,
    charge_operator,
    charged_filters,
    charged_tests,
    looked_at,
    made,
    paid,
    printed,
    step,
)


class ClockRead(jinja2.TemplateError):
    """The template read the clock, which is not pinned."""


class RaisedByTemplate(jinja2.TemplateError):
    """The template called `raise_exception`."""


class OriginLost(jinja2.TemplateError):
    """The template does something to text that its origin does not survive."""


def _raise_exception(message: object) -> None:
    budget().write(message)
    raise RaisedByTemplate(str(message))


def strftime_now(format: str) -> str:
    now = clock()
    if now is None:
        raise ClockRead("the template reads the clock (strftime_now); pass now=datetime(…) to pin it")
    return now.strftime(format)


def _range(*args: int) -> range:
    result = range(*args)
    try:
        budget().step(len(result))
    except OverflowError:
        raise BudgetExceeded("a range this long is refused") from None
    return result


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers' templates print it: plain characters, nothing escaped for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _indent(s: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    if isinstance(s, list):  # Jinja would add a line to the row's own list
        raise TypeError("indent takes text, not a list")
    return do_indent(s, width, first, blank)


class TemplateDict:
    """`dict` for templates, without access to the type itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class TemplateNamespace(Namespace):
    """`namespace` for templates; names that begin with an underscore are refused."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, rest = args[0], args[1:]
        values = dict(*rest, **kwargs)
        for name in values:
            TemplateNamespace._check(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        TemplateNamespace._check(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        values = object.__getattribute__(self, "_Namespace__attrs")
        for value in values.values():
            budget().step()
            budget().write(value)
        return f"<Namespace {values!r}>"

    @staticmethod
    def _check(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace cannot hold the underscore name {name!r}")


class GenerationBlock(jinja2.ext.Extension):
    """`{% generation %} … {% endgeneration %}`, which prints its body; a subclass may mark it."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_generated"), [], [], body).set_lineno(line)

    def _generated(self, caller: Callable[[], str]) -> str:
        return caller()


class Cost(NamedTuple):
    """What each run of a body costs: its nodes, and the characters of its constants."""

    nodes: int
    characters: int


MAX_TEXT, MAX_NODES = 500_000, 15_000
"""Of a template: more would take seconds to compile. The longest in public use has 45,000 characters."""
# Their bodies may be run more than once.
_REPEATED = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)


def _cost(body: Sequence[nodes.Node]) -> Cost:
    """The cost of a body, less the bodies in it that pay by themselves."""
    count, characters = 0, 0
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        count += 1
        if isinstance(node, nodes.TemplateData):
            characters += len(node.data)
        apart = {id(one) for one in node.body} if isinstance(node, _REPEATED) else set()
        waiting += [one for one in node.iter_child_nodes() if id(one) not in apart]
    return Cost(count, characters)


def _pay(body: list[nodes.Node], line: int) -> None:
    """Make a body pay when it is run."""
    body.insert(0, nodes.ExprStmt(nodes.Const(_cost(body)), lineno=line))


def _varies(node: nodes.Expr) -> bool:
    """Whether a value is not in the template as it stands."""
    if isinstance(node, nodes.List | nodes.Tuple):
        return any(map(_varies, node.items))
    if isinstance(node, nodes.Dict):
        return any(_varies(pair.key) or _varies(pair.value) for pair in node.items)
    return not isinstance(node, nodes.Literal)


class BudgetedGenerator(CodeGenerator):
    """Bodies that are run more than once, comparisons and slices pay for what they do."""

    def visit_ExprStmt(self, node: nodes.ExprStmt, frame: Frame) -> None:
        if isinstance(node.node, nodes.Const) and isinstance(node.node.value, Cost):
            self.writeline(f"_step({node.node.value.nodes}, {node.node.value.characters})", node)
        else:
            super().visit_ExprStmt(node, frame)

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        operands = [node.expr, *(operand.expr for operand in node.ops)]
        searched = [operand.expr for operand in node.ops if operand.op in ("in", "notin")]
        costly = [one for one in operands if _varies(one)]  # what is searched for is hashed
        if len(costly) < (1 if searched else 2):
            super().visit_Compare(node, frame)
            return
        self.write("(")
        for place, operand in enumerate(operands):
            self.write(f" {operators[node.ops[place - 1].op]} " if place else "")
            self.write("_looked_at(" if operand in costly else "(")
            self.visit(operand, frame)
            self.write(")")
        self.write(")")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._made(node, frame, super().visit_List)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._made(node, frame, super().visit_Tuple)
        else:
            super().visit_Tuple(node, frame)

    def _made(self, node: nodes.Expr, frame: Frame, visit: Callable[[Any, Frame], None]) -> None:
        varies = _varies(node)
        self.write("_made(" if varies else "")
        visit(node, frame)
        self.write(")" if varies else "")

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._made(node, frame, self._dict)

    def _dict(self, node: nodes.Dict, frame: Frame) -> None:
        self.write("{")
        for pair in node.items:
            self.write("_looked_at(" if _varies(pair.key) else "(")  # its hash goes through all that is in it
            self.visit(pair.key, frame)
            self.write("): ")
            self.visit(pair.value, frame)
            self.write(", ")
        self.write("}")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if not isinstance(node.arg, nodes.Slice):
            super().visit_Getitem(node, frame)
            return
        self.write("_paid(")
        super().visit_Getitem(node, frame)
        self.write(")")


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
        self.filters.update(tojson=tojson, indent=_indent)
        self.globals.update(
            raise_exception=_raise_exception,
            strftime_now=strftime_now,
            dict=TemplateDict(),
            namespace=TemplateNamespace,
            range=_range,
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
        for constant in tree.find_all((nodes.Const, nodes.TemplateData)):
            _check_text(constant)
        if (size := sum(1 for _ in tree.find_all(nodes.Node))) > MAX_NODES:
            raise jinja2.TemplateSyntaxError(f"a template of {size:,} parts; at most {MAX_NODES:,} are compiled", 1)
        bodies: list[Any] = [tree, *tree.find_all(_REPEATED)]
        for found in bodies:
            if isinstance(found, nodes.For) and found.test is not None:
                price = nodes.Const(_cost([found.test]).nodes)
                found.test = nodes.Filter(found.test, "_charged", [price], [], None, None, lineno=found.lineno)
            _pay(found.body, found.lineno or 1)
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

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
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
