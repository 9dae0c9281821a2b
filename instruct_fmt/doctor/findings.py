"""What the doctor found: plain values, readable in a terminal and in a notebook.

In: `Finding`s of the checks. Out: `Findings`, the errors first.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Finding", "Findings", "Level"]

Level = Literal["error", "warning", "note"]
_LEVELS: tuple[Level, ...] = ("error", "warning", "note")
_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know before a run.

    Attributes:
        level: ``error``: the run would fail or teach something wrong; ``warning``: it may; ``note``: good to know.
        code: a short name that stays the same, such as ``prompt-mismatch``.
        what: what was found.
        why: what was expected, or what follows from it.
        fix: what to do.
    """

    level: Level
    code: str
    what: str
    why: str
    fix: str

    def to_dict(self) -> dict[str, str]:
        """The fields as plain text, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Findings:
    """All findings about one formatter, the errors first.

    Attributes:
        name: what was examined.
        items: the findings.

    >>> found = Findings.of("demo", [Finding("note", "stops", "a turn ends in '</s>'", "serving stops there", "none")])
    >>> found.ok, found.codes
    (True, ('stops',))
    >>> print(str(found).splitlines()[0])
    demo: 0 errors, 0 warnings, 1 note
    """

    name: str
    items: tuple[Finding, ...]

    @classmethod
    def of(cls, name: str, findings: Iterable[Finding]) -> Findings:
        """The findings in the order of their levels; the same one is kept once."""
        unique = dict.fromkeys(findings)
        return cls(name, tuple(sorted(unique, key=lambda finding: _LEVELS.index(finding.level))))

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.of_level("error")

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the findings, in their order."""
        return tuple(finding.code for finding in self.items)

    def of_level(self, level: Level) -> tuple[Finding, ...]:
        """The findings of one level."""
        return tuple(finding for finding in self.items if finding.level == level)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {"name": self.name, "ok": self.ok, "findings": [finding.to_dict() for finding in self.items]}

    def __str__(self) -> str:
        lines = [self._headline()]
        for finding in self.items:
            lines.append(f"{finding.level}: {finding.code}: {finding.what}")
            lines += [f"    {label}: {text}" for label, text in _details(finding)]
        return "\n".join(lines)

    def rich(self) -> Text:
        """The same as `str`, coloured for the terminal."""
        from rich.text import Text

        text = Text(self._headline(), style="bold")
        for finding in self.items:
            text.append(f"\n{finding.level}: {finding.code}", _STYLES[finding.level]).append(
                f": {finding.what}", "not bold"
            )
            for label, detail in _details(finding):
                text.append(f"\n    {label}: ", "not bold dim").append(detail, "not bold")
        return text

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align:left;vertical-align:top">{html.escape(text)}</td>'
                for text in finding.to_dict().values()
            )
            + "</tr>"
            for finding in self.items
        )
        titles = "".join(f"<th>{name}</th>" for name in ("level", "code", "found", "why", "fix"))
        return f"<p>{html.escape(self._headline())}</p><table><tr>{titles}</tr>{rows}</table>"

    def _headline(self) -> str:
        counts = ((len(self.of_level(level)), level) for level in _LEVELS)
        return f"{self.name}: " + ", ".join(f"{count} {level}{'' if count == 1 else 's'}" for count, level in counts)


def _details(finding: Finding) -> list[tuple[str, str]]:
    return [(label, text) for label, text in (("why", finding.why), ("fix", finding.fix)) if text]
