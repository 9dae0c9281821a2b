"""Errors and rejected rows: what was found, where, what was expected, and the fix.

InstructFmtError
├── UsageError          an option, a name or a call that cannot work (command line: exit 2)
│   └── ConfigError     a configuration file that does not fit its schema
├── TemplateError       a template that does not compile, or that cannot be used as asked
├── TokenizerError      a tokenizer that cannot be loaded or lacks what is needed
└── DataError           data that cannot be used (command line: exit 1)
    ├── RowError        one row; inner stages raise it without the row's number, the outer layer adds it
    ├── TooManyRejected more rows were rejected than `max_rejected` allows
    └── NothingToLearn  not one token of the whole dataset would be trained
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class InstructFmtError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        where: the option, the file with its line, or the row that it is about; a whole message where it stands alone.
        found: what was there.
        expected: what would have been right.
        fix: what the user can do.

    >>> str(InstructFmtError("max_length", 0, "at least 1", "leave it out"))
    'max_length: found 0; expected at least 1; fix: leave it out'
    """

    def __init__(self, where: object = "", found: object = "", expected: object = "", fix: object = "") -> None:
        super().__init__(*(str(part) for part in (where, found, expected, fix)))
        self.where, self.found, self.expected, self.fix = self.args

    def __str__(self) -> str:
        return message(self.where, self.found, self.expected, self.fix)


def message(where: str, found: str, expected: str, fix: str) -> str:
    """The one form of all messages; a part that is empty is left out."""
    parts = [
        f"found {found}" if found else "",
        f"expected {expected}" if expected else "",
        f"fix: {fix}" if fix else "",
    ]
    said = "; ".join(part for part in parts if part)
    return ": ".join(part for part in (where, said) if part)


class UsageError(InstructFmtError):
    """An option, a name or a call that cannot work."""


class ConfigError(UsageError):
    """A configuration that does not fit its schema."""


class TemplateError(InstructFmtError):
    """A template that does not compile, or that cannot be used as asked."""


class TokenizerError(InstructFmtError):
    """A tokenizer that cannot be loaded or that lacks what is needed."""


class DataError(InstructFmtError):
    """Data that cannot be used."""


class Change(NamedTuple):
    """A change of the call that may cure a row: `code` as Python writes it, what it does, and the settings it adds to.

    A mapping or a tuple among the settings is added to what is there; anything else takes its place.
    """

    code: str
    about: str
    settings: Mapping[str, Any]


def option(name: str, value: Any, about: str) -> Change:
    """The change of one option.

    >>> option("history", "expand", "makes one row of each turn").code
    'history="expand"'
    """
    code = f'{name}="{value}"' if isinstance(value, str) else f"{name}={value!r}"
    return Change(code, about, {name: value})


def let_go(name: str) -> Change:
    """The change that lets a role or a field be left out."""
    return Change(f"allow_dropped=[{name!r}]", "lets it go", {"allow_dropped": (name,)})


class RowError(DataError):
    """One row that cannot be encoded.

    Args:
        reason: the reason code, a word of `REASONS`.
        path: the JSON path of the field inside the row, such as ``$.messages[2].content``.
        found: what was there.
        expected: what would have been right.
        fix: what the user can do.
        row: the row's index in the dataset; inner stages leave it out, the outer layer adds it.
        changes: changes of the call that are worth trying on the row; what works is named in place of `fix`.
    """

    def __init__(
        self,
        reason: str,
        path: str,
        found: str,
        expected: str,
        fix: str,
        row: int | None = None,
        changes: Sequence[Change] = (),
    ) -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown reason code {reason!r}")
        super().__init__(path, found, expected, fix)
        self.reason, self.path, self.row = reason, path, row
        self.changes = tuple(changes)

    def __reduce__(self) -> Any:
        return RowError, (self.reason, self.path, self.found, self.expected, self.fix, self.row, self.changes)

    def __str__(self) -> str:
        where = "" if self.row is None else f"row {self.row}, "
        return message(f"{where}{self.path}: {self.reason}", self.found, self.expected, self.fix)


class TooManyRejected(DataError):
    """More rows were rejected than `max_rejected` allows.

    Attributes:
        rejected: all of them, where the whole run is known.
    """

    rejected: Sequence[Rejection] = ()


class NothingToLearn(DataError):
    """Not one token of the whole dataset would be trained."""


REASONS: dict[str, str] = {
    "bad-row": "a line of the file is no row",
    "too-large": "the row has more text than any example needs",
    "bad-field": "a field has the wrong type or is missing",
    "null-field": "a field that must hold text is null",
    "bad-role": "a message has no role",
    "unknown-role": "a message has a role that nobody knows",
    "not-preferred": "the row is an example of what not to write",
    "bad-tools": "tools or tool arguments cannot be read",
    "media": "images, audio and video in content are not supported",
    "no-messages": "the conversation is empty",
    "no-trained-turn": "no message is to be trained",
    "template-raised": "the template refused the row",
    "template-budget": "the template used more iterations or output than it may",
    "origin-lost": "the template does something to the row's text that its origin does not survive",
    "text-differs": "the traced rendering differs from the plain one",
    "prompt-not-prefix": "the generation prompt is not a prefix of the training text",
    "no-prompt": "the template cannot be asked for the turn: it writes a header that its prompt lacks",
    "no-turn": "the generation prompt asks for nobody, or for another role",
    "prefill-unknown": "the generation prompt begins the turn with words that the template does not write",
    "empty-reasoning": "the prompt opens a block of reasoning that neither the row nor the template fills or closes",
    "reasoning-closed": "the row has reasoning, and the prompt has closed its block",
    "block-twice": "a block of reasoning would be opened twice",
    "field-order": "the template writes the reasoning of a turn behind its answer",
    "guard": "words of the template stand between the turn and its stop",
    "start-unknown": "where the trained turn starts could not be proven",
    "field-dropped": "a part of the row would be left out of the text",
    "foreign-text": "text of another speaker lies inside a trained span",
    "history-rewritten": "the template writes the turn differently once it is history",
    "control-token": "text of the row holds a control token",
    "bad-text": "the text cannot be encoded",
    "offsets": "the tokens could not be aligned with the text",
    "over-length": "the row is longer than max_length",
    "nothing-to-learn": "no token of the row would be trained",
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that was left out, and why. The fields are those of `RowError`.

    Attributes:
        row: its index in the dataset, as `dataset[row]` gives it; None for what is no row at all, whose file and line
            `path` names.
    """

    row: int | None
    reason: str
    path: str
    found: str
    expected: str
    fix: str

    @classmethod
    def from_error(cls, error: RowError, row: int | None) -> Rejection:
        return cls(row, error.reason, error.path, error.found, error.expected, error.fix)

    def to_error(self) -> RowError:
        return RowError(self.reason, self.path, self.found, self.expected, self.fix, self.row)

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def in_order(rejection: Rejection) -> int:
    """The key by which rejections are sorted: what is no row comes first."""
    return -1 if rejection.row is None else rejection.row


def shown(value: object, limit: int = 80) -> str:
    """A short `repr` for an error message."""
    try:
        text = repr(value[: limit + 1] if isinstance(value, str) else value)
    except Exception:  # noqa: BLE001 - a row may hold an object whose `repr` does anything
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= limit else text[: limit - 1] + "…"
