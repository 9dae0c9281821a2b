"""The Jinja environment that templates run in: the names and settings of transformers' chat templates, in a sandbox
with a budget.

In: template text. Out: a `jinja2.Environment` whose templates print what `apply_chat_template` prints.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.filters import do_indent
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_STEPS = 250_000
MAX_CHARACTERS = 64_000_000


class BudgetExceeded(jinja2.TemplateError):
    """The template ran more loop steps, or built more text, than one row may."""


class ClockRead(jinja2.TemplateError):
    """The template read the clock, which is not pinned."""


class RaisedByTemplate(jinja2.TemplateError):
    """The template called `raise_exception`."""


class OriginLost(jinja2.TemplateError):
    """The template does something to text that its origin does not survive."""


@dataclass(slots=True)
class Budget:
    """What one render may still use. Counted, not timed, so that a row's fate is the same on every machine."""

    steps: int = MAX_STEPS
    characters: int = MAX_CHARACTERS

    def step(self, count: int = 1) -> None:
        self.steps -= count
        if self.steps < 0:
            raise BudgetExceeded(f"more than {MAX_STEPS:,} loop steps")

    def build(self, count: int) -> None:
        self.characters -= count
        if self.characters < 0:
            raise BudgetExceeded(f"more than {MAX_CHARACTERS:,} characters built")


_budget: ContextVar[Budget] = ContextVar("instruct_fmt_budget")
_clock: ContextVar[datetime | None] = ContextVar("instruct_fmt_clock", default=None)


@contextmanager
def limits(now: datetime | None = None) -> Iterator[Budget]:
    """One render: a fresh budget and the pinned clock. State of a render is never shared with another."""
    budget = Budget()
    tokens = _budget.set(budget), _clock.set(now)
    try:
        yield budget
    finally:
        _budget.reset(tokens[0])
        _clock.reset(tokens[1])


def _active_budget() -> Budget:
    try:
        return _budget.get()
    except LookupError:  # constant folding while a template compiles
        return Budget(steps=10_000, characters=100_000)


class BudgetedLoop(LoopContext):
    """A loop that pays for its steps."""

    def __next__(self) -> Any:
        _active_budget().step()
        return super().__next__()


def _raise_exception(message: object) -> None:
    raise RaisedByTemplate(str(message))


def strftime_now(format: str) -> str:
    now = _clock.get()
    if now is None:
        raise ClockRead("the template reads the clock (strftime_now); pass now=datetime(…) to pin it")
    return now.strftime(format)


def _range(*args: int) -> range:
    result = range(*args)
    _active_budget().step(len(result))
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


def _length(value: object) -> int:
    return len(value) if isinstance(value, str | bytes | list | tuple) else 0


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox, with every operation that can build much text from little paid from the budget."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self, *, generation: type[GenerationBlock] = GenerationBlock) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[generation, jinja2.ext.loopcontrols])
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

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):  # a loop that names `loop` runs through the loop context
            loop.body.insert(0, nodes.ExprStmt(nodes.Name("loop", "load"), lineno=loop.lineno))
        return tree

    def from_string(
        self,
        source: str | nodes.Template,
        globals: Any = None,
        template_class: type[jinja2.Template] | None = None,
    ) -> jinja2.Template:
        template = super().from_string(source, globals, template_class)
        template.root_render_func.__globals__.update(self.runtime_names())
        return template

    def runtime_names(self) -> Mapping[str, Any]:
        """Names of Jinja's runtime that compiled templates take from here instead."""
        return {"LoopContext": BudgetedLoop, "str_join": self.join_texts, "markup_join": self.join_texts}

    def join_texts(self, values: Any) -> str:
        text = "".join([str(value) for value in values])
        _active_budget().build(len(text))
        return text

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*" and (_length(left) or _length(right)):
            times, size = (right, _length(left)) if _length(left) else (left, _length(right))
            if isinstance(times, int):
                _active_budget().build(max(0, size * times))
        elif operator == "**" and isinstance(right, int) and (abs(right) > 64 or abs(left) > 2**32):
            raise BudgetExceeded("a power this large is refused")
        elif operator == "%" and isinstance(left, str):
            _active_budget().build(len(left) + _widths(left))
        elif operator == "+":
            _active_budget().build(_length(left) + _length(right))
        return super().call_binop(context, operator, left, right)

    def call(self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            _charge_method(owner, __obj.__name__, args)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` in the sandbox. What Jinja wraps it in hides whose method it is, so it pays here."""
        if getattr(value, "__name__", None) not in ("format", "format_map"):
            return None
        wrapped = super().wrap_str_format(value)
        return None if wrapped is None else charged_format(value, wrapped)


def charged_format(method: Any, function: Callable[..., str]) -> Callable[..., str]:
    """`function`, which does what a `format` method does, paying for it."""

    def charged(*args: Any, **kwargs: Any) -> str:
        _charge_method(method.__self__, method.__name__, args)
        return function(*args, **kwargs)

    return charged


def _charge_method(text: str, name: str, args: tuple[Any, ...]) -> None:
    budget = _active_budget()
    if name in ("center", "ljust", "rjust", "zfill", "expandtabs") and args and isinstance(args[0], int):
        budget.build(max(0, args[0]) * (1 + text.count("\t")))
    elif name == "replace" and len(args) >= 2:
        budget.build(len(text) + (text.count(str(args[0])) * len(str(args[1]))))
    elif name in ("format", "format_map"):
        budget.build(len(text) + _widths(text))
    elif name == "join":
        budget.build(len(text))
    else:
        budget.build(len(text) // 16)


def _widths(text: str) -> int:
    """The sum of the numbers in a format text: an upper bound of what its field widths add."""
    digits = "".join(char if char.isdigit() else " " for char in text)
    return sum(int(word[:12]) for word in digits.split())
