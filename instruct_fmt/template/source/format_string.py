r"""Format strings such as ``USER: {instruction}\nASSISTANT: {output}``: format string in, Jinja text out.

The Jinja text writes every literal exactly and every value once. A value is never looked at again, so braces
in a row stay text.
"""

from __future__ import annotations

from string import Formatter

from instruct_fmt.errors import UsageError, shown
from instruct_fmt.template.source.variables import PROVIDED, SPECIAL_TOKENS

MARK = "{#- format string -#}"
"""Opens the Jinja text, so that it is read as Jinja when it comes in again."""

_JINJA_WORDS = frozenset(
    {
        "and",
        "or",
        "not",
        "in",
        "is",
        "if",
        "else",
        "true",
        "false",
        "none",
        "True",
        "False",
        "None",
        "loop",
        "self",
        "super",
        "caller",
        "varargs",
        "kwargs",
    }
)
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})


def to_jinja(text: str) -> str:
    r"""Jinja text that renders as the format string does.

    Args:
        text: literals and fields, a field being a column's name in braces; `{{` and `}}` stand for one brace.

    Raises:
        UsageError: a brace without its partner, a field that is no plain name, or no field at all.

    >>> to_jinja("Q: {question}\nA: {answer}")
    '{#- format string -#}{{ "Q: " }}{{ question }}{{ "\\nA: " }}{{ answer }}'
    """
    parts = _parts(text)
    if all(field is None for _, field in parts):
        raise UsageError(
            f"the format string {shown(text)} names no column; "
            "expected fields such as {instruction} and {output}; name the dataset's columns in it"
        )
    return MARK + "".join(_literal(literal) + _value(field) for literal, field in parts)


def has_plain_fields(text: str) -> bool:
    """Whether `to_jinja` accepts the text."""
    try:
        return any(field is not None for _, field in _parts(text))
    except UsageError:
        return False


def _parts(text: str) -> list[tuple[str, str | None]]:
    """Literals and the fields behind them; the last literal has none."""
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise UsageError(
            f"the format string {shown(text)} has a brace without its partner ({error}); "
            "expected fields such as {instruction}; write {{ or }} for a brace that is text, or use Jinja"
        ) from error
    return [
        (literal, None if field is None else _checked(field, spec, conversion))
        for literal, field, spec, conversion in parsed
    ]


def _checked(field: str, spec: str | None, conversion: str | None) -> str:
    written = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
    if conversion or spec or not field.isidentifier():
        raise UsageError(
            f"the format string has the field {shown('{' + written + '}')}; "
            "expected the plain name of a column, such as {instruction}; "
            """for another name pass columns={"instruction": "the dataset's name"}, """
            "for braces that are text write {{ and }}, for anything else use Jinja"
        )
    if field in _JINJA_WORDS or field in PROVIDED - SPECIAL_TOKENS:
        raise UsageError(
            f"the format string has the field {{{field}}}, a name that Jinja keeps for itself; "
            f'expected another one; write {{{field}_}} and pass columns={{"{field}_": "{field}"}}'
        )
    return field


def _literal(text: str) -> str:
    """Jinja decodes escapes and keeps everything else between quotes, except line ends."""
    return f'{{{{ "{text.translate(_ESCAPES)}" }}}}' if text else ""


def _value(field: str | None) -> str:
    return "" if field is None else f"{{{{ {field} }}}}"
