"""Kinds of options: what a value must be, and how it is checked.

In: an option's name and what was given for it. Out: the value as it is kept, or a `UsageError` with the fix.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from instruct_fmt.common.loss_weights import problem_of
from instruct_fmt.common.names import nearest_name
from instruct_fmt.errors import UsageError, shown

FORM_PARTS = ("reasoning", "content", "calls")
MAX_DEPTH = 60


class Kind(Protocol):
    """What a value must be."""

    def checked(self, name: str, value: Any) -> Any:
        """The value as it is kept.

        Raises:
            UsageError: it cannot work.
        """


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words.

    Attributes:
        meanings: each word, and what it does.
        none: whether it may be left open.
        spelled: other values for some of the words.
    """

    meanings: Mapping[str, str]
    none: bool = False
    spelled: Mapping[Any, str] = field(default_factory=dict)

    def checked(self, name: str, value: Any) -> Any:
        if isinstance(value, bool) and value in self.spelled:
            value = self.spelled[value]
        if (value is None and self.none) or (isinstance(value, str) and value in self.meanings):
            return value
        near = nearest_name(str(value), self.meanings) or next(iter(self.meanings))
        raise UsageError(name, f"{value!r}", f"one of {', '.join(self.meanings)}", f"{name}={near!r}")


@dataclass(frozen=True, slots=True)
class Names:
    """A mapping of names to names; with `values`, to any plain data."""

    values: bool = False

    def checked(self, name: str, value: Any) -> Any:
        what = "a dict of names to values" if self.values else "a dict of names to names"
        found = {} if value is None else value
        if not isinstance(found, Mapping) or not all(
            isinstance(key, str) and (self.values or isinstance(item, str)) for key, item in found.items()
        ):
            raise UsageError(name, f"{shown(value)}", what, f"{name}={{…}}")
        for item in found.values():
            _check_whole(name, item)
        return dict(found)


@dataclass(frozen=True, slots=True)
class Weights:
    """A mapping of parts of a turn, or patterns in slashes, to numbers.

    Attributes:
        meanings: each part, and what it is.
    """

    meanings: Mapping[str, str]

    def checked(self, name: str, value: Any) -> Any:
        found = {} if value is None else value
        what = f"numbers for {', '.join(self.meanings)}, or for regular expressions in slashes"
        fix = f'{name}={{"reasoning": 0, "/[0-9]+/": 2}}'
        if not isinstance(found, Mapping):
            raise UsageError(name, shown(value), what, fix)
        for key, weight in found.items():
            if (problem := problem_of(key, weight)) is not None:
                near = nearest_name(str(key), self.meanings)
                raise UsageError(
                    name, problem, what, fix if near in (None, key) else f"{name}={{{near!r}: {weight!r}}}"
                )
        return {str(key): float(weight) for key, weight in found.items()}


@dataclass(frozen=True, slots=True)
class Texts:
    """A text, or several."""

    def checked(self, name: str, value: Any) -> Any:
        found = (value,) if isinstance(value, str) else () if value is None else value
        if not isinstance(found, Sequence | set | frozenset) or not all(isinstance(item, str) for item in found):
            raise UsageError(name, f"{shown(value)}", "a text or a list of texts", f"{name}=[…]")
        for item in found:
            _check_whole(name, item)
        return tuple(str(item) for item in found)


@dataclass(frozen=True, slots=True)
class Text:
    """A text, or nothing."""

    def checked(self, name: str, value: Any) -> Any:
        if value is not None and not isinstance(value, str):
            raise UsageError(name, f"{shown(value)}", "a text", f"leave {name} out")
        _check_whole(name, value)
        return value


@dataclass(frozen=True, slots=True)
class Form:
    """A completion's form, which names some of the parts of a turn; or nothing."""

    def checked(self, name: str, value: Any) -> Any:
        form = Text().checked(name, value)
        if form is None:
            return None
        fix = f'{name}="<think>\\n{{reasoning}}\\n</think>\\n\\n{{content}}"; literal braces are doubled'
        try:
            parts = list(string.Formatter().parse(form))
        except (ValueError, TypeError) as error:
            raise UsageError(f"{name}: {error}; found {shown(form)}; fix: {fix}") from error
        if "\\n" in form:
            raise UsageError(
                name,
                f"a backslash and an n in {shown(form)}",
                "line breaks",
                "in YAML write it in double quotes, on a command line as $'…'",
            )
        names = [part for _, part, spec, conversion in parts if part is not None]
        plain = all(not spec and not conversion for _, _, spec, conversion in parts)
        if "content" not in names or not plain or len(set(names)) < len(names) or set(names) - set(FORM_PARTS):
            raise UsageError(
                name, f"{shown(form)}", "{content}, and {reasoning} and {calls} where wanted, each once", fix
            )
        return form


@dataclass(frozen=True, slots=True)
class Trained:
    """One of some words, or a list of names."""

    meanings: Mapping[str, str]

    def checked(self, name: str, value: Any) -> Any:
        if not isinstance(value, str):
            return Texts().checked(name, value)
        if value not in self.meanings:
            near = nearest_name(value, self.meanings)
            words = ", ".join(map(repr, self.meanings))
            raise UsageError(
                name,
                f"{value!r}",
                f"{words}, or a list of roles or columns",
                f"{name}={repr(near) if near is not None else [value]}",
            )
        return value


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number from 1 on, or nothing."""

    of: str

    def checked(self, name: str, value: Any) -> Any:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UsageError(
                name, f"{value!r}", f"a whole number of {self.of}, at least 1", "leave it out for no limit"
            )
        return value


@dataclass(frozen=True, slots=True)
class Share:
    """A number between 0 and 1."""

    def checked(self, name: str, value: Any) -> Any:
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UsageError(name, f"{value!r}", "a share between 0 and 1", "0.01 is 1 %")
        return value


@dataclass(frozen=True, slots=True)
class Moment:
    """A date and time, or nothing."""

    def checked(self, name: str, value: Any) -> Any:
        if value is not None and not isinstance(value, datetime):
            raise UsageError(name, f"{shown(value)}", "a datetime", "datetime(2025, 1, 31)")
        return value


def _check_whole(name: str, value: object, depth: int = 0) -> None:
    """Refuse half a surrogate pair in an option, and values too deep to look through."""
    if depth > MAX_DEPTH:
        raise UsageError(name, f"values nested more than {MAX_DEPTH} deep", "plain data", "make it flatter")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UsageError(name, f"{shown(value)}, which holds half a surrogate pair", "text", "correct it") from None
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_whole(name, key, depth + 1)
            _check_whole(name, item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_whole(name, item, depth + 1)
