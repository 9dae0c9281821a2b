"""What does not fit in a configuration, collected so that one message names all of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from instruct_fmt.errors import ConfigError

__all__ = ["Problems", "problem"]


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
