"""Where in a template's text an error comes from: its line and column, and the line itself with a caret under the spot.

In: the text and an error of Jinja's, which knows the line at most. Out: a `Spot`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import jinja2
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser

from instruct_fmt.errors import TemplateError

_WIDTH = 100
# A text is parsed a second time to find the column; of a longer one the line has to do.
_PARSED_AGAIN = 100_000
_AT = re.compile(r" at ([0-9]+)\Z")
_NAMED = re.compile(r"'([^']+)'")


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a template.

    Attributes:
        line, column: counted from 1.
        text: the line.
    """

    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"

    @property
    def shown(self) -> str:
        """The line, or what is around the spot in a long one, and a caret under the spot."""
        at = self.column - 1
        start = max(0, min(at - _WIDTH // 2, len(self.text) - _WIDTH))
        part = self.text[start : start + _WIDTH].replace("\t", " ")
        return f"  {part}\n  {' ' * (at - start)}^"

    @property
    def code(self) -> str:
        """What stands at the spot, in one line."""
        return self.text[self.column - 1 :][: _WIDTH // 2].strip()


def spot_at(text: str, offset: int) -> Spot:
    """The place of a character."""
    before = text[:offset]
    line = before.count("\n") + 1
    start = before.rfind("\n") + 1
    end = text.find("\n", offset)
    return Spot(line, offset - start + 1, text[start : len(text) if end < 0 else end])


def spot_in_line(text: str, line: int, *marks: str) -> Spot:
    """The first of some marks in a line, else its first character that is no blank."""
    lines = text.split("\n")
    number = min(max(line, 1), len(lines))
    found = lines[number - 1]
    column = next((found.find(mark) for mark in marks if mark and mark in found), len(found) - len(found.lstrip()))
    return Spot(number, column + 1, found)


def spot_of_syntax_error(environment: jinja2.Environment, text: str, error: jinja2.TemplateSyntaxError) -> Spot:
    """Where a text does not parse, or names what is not there."""
    at = _AT.search(error.message or "")
    if at is not None:
        return spot_at(text, min(int(at[1]), max(len(text) - 1, 0)))
    offset = _offset_of_token(environment, text) if len(text) <= _PARSED_AGAIN else None
    if offset is not None:
        return spot_at(text, offset)
    return spot_in_line(text, error.lineno, *_NAMED.findall(error.message or ""), "{%", "{{")


def _offset_of_token(environment: jinja2.Environment, text: str) -> int | None:
    """The offset of the token at which the parser gives up; None where it does not."""
    taken: list[Token | None] = []

    def counted(tokens: TokenStream) -> Iterator[Token]:
        try:
            for token in tokens:
                taken.append(token)
                yield token
        except jinja2.TemplateSyntaxError:
            taken.append(None)  # what follows is no token
            raise
        except ValueError:  # Python's limit on the digits of a number, met one token ahead
            taken.extend((None, None))
            raise

    try:
        parser = Parser(environment, "")
        parser.stream = TokenStream(counted(environment._tokenize(text, None, None)), None, None)
        parser.parse()
    except (jinja2.TemplateSyntaxError, ValueError):
        return _offset(environment, text, len(taken) - 1)
    return None


def _offset(environment: jinja2.Environment, text: str, number: int) -> int | None:
    """Where the token of that number begins, those that the parser does not see left out."""
    unseen = ("whitespace", "comment_begin", "comment", "comment_end", "raw_begin", "raw_end", "linecomment")
    at, count = 0, 0
    try:
        for _, kind, value in environment.lex(text):
            found = text.find(value, at)
            at = found if found >= 0 else at
            if kind not in unseen:
                if count == number:
                    return at
                count += 1
            at += len(value) if found >= 0 else 0
    except jinja2.TemplateSyntaxError:
        return at + len(text[at:]) - len(text[at:].lstrip())
    return len(text.rstrip()) - 1 if text.strip() else None


def syntax_error(error: jinja2.TemplateSyntaxError, spot: Spot, name: str) -> TemplateError:
    """What to say of a text that is no template."""
    return TemplateError(
        f"template {name}, {spot}",
        f"text that cannot be read ({(error.message or '').rstrip('.')})",
        "Jinja as transformers' chat templates use it",
        f"correct the template here:\n{spot.shown}",
    )


def line_of_raise(template: jinja2.Template, error: BaseException) -> int | None:
    """The line of a template that was running when an error was raised; None where none of its own was."""
    trace, line = error.__traceback__, None
    code = template.root_render_func.__globals__
    while trace is not None:
        if trace.tb_frame.f_globals is code:
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line
