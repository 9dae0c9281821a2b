"""Jinja as it comes, with the settings of chat templates: the reference for template texts."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    return environment


@cache
def _compiled(text: str) -> jinja2.Template:
    return _environment().from_string(text)


def plain(text: str, **values: Any) -> str:
    """What the text prints, with BOS `<s>` and EOS `</s>`."""
    return _compiled(text).render(bos_token="<s>", eos_token="</s>", **values)


def printed(text: str, **values: Any) -> str:
    """The same without a special token, and with errors as they come: to rewrite their tracebacks takes long."""
    template = _compiled(text)
    return "".join(template.root_render_func(template.new_context(values)))
