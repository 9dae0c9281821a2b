"""Jinja's filters with the origin of each character.

In: Jinja's filters by name. Out: for each one that prints the same and keeps the runs, or refuses. A filter is of one
of three sorts: it hands on what it was given, or a number; it makes text, whose origin is that of its arguments; or it
is written anew here. One that Jinja may add is of none, and refuses until it is sorted.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jinja2
from jinja2 import filters as plain
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from markupsafe import escape

from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.formatting import percent
from instruct_fmt.template.trace.helpers import OriginLost, tojson
from instruct_fmt.template.trace.traced import Traced

Filter = Callable[..., Any]

HANDING_ON = frozenset(
    [
        *("abs", "attr", "batch", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items"),
        *("last", "length", "list", "map", "max", "min", "reject", "rejectattr", "reverse", "round", "select"),
        *("selectattr", "slice", "sort", "sum", "unique", "wordcount"),
    ]
)
"""They make no text: what comes out was given, is cut from it by methods of its own, or is a number."""
MAKING_TEXT = frozenset(
    [
        *("capitalize", "center", "filesizeformat", "lower", "pprint", "striptags", "trim", "truncate", "upper"),
        *("urlize", "xmlattr"),
    ]
)


def traced_filters(given: Mapping[str, Filter]) -> dict[str, Filter]:
    """The filters of an environment, for traced text."""
    return {name: _traced(name, function) for name, function in given.items()}


def _traced(name: str, function: Filter) -> Filter:
    if name in HANDING_ON:
        return function
    if name in MAKING_TEXT:
        return _making_text(function)
    return REWRITTEN.get(name) or _unknown(name)


def _unknown(name: str) -> Filter:
    def refusing(*args: Any, **kwargs: Any) -> Any:
        raise OriginLost(f"it uses the filter {name!r}, which is not known here")

    return refusing


def _making_text(function: Filter) -> Filter:
    """Where the result lost its origin, it gets one coarse run with that of the arguments."""

    @functools.wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if not isinstance(result, str) or isinstance(result, Traced):
            return result
        values = [value for value in args if not isinstance(value, jinja2.Environment | EvalContext | Context)]
        if values and isinstance(values[0], Traced) and str.__eq__(values[0], result):
            return values[0]
        return tr.coarse(result, [values, kwargs])

    return filtered


def _title(value: Any) -> str:
    text = tr.text_of(value)
    result = plain.do_title(text)
    return tr.mapped(text, result) if isinstance(text, Traced) else result


def _escape(value: Any) -> str:
    return tr.respelled(tr.text_of(value), lambda part: str(escape(part)))


def _urlencode(value: Any) -> str:
    if isinstance(value, str):
        return tr.respelled(value, plain.do_urlencode)
    return tr.coarse(plain.do_urlencode(value), value)


@jinja2.pass_eval_context
def _join(context: EvalContext, value: Iterable[Any], d: Any = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        value = map(plain.make_attrgetter(context.environment, attribute), value)
    return tr.join(tr.text_of(d), [tr.text_of(item) for item in value])


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text = tr.literal(tr.text_of(value))
    return text.replace(tr.text_of(old), tr.text_of(new), -1 if count is None else count)


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    text = tr.text_of(value)
    return percent(text, kwargs or args, tr.plain(plain.do_format(text, *args, **kwargs)))


def _indent(value: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """Line by line."""
    margin = width if isinstance(width, str) else " " * width
    lines = (tr.text_of(value) + "\n").splitlines() if value else [value]
    indented = [
        line if (number == 0 and not first) or (number and not line and not blank) else margin + line
        for number, line in enumerate(lines)
    ]
    return tr.join("\n", indented)


@jinja2.pass_environment
def _wordwrap(
    environment: jinja2.Environment,
    s: str,
    width: int = 79,
    break_long_words: bool = True,
    wrapstring: str | None = None,
    break_on_hyphens: bool = True,
) -> str:
    """Line by line: what each becomes are parts of it, in order."""
    between = environment.newline_sequence if wrapstring is None else wrapstring
    wrap = textwrap.TextWrapper(
        width=width,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=break_long_words,
        break_on_hyphens=break_on_hyphens,
    ).wrap
    lines = [tr.join(between, tr.located(tr.literal(line), wrap(tr.plain(line)))) for line in s.splitlines()]
    return tr.join(between, lines)


def _json(value: Any, *args: Any, **kwargs: Any) -> str:
    return tr.coarse(tojson(value, *args, **kwargs), [value, args, kwargs])


REWRITTEN: dict[str, Filter] = {
    "e": _escape,
    "escape": _escape,
    "forceescape": _escape,
    "format": _format,
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "safe": tr.text_of,
    "string": tr.text_of,
    "title": _title,
    "tojson": _json,
    "urlencode": _urlencode,
    "wordwrap": _wordwrap,
}
