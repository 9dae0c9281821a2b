"""Where a template comes from: a name, a path, a text, or the tokenizer in; a `TemplateSource` out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

from instruct_fmt.common.files import expanded, is_name, read_whole
from instruct_fmt.common.names import ANSWERS, nearest_name
from instruct_fmt.errors import TemplateError, UsageError, shown
from instruct_fmt.template.source.format_string import has_plain_fields, to_jinja
from instruct_fmt.template.source.variables import find_variables
from instruct_fmt.types import TemplateSource

"""Columns that are trained by their name."""

_MAX_BYTES, _LONGEST_NAME = 2_000_000, 4096
_SUFFIXES = (".jinja", ".jinja2", ".j2", ".txt")
_JINJA_MARK = "{# jinja +#}"  # the + keeps the line end behind it
_CHOICES = (
    "a library name (see names()), Jinja text, a path to a .jinja file, "
    r"or a format string such as 'USER: {instruction}\nASSISTANT: {output}'"
)


def load(
    template: str | os.PathLike[str] | None, tokenizer_template: str | Mapping[str, str] | None = None
) -> TemplateSource:
    """Find a template and read what it asks for.

    Tried in this order: the tokenizer's own template (None), the library, the tokenizer's named templates,
    files, Jinja text, format strings. The `text` of the result, loaded again, gives the same template.

    Args:
        template: a name, a path, a text, or None for the tokenizer's own.
        tokenizer_template: the tokenizer's `chat_template`: a text, or several texts by name.

    Raises:
        UsageError: nothing of that name, a text that is no template, or a tokenizer without one.
        TemplateError: a template that does not parse, or that asks for nothing.

    >>> load("Q: {question} A: {answer}").columns
    ('question', 'answer')
    """
    if template is None:
        return replace(_of_tokenizer(tokenizer_template), own=True)
    if isinstance(template, os.PathLike):
        return _of_file(Path(template))
    if not isinstance(template, str):
        raise UsageError(f"template is a {type(template).__name__}; expected {_CHOICES}")
    if template in names():
        return show(template)
    if isinstance(tokenizer_template, Mapping) and template in tokenizer_template:
        return _source(_as_jinja(tokenizer_template[template]), template, "tokenizer")
    if _is_path(template):
        return _of_file(Path(template))
    return _of_text(template, "<string>", "text")


def names() -> list[str]:
    """The names of the library's templates, sorted.

    >>> "alpaca" in names()
    True
    """
    return sorted(_library())


def show(name: str) -> TemplateSource:
    """A template of the library; `origin` is the first line of its comment.

    Raises:
        UsageError: the library has no such template.

    >>> show("completion").columns
    ('prompt', 'completion')
    """
    if name not in _library():
        raise UsageError(_unknown(name))
    text = _library()[name]
    return _source(text, name, text.removeprefix("{#-").split("\n", 1)[0].strip())


def answer_column(
    source: TemplateSource, columns: Mapping[str, str], available: Sequence[str] | None, train_on: object
) -> tuple[str, ...]:
    """The columns of a record template that are trained, by the template's names.

    Args:
        source: a record template.
        columns: the template's name of a column → the dataset's.
        available: the dataset's columns, where they are known; they decide between two answers by name.
        train_on: "assistant" (the answer by its name), "last" (the column written last), "all" (the whole text; its
            answer is the column written last), or a list of columns.

    Returns:
        The names in the order of the template; () where a `{% generation %}` block says what is trained.

    Raises:
        UsageError: the trained column cannot be told, or is not in the template; lists the columns.

    >>> answer_column(load("alpaca"), {}, None, "assistant")
    ('output',)
    """
    if train_on in ("last", "all"):
        last = find_variables(source.text, source.name).last
        return (last if last is not None else source.columns[-1],)
    if train_on == "assistant":
        block = find_variables(source.text, source.name).generation
        return () if block else (_by_name(source, columns, available),)
    if isinstance(train_on, str) or not isinstance(train_on, Sequence) or not train_on:
        raise UsageError(
            f'train_on is {shown(train_on)}; expected "assistant", "last", "all", or a list of columns; '
            f"{_listing(source)}"
        )
    chosen = {_template_name(source, columns, name) for name in train_on}
    return tuple(name for name in source.columns if name in chosen)


def _by_name(source: TemplateSource, columns: Mapping[str, str], available: Sequence[str] | None) -> str:
    """The one answer among the template's names, else among the dataset's names that they are mapped to."""
    found = [name for name in source.columns if name.lower() in ANSWERS]
    if not found:
        found = [name for name in source.columns if columns.get(name, name).lower() in ANSWERS]
    if len(found) > 1 and available is not None:
        found = [name for name in found if columns.get(name, name) in available] or found
    if len(found) == 1:
        return found[0]
    raise UsageError(
        f"template {source.name} has {'no column' if not found else ' and '.join(found)} named as an answer; "
        f"expected exactly one of {', '.join(ANSWERS)}; {_listing(source)}; "
        f'say which is trained, such as train_on=["{(found or source.columns)[-1]}"]'
    )


def _template_name(source: TemplateSource, columns: Mapping[str, str], name: object) -> str:
    """The template's name of a column that the user calls by either name."""
    for own in source.columns:
        if name == own:
            return own
    for own in source.columns:
        if name == columns.get(own):
            return own
    near = nearest_name(str(name), source.columns)
    hint = "" if near is None else f"; did you mean {near}?"
    raise UsageError(f"train_on names {shown(name)}, which template {source.name} lacks; {_listing(source)}{hint}")


def _listing(source: TemplateSource) -> str:
    return f"the template's columns are {', '.join(source.columns)}"


@cache
def _library() -> Mapping[str, str]:
    folder = files("instruct_fmt") / "template" / "library"
    return {
        entry.name.removesuffix(".jinja"): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".jinja")
    }


def _of_tokenizer(template: str | Mapping[str, str] | None) -> TemplateSource:
    if not template:
        raise UsageError(f"no template was given and the tokenizer has no chat template; pass template=: {_CHOICES}")
    if isinstance(template, str):
        return _chat(_source(_as_jinja(template), "chat_template", "tokenizer"))
    if "default" not in template:
        raise UsageError(
            f"the tokenizer has the chat templates {', '.join(template)} and none called default; "
            f'pass the name of one, such as template="{next(iter(template))}"'
        )
    others = [name for name in template if name != "default"]
    origin = f"tokenizer (default; also has {', '.join(others)})" if others else "tokenizer"
    return _chat(_source(_as_jinja(template["default"]), "chat_template", origin))


def _chat(source: TemplateSource) -> TemplateSource:
    if source.kind != "chat":
        raise TemplateError(
            "the tokenizer's chat template does not use `messages`; expected a template over a conversation; "
            f"pass template=: {_CHOICES}"
        )
    return source


def _is_path(text: str) -> bool:
    """A path is a file that exists, or a text with a template's suffix and nothing that only texts have."""
    try:
        exists = expanded(text).is_file() if is_name(text) and len(text) < _LONGEST_NAME else False
    except (OSError, UsageError):  # a text that is no file's name
        exists = False
    return exists or (text.endswith(_SUFFIXES) and "{" not in text and "\n" not in text)


def _of_file(path: Path) -> TemplateSource:
    path = expanded(path)
    if path.suffix == ".json":
        raise UsageError(
            f"{path} is a JSON file; expected a template's text (.jinja, .txt); "
            "pass the tokenizer's folder as tokenizer= and leave template out to use its own template"
        )
    try:
        text = read_whole(path, _MAX_BYTES).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise UsageError(
            f"template {path} cannot be read ({error.strerror}); expected a readable file; correct the path"
        ) from error
    except UnicodeDecodeError as error:
        raise TemplateError(f"template {path} is not UTF-8 ({error.reason}); save it as UTF-8") from error
    if path.suffix in (".jinja", ".jinja2", ".j2"):
        return _source(_as_jinja(text), str(path), f"file {path}")
    # Editors end a file with a line end that nobody means; Jinja drops one as well
    return _of_text(text.removesuffix("\n"), str(path), f"file {path}")


def _of_text(text: str, name: str, origin: str) -> TemplateSource:
    if "{%" in text or "{#" in text:
        return _source(text, name, origin)
    if "{" not in text:
        raise UsageError(_unknown(text))
    if "{{" not in text or not _is_jinja(text):
        return _source(to_jinja(text), name, f"{origin}, a format string")
    return _source(text, name, origin)


def _is_jinja(text: str) -> bool:
    """Decide about a text with `{{`: Jinja, or a format string with escaped braces."""
    if not has_plain_fields(text):
        return True
    try:
        free = find_variables(text, "<string>")
    except TemplateError:
        return False
    if free.chat or free.columns:
        raise UsageError(
            f"the template {shown(text)} reads both as Jinja, with {{{{ name }}}}, and as a format string, "
            "with {name}; expected one of them; put {# jinja #} in front of it, "
            "or write every column with single braces"
        )
    return False


def _as_jinja(text: str) -> str:
    """The text, marked as Jinja if nothing in it says so; the mark renders to nothing."""
    return text if "{%" in text or "{#" in text else _JINJA_MARK + text


def _source(text: str, name: str, origin: str) -> TemplateSource:
    found = find_variables(text, name)
    if found.chat:
        return TemplateSource(
            text,
            "chat",
            name,
            origin,
            variables=frozenset(found.columns),
            roles=found.roles,
            mentioned=found.mentioned,
        )
    if not found.columns:
        raise TemplateError(
            f"template {name} uses neither `messages` nor any column; "
            "expected {{ instruction }} or the like; name the dataset's columns in it"
        )
    return TemplateSource(text, "record", name, origin, found.columns, found.optional)


def _unknown(name: str) -> str:
    near = nearest_name(name, names())
    hint = f"the library has {', '.join(names())}" if near is None else f"did you mean {near}?"
    expected = f"{_CHOICES}, or none for the tokenizer's own"
    return f"there is no template {shown(name)}; expected {expected}; {hint}"
