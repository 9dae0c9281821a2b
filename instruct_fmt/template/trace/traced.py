"""Text that remembers where it comes from.

A `Traced` string is a `str` that carries *runs*: consecutive stretches, each with the field of the row that it was
copied from (or none: the template's own text), the offset inside that field, the owner at the time it was printed, and
whether a `{% generation %}` block encloses it. Every method of `str` that makes text keeps the runs; what is not
modelled position by position becomes one coarse run, with `offset` -1. What can do neither raises `OriginLost`: no text
is made of bytes, no character of a number, and nothing is printed that cannot be looked into. Only what a template
*concludes* from a text is free: a number that it counts, words of its own that it chooses.

Character-level taint tracking; see W. Halfond, A. Orso, P. Manolios, "Using positive tainting and syntax-aware
evaluation to counter SQL injection attacks" (2006).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex

from instruct_fmt.template.trace import traced as tr
from instruct_fmt.template.trace.helpers import OriginLost
from instruct_fmt.template.trace.origins import Field, Run, Runs, Tracked, common_run


class Traced(Tracked):
    """A string with runs. It shows no public attribute that `str` lacks: templates test for attributes."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def _with(self, runs: Runs) -> Traced:
        """The same text with other runs of the same sizes."""
        return make(self, runs)

    def __reduce__(self) -> Any:
        return str, (plain(self),)

    def __add__(self, other: str) -> str:
        if not isinstance(other, str):
            return NotImplemented
        return make(str.__add__(self, other), self._runs + runs_of(other))

    def __radd__(self, other: str) -> str:
        if not isinstance(other, str):
            return NotImplemented
        return make(str.__add__(other, self), runs_of(other) + self._runs)

    def __mul__(self, times: SupportsIndex) -> str:
        return make(str.__mul__(self, times), self._runs * max(0, operator.index(times)))

    __rmul__ = __mul__

    def __mod__(self, value: Any) -> str:
        return coarse(str.__mod__(self, value), [self, value])

    def __rmod__(self, text: str) -> str:
        return coarse(str.__mod__(text, self), [text, self])

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return cut(self, start, max(start, stop))
            chosen = range(start, stop, step)
            letters: list[str] = list(cuts(self, [(place, place + 1) for place in sorted(chosen)]))
            return join("", letters if step > 0 else letters[::-1])
        position = operator.index(key)
        position += len(self) if position < 0 else 0
        if not 0 <= position < len(self):
            raise IndexError("string index out of range")
        return cut(self, position, position + 1)

    def __iter__(self) -> Iterator[str]:
        return cuts(self, ((place, place + 1) for place in range(len(self))))

    def strip(self, chars: str | None = None, /) -> str:
        left, right = len(self) - len(str.lstrip(self, chars)), len(str.rstrip(self, chars))
        return cut(self, left, max(left, right))

    def lstrip(self, chars: str | None = None, /) -> str:
        return cut(self, len(self) - len(str.lstrip(self, chars)), len(self))

    def rstrip(self, chars: str | None = None, /) -> str:
        return cut(self, 0, len(str.rstrip(self, chars)))

    def removeprefix(self, prefix: str, /) -> str:
        return cut(self, len(prefix), len(self)) if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> str:
        return cut(self, 0, len(self) - len(suffix)) if suffix and self.endswith(suffix) else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return located(self, str.split(self, sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return located(self, str.rsplit(self, sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        places: list[tuple[int, int]] = []
        position = 0
        for full, bare in zip(str.splitlines(self, True), str.splitlines(self), strict=True):
            places.append((position, position + len(full if keepends else bare)))
            position += len(full)
        return list(cuts(self, places))

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        return _three(self, self.find(sep), sep, found_last=False)

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        return _three(self, self.rfind(sep), sep, found_last=True)

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        if not str.__contains__(self, old):
            return self
        return join(new, self.split(old, count)) if old else self._interspersed(new, operator.index(count))

    def _interspersed(self, new: str, count: int) -> str:
        """With `new` before each character and behind the last, `count` times at most."""
        places = len(self) + 1 if count < 0 else count
        pieces = [new * (place < places) + char for place, char in enumerate([*self, ""])]
        return join("", pieces)

    def join(self, values: Iterable[str], /) -> str:
        return join(self, list(values))

    def lower(self) -> str:
        return mapped(self, str.lower(self))

    def upper(self) -> str:
        return respelled(self, str.upper)

    def title(self) -> str:
        return mapped(self, str.title(self))

    def capitalize(self) -> str:
        return mapped(self, str.capitalize(self))

    def swapcase(self) -> str:
        return mapped(self, str.swapcase(self))

    def casefold(self) -> str:
        return respelled(self, str.casefold)

    def translate(self, table: Any, /) -> str:
        return join("", [_looked_up(table, char) for char in self])

    def ljust(self, width: SupportsIndex, fill: str = " ", /) -> str:
        return join("", [self, fill * (len(str.ljust(self, width, fill)) - len(self))])

    def rjust(self, width: SupportsIndex, fill: str = " ", /) -> str:
        return join("", [fill * (len(str.rjust(self, width, fill)) - len(self)), self])

    def center(self, width: SupportsIndex, fill: str = " ", /) -> str:
        blanks = len(str.center(self, width, fill)) - len(self)
        left = blanks // 2 + (blanks & operator.index(width) & 1)  # as CPython divides an odd number
        return join("", [fill * left, self, fill * (blanks - left)])

    def zfill(self, width: SupportsIndex, /) -> str:
        sign = int(self.startswith(("+", "-")))
        return join("", [self[:sign], "0" * (len(str.zfill(self, width)) - len(self)), self[sign:]])

    def expandtabs(self, tabsize: SupportsIndex = 8) -> str:
        pieces: list[str] = []
        column, size = 0, operator.index(tabsize)
        for char in self:
            blanks = " " * (size - column % size if size > 0 else 0)
            piece = respelled(char, {"\t": blanks}.__getitem__) if char == "\t" else char
            pieces.append(piece)
            column = 0 if char in "\r\n" else column + len(piece)
        return join("", pieces)

    def format(self, *args: Any, **kwargs: Any) -> str:
        return coarse(str.format(self, *args, **kwargs), [self, args, kwargs])

    def format_map(self, mapping: Any, /) -> str:
        return coarse(str.format_map(self, mapping), [self, mapping])


def make(text: str, runs: Runs) -> Traced:
    """`text` with `runs`, whose sizes add up to its length."""
    traced = str.__new__(Traced, text)
    traced._runs = runs
    return traced


def literal(text: str) -> Traced:
    return text if isinstance(text, Traced) else make(text, runs_of(text))


def content(text: str, field: Field) -> Traced:
    return make(text, (Run(len(text), field, 0, None, False),) if text else ())


def plain(text: str) -> str:
    """The same characters in an exact `str`."""
    return "".join((str.__getitem__(text, slice(None)),)) if isinstance(text, Traced) else str(text)


def runs_of(text: str) -> Runs:
    if isinstance(text, Traced):
        return text._runs
    return (Run(len(text), None, -1, None, False),) if text else ()


def cut(text: Traced, start: int, stop: int) -> Traced:
    """`text[start:stop]` with its runs, for 0 <= start <= stop <= len(text)."""
    return text if start == 0 and stop == len(text) else next(cuts(text, [(start, stop)]))


def cuts(text: Traced, places: Iterable[tuple[int, int]]) -> Iterator[Traced]:
    """Several such pieces, none of which begins before the one in front of it; the runs are gone through once."""
    all_runs, first, position = text._runs, 0, 0
    for start, stop in places:
        while first < len(all_runs) and position + all_runs[first].size <= start:
            position += all_runs[first].size
            first += 1
        runs, number, left = [], first, position
        while number < len(all_runs) and left < stop:
            run = all_runs[number]
            inside = max(start - left, 0)
            size = min(stop - left, run.size) - inside
            if size > 0:
                runs.append(
                    Run(size, run.field, run.offset + inside if run.offset >= 0 else -1, run.owner, run.generated)
                )
            left += run.size
            number += 1
        yield make(str.__getitem__(text, slice(start, stop)), tuple(runs))


_JOINS: dict[type, Callable[[str, Runs, str, list[str]], Traced]] = {}


def on_join(kind: type, make_joined: Callable[[str, Runs, str, list[str]], Traced]) -> None:
    """Let a subclass of `Traced` say what a join becomes in which one of its strings takes part."""
    _JOINS[kind] = make_joined


def join(separator: str, values: list[str]) -> str:
    if not isinstance(separator, Traced) and not any(isinstance(value, Traced) for value in values):
        return str.join(separator, values)
    between, runs = runs_of(separator), list[Run]()
    for number, value in enumerate(values):
        if number:
            runs.extend(between)
        runs.extend(runs_of(value))
    text = str.join(separator, values)
    for kind, make_joined in _JOINS.items():
        if isinstance(separator, kind) or any(isinstance(value, kind) for value in values):
            return make_joined(text, tuple(runs), separator, values)
    return make(text, tuple(runs))


def text_of(value: object) -> str:
    """A value as it is printed."""
    return value if isinstance(value, str) else coarse(str(value), value)


def coarse(text: str, sources: object) -> str:
    """`text` made from `sources` by an operation that keeps no positions: one run with their common field.

    Raises:
        OriginLost: the origin of the text cannot be told.
    """
    run = common_run(len(text), sources)
    if run is None:
        return plain(text)
    return make(plain(text), (run,) if text else ())


def respelled(text: str, spell: Callable[[str], str]) -> str:
    """`text` under a function that looks at each character by itself and drops none."""
    pieces, runs, position = [], [], 0
    for run in runs_of(text):
        piece = spell(str.__getitem__(text, slice(position, position + run.size)))
        position += run.size
        pieces.append(piece)
        runs.append(run if len(piece) == run.size else run._replace(size=len(piece), offset=-1))
    return make("".join(pieces), tuple(runs))


def mapped(text: Traced, result: str) -> str:
    """The result of a function that makes one character or more of each; where of one each, character by character."""
    return make(plain(result), text._runs) if len(result) == len(text) else coarse(result, text)


def _looked_up(table: Any, char: str) -> str:
    """What `str.translate` puts in the place of a character."""
    try:
        found = table[ord(char)]
    except LookupError:
        return char
    if isinstance(found, int):
        raise OriginLost("it makes a character of a number")
    return "" if found is None else found


def located(text: Traced, pieces: list[str], separator: str | None = None) -> list[str]:
    """Map exact pieces back onto the text that they were cut from: blanks lie between them, or separators."""
    places: list[tuple[int, int]] = []
    position = 0
    for piece in pieces:
        start = str.find(text, piece, position) if separator is None else position
        places.append((start, start + len(piece)))
        position = start + len(piece) + len(separator or "")
    return list(cuts(text, places))


def _three(text: Traced, at: int, separator: str, *, found_last: bool) -> tuple[str, str, str]:
    if at < 0:
        return ("", "", text) if found_last else (text, "", "")
    end = at + len(separator)
    return cut(text, 0, at), cut(text, at, end), cut(text, end, len(text))


def with_runs(text: str, runs: Runs) -> Traced:
    """The same text with other runs of the same sizes."""
    return text._with(runs) if isinstance(text, Traced) else tr.make(text, runs)
