"""What templates may call besides Jinja's own, and the errors that come out of it: as in transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jinja2.ext
from jinja2 import nodes
from jinja2.filters import do_indent
from jinja2.parser import Parser
from jinja2.utils import Namespace

from instruct_fmt.template.trace.budget import BudgetExceeded, budget, clock


class ClockRead(jinja2.TemplateError):
    """The template read the clock, which is not pinned."""


class RaisedByTemplate(jinja2.TemplateError):
    """The template called `raise_exception`."""


class OriginLost(jinja2.TemplateError):
    """The template does something to text that its origin does not survive."""


def raise_exception(message: object) -> None:
    budget().write(message)
    raise RaisedByTemplate(str(message))


def strftime_now(format: str) -> str:
    now = clock()
    if now is None:
        raise ClockRead("the template reads the clock (strftime_now); pass now=datetime(…) to pin it")
    return now.strftime(format)


def limited_range(*args: int) -> range:
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


def indent(s: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
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
