"""The settings of a formatter: what `compile` was asked for, checked."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from instruct_fmt.common.names import nearest_name
from instruct_fmt.errors import UsageError, shown

FORM_PARTS = ("reasoning", "content", "calls")
_CHOICES: dict[str, tuple[str, ...]] = {
    "history": ("auto", "as_rendered", "last", "expand", "error"),
    "overlength": ("drop", "truncate_prompt", "truncate", "error"),
    "boundary": ("auto", "joint", "split"),
    "append_eos": ("auto", "never"),
    "prompt_mismatch": ("as_served", "error", "as_rendered"),
    "reasoning": ("keep", "strip", "field"),
    "empty_reasoning": ("error", "close"),
    "backend": ("auto", "tokenizers", "gigatoken", "fastokens"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of `compile`, with the template as text. See there for their meaning.

    Attributes:
        own_template: whether the template is the tokenizer's own, because none was given.
    """

    template: str
    template_name: str = "<string>"
    own_template: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    train_on: str | tuple[str, ...] = "assistant"
    history: str = "auto"
    max_length: int | None = None
    overlength: str = "drop"
    boundary: str = "auto"
    control_tokens: str | None = None
    append_eos: str = "auto"
    stop: tuple[str, ...] = ()
    prompt_mismatch: str = "as_served"
    reasoning: str = "keep"
    empty_reasoning: str = "error"
    completion_format: str | None = None
    max_rejected: float = 0.01
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    now: datetime | None = None
    backend: str = "auto"
    format: str | None = None
    system: str | None = None
    allow_dropped: tuple[str, ...] = ()
    field_map: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            _choice(name, getattr(self, name), choices)
        if self.control_tokens is not None:
            _choice("control_tokens", self.control_tokens, ("text", "error", "allow"))
        if self.max_length is not None and (not _is_int(self.max_length) or self.max_length < 1):
            raise UsageError(
                f"max_length: found {self.max_length!r}; expected a whole number of tokens, at least 1; "
                "fix: leave it out for no limit"
            )
        if not isinstance(self.max_rejected, int | float) or not 0 <= self.max_rejected <= 1:
            raise UsageError(
                f"max_rejected: found {self.max_rejected!r}; expected a share between 0 and 1; fix: 0.01 is 1 %"
            )
        if isinstance(self.train_on, str) and self.train_on not in ("assistant", "last", "all"):
            raise UsageError(
                f"train_on: found {self.train_on!r}; expected 'assistant', 'last', 'all', or a list of roles or "
                f"columns; fix: {_near_or_listed(self.train_on)}"
            )
        if self.completion_format is not None:
            _check_form(self.completion_format)
        if self.now is not None and not isinstance(self.now, datetime):
            raise UsageError(f"now: found {shown(self.now)}; expected a datetime; fix: datetime(2025, 1, 31)")

    def digest(self) -> str:
        """A hash of every setting but the template."""
        values = {key: value for key, value in asdict(self).items() if key not in ("template", "template_name")}
        values["now"] = self.now.isoformat() if self.now else None
        try:
            text = json.dumps(values, sort_keys=True)
        except TypeError as error:
            raise UsageError(
                f"template_kwargs: {error}; expected plain data (text, numbers, lists, dicts); fix: convert it"
            ) from error
        return hashlib.sha256(text.encode()).hexdigest()


def changed_settings(before: Settings, change: Mapping[str, Any]) -> Settings:
    """Settings with a change: a mapping and a tuple are added to what is there, anything else takes its place."""
    found: dict[str, Any] = {}
    for name, value in change.items():
        old = getattr(before, name)
        found[name] = (
            {**old, **value} if isinstance(old, Mapping) else (*old, *value) if isinstance(old, tuple) else value
        )
    return replace(before, **found)


MAX_DEPTH = 60
_MAPPINGS = ("columns", "template_kwargs", "field_map", "roles")


def settings(**arguments: Any) -> Settings:
    """Settings from the arguments of `compile`; lists become tuples, None becomes the empty value.

    Raises:
        UsageError: a value that cannot work.
    """
    for name in _MAPPINGS:
        arguments[name] = _mapping(name, arguments.get(name))
    for name in ("stop", "allow_dropped"):
        arguments[name] = _texts(name, arguments.get(name))
    for name in ("system", "completion_format", "format", "backend"):
        _check_text(name, arguments.get(name))
    if not isinstance(arguments["train_on"], str):
        arguments["train_on"] = _texts("train_on", arguments["train_on"])
    return Settings(**arguments)


def _mapping(name: str, value: object) -> dict[str, Any]:
    """An option that is a dict of names; of names to names, but for template variables, whose values are data."""
    values = name == "template_kwargs"
    what = "a dict of names to values" if values else "a dict of names to names"
    found = {} if value is None else value
    if not isinstance(found, Mapping) or not all(
        isinstance(key, str) and (values or isinstance(item, str)) for key, item in found.items()
    ):
        raise UsageError(f"{name}: found {shown(value)}; expected {what}; fix: {name}={{…}}")
    for item in found.values():
        _check_whole(name, item)
    return dict(found)


def _texts(name: str, value: object) -> tuple[str, ...]:
    """An option that is a text or several."""
    found = (value,) if isinstance(value, str) else () if value is None else value
    if not isinstance(found, Sequence | set | frozenset) or not all(isinstance(item, str) for item in found):
        raise UsageError(f"{name}: found {shown(value)}; expected a text or a list of texts; fix: {name}=[…]")
    for item in found:
        _check_whole(name, item)
    return tuple(str(item) for item in found)


def _check_text(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{name}: found {shown(value)}; expected a text; fix: leave {name} out")
    _check_whole(name, value)


def _check_whole(name: str, value: object, depth: int = 0) -> None:
    """Refuse half a surrogate pair in an option, and values too deep to look through."""
    if depth > MAX_DEPTH:
        raise UsageError(
            f"{name}: found values nested more than {MAX_DEPTH} deep; expected plain data; fix: make it flatter"
        )
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"{name}: found {shown(value)}, which holds half a surrogate pair; expected text; fix: correct it"
            ) from None
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_whole(name, key, depth + 1)
            _check_whole(name, item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_whole(name, item, depth + 1)


def _check_form(form: str) -> None:
    """A completion's form names some of the parts of a turn."""
    fix = 'completion_format="<think>\\n{reasoning}\\n</think>\\n\\n{content}"; literal braces are doubled'
    try:
        parts = list(string.Formatter().parse(form))
    except (ValueError, TypeError) as error:
        raise UsageError(f"completion_format: {error}; found {shown(form)}; fix: {fix}") from error
    if "\\n" in form:
        raise UsageError(
            f"completion_format: found a backslash and an n in {shown(form)}; expected line breaks; "
            "fix: in YAML write it in double quotes, on a command line as $'…'"
        )
    names = [name for _, name, spec, conversion in parts if name is not None]
    plain = all(not spec and not conversion for _, _, spec, conversion in parts)
    if "content" not in names or not plain or len(set(names)) < len(names) or set(names) - set(FORM_PARTS):
        raise UsageError(
            f"completion_format: found {shown(form)}; expected {{content}}, and {{reasoning}} and {{calls}} where "
            f"wanted, each once; fix: {fix}"
        )


def _near_or_listed(name: str) -> str:
    near = nearest_name(name, ("assistant", "last", "all"))
    return f"train_on={near!r}" if near is not None else f"train_on=[{name!r}]"


def _choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value in choices:
        return
    near = nearest_name(str(value), choices) or choices[0]
    raise UsageError(f"{name}: found {value!r}; expected one of {', '.join(choices)}; fix: {name}={near!r}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
