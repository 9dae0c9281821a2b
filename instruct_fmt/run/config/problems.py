"""What does not fit in a configuration, collected so that one message names all of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from instruct_fmt.errors import ConfigError, shown

__all__ = ["Problems", "problem", "say"]


def problem(file: str, key: str, found: str, expected: str, fix: str) -> ConfigError:
    """The error for one key; without a key, for the whole file."""
    where = f"{file}: {key}" if key else file
    return ConfigError(f"{where}: found {found}; expected {expected}; fix: {fix}")


@dataclass(slots=True)
class Problems:
    """The problems of one file.

    Attributes:
        file: its name, or the change of it that was asked for.
        lines: one for each problem.
        left: keys that are left to the trainer.
    """

    file: str
    lines: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def add(self, key: str, found: str, expected: str, fix: str) -> None:
        """One more."""
        self.lines.append(str(problem(self.file, key, found, expected, fix)))

    def check(self) -> None:
        """Raise all of them.

        Raises:
            ConfigError: there is one.
        """
        if self.lines:
            raise ConfigError("\n".join(dict.fromkeys(self.lines)))


def say(found: dict[str, Any], ours: str, value: Any, key: str, problems: Problems) -> None:
    """Set what `key` says in our words; a problem where something else is said already.

    >>> found, problems = {"format": "text"}, Problems("run.yaml")
    >>> say(found, "format", "alpaca", "type", problems)
    >>> found["format"], len(problems.lines)
    ('text', 1)
    """
    if found.get(ours) is None:
        found[ours] = value
    elif found[ours] != value:
        problems.add(key, f"{shown(value)} beside `{ours}: {found[ours]}`", "one of them", "take one of them out")
