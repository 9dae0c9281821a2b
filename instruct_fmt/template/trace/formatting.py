"""`str.format` and `%` with the origin of each character.

In: a format text and its values, traced or not. Out: the text that Python makes of them. What a value prints without a
format of its own keeps its runs; under one, such as ``{:>20}``, it is one coarse run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any

from jinja2.sandbox import SandboxedFormatter

from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.helpers import OriginLost
from instruct_fmt.template.trace.origins import fields_in

_CODE = re.compile(r"%(?:\((?P<name>[^()]*)\))?(?P<format>[#0\- +]*(?:\*|\d*)(?:\.(?:\*|\d*))?[hlL]?(?P<kind>.))", re.S)
_NUMBER_AS_CHARACTER = "it makes a character of a number"


class TracedFormatter(SandboxedFormatter):
    """Jinja's own formatter, piece by piece."""

    def of(self, method: Any) -> Callable[..., str]:
        """What the method `format` or `format_map` of a text does."""
        text = method.__self__

        def of_values(*args: Any, **kwargs: Any) -> str:
            return self.vformat(text, args, kwargs)

        def of_mapping(mapping: Any, /) -> str:
            return self.vformat(text, (), mapping)

        return of_values if method.__name__ == "format" else of_mapping

    def vformat(self, text: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        made = self._expanded(text, args, kwargs, count(), 2)
        return tr.coarse(made, [text, args, kwargs]) if fields_in(text) else made

    def _expanded(
        self, text: str, args: Sequence[Any], kwargs: Mapping[str, Any], numbers: Iterator[int], depth: int
    ) -> str:
        if depth < 0:
            raise ValueError("Max string recursion exceeded")
        pieces: list[str] = []
        for literal, name, form, conversion in self.parse(tr.plain(text)):
            pieces.append(literal)
            if name is not None:
                unnamed = not name or name[0] in ".["
                value, _ = self.get_field(f"{next(numbers)}{name}" if unnamed else name, args, kwargs)
                inner = self._expanded(form or "", args, kwargs, numbers, depth - 1)
                pieces.append(_formatted(value, inner, conversion))
        return tr.join("", pieces)


def _formatted(value: Any, form: str, conversion: str | None) -> str:
    if conversion in ("r", "a"):
        value = tr.coarse(repr(value) if conversion == "r" else ascii(value), value)
    elif conversion == "s":
        value = tr.text_of(value)
    if not form:
        return tr.text_of(value)
    if form.endswith("c") and isinstance(value, int):
        raise OriginLost(_NUMBER_AS_CHARACTER)
    return tr.coarse(format(value, form), [value, form] if fields_in(form) else value)


def percent(text: str, values: Any, whole: str) -> str:
    """`whole`, which Python made of ``text % values``.

    Raises:
        OriginLost: it cannot be told which of it comes from where.
    """
    if fields_in(text):
        return tr.coarse(whole, [text, values])
    made = tr.join("", list(_printed(tr.plain(text), values)))
    if str.__ne__(made, whole):
        raise OriginLost("it formats with % in a way that cannot be followed")
    return made


def _printed(text: str, values: Any) -> Iterator[str]:
    """The literals of a format text and what stands for each of its codes."""
    waiting, position = iter(values if isinstance(values, tuple) else (values,)), 0
    for match in _CODE.finditer(text):
        name, form = match["name"], match["format"]
        yield text[position : match.start()]
        position = match.end()
        if form == "%":
            yield form
            continue
        given = list(islice(waiting, form.count("*") + 1)) if name is None else [values[name]]
        if match["kind"] == "c" and isinstance(given[-1], int):
            raise OriginLost(_NUMBER_AS_CHARACTER)
        yield tr.text_of(given[-1]) if form == "s" else tr.coarse(f"%{form}" % tuple(given), given)
    yield text[position:]
