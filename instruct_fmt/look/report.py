"""The report of a run: how many rows came in, went out, and why the rest did not.

In: counts (see `EncodedBatch.counts`) and the first rejected rows of each reason. Out: readable text, a plain
dict for JSON, or coloured text for the terminal.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from instruct_fmt.errors import REASONS, Rejection, in_order
from instruct_fmt.types import Unread

if TYPE_CHECKING:
    from rich.text import Text

OVER_LENGTH = "over-length"
SKIPPED = {"history": "written differently as history", "seam": "a token crosses their ends"}
_EXAMPLES = 3
_LENGTHS = 6
_FIELDS = 8
UNREAD = "read by nothing:"


def unread_lines(unread: Mapping[str, Unread]) -> list[str]:
    """What nothing read, the most frequent first; empty where everything was read.

    >>> unread_lines({"$.source": Unread(2, 0, "'web'")})
    ['read by nothing:', "  $.source (2 rows): such as 'web' in row 0"]
    """
    listed = sorted(unread.items(), key=lambda item: (-item[1].rows, item[0]))
    lines = [f"  {path} ({found.rows:,} rows): such as {found.example} in row {found.row}" for path, found in listed]
    return [UNREAD, *lines] if lines else []


def first_examples(rejections: Iterable[Rejection]) -> dict[str, tuple[Rejection, ...]]:
    """The first few rejections of each reason, one of each field before a second of any, in the order of the rows."""
    found: defaultdict[str, defaultdict[str, list[Rejection]]] = defaultdict(lambda: defaultdict(list))
    for rejection in rejections:
        rows = found[rejection.reason][field_of(rejection)]
        if len(rows) < _EXAMPLES:
            rows.append(rejection)
    examples = {}
    for reason, fields in found.items():
        firsts = [rows[0] for rows in fields.values()][:_FIELDS]
        more = [row for rows in fields.values() for row in rows[1:]][: max(0, _EXAMPLES - len(firsts))]
        examples[reason] = tuple(sorted([*firsts, *more], key=in_order))
    return examples


def field_of(rejection: Rejection) -> str:
    """The field of a rejected row, whichever message it stands in.

    >>> field_of(Rejection(0, "bad-field", "$.messages[3].content", "", "", ""))
    '$.messages[].content'
    """
    return re.sub(r"\[\d+\]", "[]", re.sub(r", line \d+$", "", rejection.path))


@dataclass(frozen=True, slots=True)
class Report:
    """What happened to the rows of one run.

    Attributes:
        name: the name of the run or of its dataset.
        counts: the numbers of `EncodedBatch.counts`, added up over the whole dataset.
        examples: the first few rejected rows of each reason.
        cache: ``cache hit``, ``miss: …`` with what changed, or empty where nothing was looked up.
        output: the folder that holds the result; empty where there is none.
        unread: what nothing read of the rows: path → how often, and the first.
        changes: what is different in the template since the result that was there, as lines of a diff.

    >>> from collections import Counter
    >>> report = Report.of("sample", Counter(rows=2, emitted=2, tokens=40, trained_tokens=10))
    >>> print(str(report).splitlines()[0])
    sample: 2 rows in, 2 emitted, 0 rejected, 0 over max_length
    >>> report.trained_share
    0.25
    """

    name: str
    counts: Mapping[str, int]
    examples: Mapping[str, tuple[Rejection, ...]] = field(default_factory=dict)
    cache: str = ""
    output: str = ""
    unread: Mapping[str, Unread] = field(default_factory=dict)
    changes: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        name: str,
        counts: Mapping[str, int],
        rejections: Iterable[Rejection] = (),
        unread: Mapping[str, Unread] | None = None,
    ) -> Report:
        """A report from counts, rejected rows, and what nothing read."""
        return cls(name, dict(counts), first_examples(rejections), unread=dict(unread or {}))

    @property
    def rows(self) -> int:
        """Rows that came in."""
        return self.counts.get("rows", 0)

    @property
    def emitted(self) -> int:
        """Rows that went out; more than `rows` is possible with ``history="expand"``."""
        return self.counts.get("emitted", 0)

    @property
    def rejected(self) -> dict[str, int]:
        """Rejected rows by reason, the most frequent first; over-length rows are not in it."""
        found = {name: count for name, count in self._group("rejected").items() if name != OVER_LENGTH}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def over_length(self) -> int:
        """Rows dropped because they are longer than `max_length`."""
        return self.counts.get(f"rejected:{OVER_LENGTH}", 0)

    @property
    def tokens(self) -> int:
        """Tokens in all emitted rows."""
        return self.counts.get("tokens", 0)

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss covers."""
        return self.counts.get("trained_tokens", 0)

    @property
    def trained_share(self) -> float:
        """Trained tokens as a share of all tokens, between 0 and 1."""
        return self.trained_tokens / self.tokens if self.tokens else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {
            "name": self.name,
            "cache": self.cache,
            "output": self.output,
            "changes": list(self.changes),
            "rows": self.rows,
            "emitted": self.emitted,
            "rejected": self.rejected,
            "over_length": self.over_length,
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
            "trained_share": self.trained_share,
            "counts": dict(self.counts),
            "unread": {path: asdict(found) for path, found in self.unread.items()},
            "examples": {reason: [rejection.to_dict() for rejection in rows] for reason, rows in self.examples.items()},
        }

    def __str__(self) -> str:
        width = max(len(label) for label, _ in self.facts())
        lines = [self._headline(), *(f"  {label.ljust(width)}  {value}" for label, value in self.facts())]
        lines.extend(f"  {line}" for line in self._changed())
        lines.extend(f"  {line}" for line in unread_lines(self.unread))
        for reason, count in self._all_rejected():
            lines.append(f"  {reason} ({count:,} rows): {REASONS.get(reason, '')}")
            lines.extend(f"    {example.to_error()}" for example in self.examples.get(reason, ()))
        return "\n".join(lines)

    def rich(self) -> Text:
        """The same as `str`, coloured for the terminal."""
        from rich.text import Text

        width = max(len(label) for label, _ in self.facts())
        text = Text(self._headline(), style="bold")
        for label, value in self.facts():
            text.append(f"\n  {label.ljust(width)}  ", "not bold dim").append(value, "not bold")
        for line in self._changed():
            text.append(f"\n  {line}", "not bold")
        for line in unread_lines(self.unread):
            text.append(f"\n  {line}", "not bold yellow" if line == UNREAD else "not bold")
        for reason, count in self._all_rejected():
            text.append(f"\n  {reason} ({count:,} rows): {REASONS.get(reason, '')}", "not bold yellow")
            for example in self.examples.get(reason, ()):
                text.append(f"\n    {example.to_error()}", "not bold")
        return text

    def _changed(self) -> list[str]:
        return ["the template has changed:", *(f"  {line}" for line in self.changes)] if self.changes else []

    def facts(self) -> list[tuple[str, str]]:
        """The lines of the summary: a label and its value."""
        count = self.counts.get
        lines = [
            ("cache", self.cache),
            ("output", self.output),
            ("tokens", f"{self.tokens:,}, {self.trained_tokens:,} trained ({self.trained_share:.1%})"),
            ("lengths", self._lengths()),
            ("turns", self._turns()),
            ("left out", self._left_out()),
            ("cut", self._some(count("shortened:truncate", 0), "rows cut to max_length, their ends and stops lost")),
            ("oldest", self._dropped_turns()),
            ("shortened", self._some(count("shortened:truncate_prompt", 0), "rows whose prompt was cut to max_length")),
            (
                "silent",
                self._some(count("turns_silent", 0), "trained turns say nothing: of them the stop alone is trained"),
            ),
            ("no stop", self._some(count("turns_without_stop", 0), "turns end in no stop")),
            ("EOS", self._some(count("eos_appended", 0), "rows had an EOS appended")),
            ("control", self._some(count("neutralised", 0), "rows held control tokens, encoded as text")),
            (
                "seams",
                self._some(
                    count("encoded_apart", 0), "rows whose answer is encoded apart, behind the ids of its prompt"
                ),
            ),
            (
                "assembled",
                self._some(count("assembled", 0), "rows put together from prompt and answer"),
            ),
            ("reasoning", self._reasoning()),
            ("nulls", self._nulls()),
            ("prompt", self._some(count("as_rendered", 0), "rows kept though their prompt is no prefix")),
            ("expanded", self._some(count("expanded", 0), "extra rows, one for each earlier turn")),
            ("once", self._once()),
            *((split, self._split(split)) for split in ("train", "validation")),
            ("packed", self._packed()),
            ("rendered by", self._listed("path")),
            ("no plan", self._listed("plan_missing")),
            ("backend", self._listed("backend")),
        ]
        return [(label, value) for label, value in lines if value]

    def _headline(self) -> str:
        rejected = sum(self.rejected.values())
        return (
            f"{self.name}: {self.rows:,} rows in, {self.emitted:,} emitted, {rejected:,} rejected, "
            f"{self.over_length:,} over max_length"
        )

    def _lengths(self) -> str:
        """Which share of the rows some lengths would keep; rows that are too long count as lost."""
        counted = sorted((int(size), count) for size, count in self._group("length").items())
        total = sum(count for _, count in counted) + self.over_length
        kept = zip([size for size, _ in counted], accumulate(count for _, count in counted), strict=True)
        told = [f"{size:,}: {count / total:.1%}" for size, count in kept][-_LENGTHS:]
        return f"rows of at most so many tokens: {', '.join(told)}" if told else ""

    def _turns(self) -> str:
        turns = self.counts.get("turns", 0)
        return f"{self.counts.get('trained_turns', 0):,} of {turns:,} assistant turns trained" if turns else ""

    def _left_out(self) -> str:
        """Turns that are not trained, each with the true reason."""
        reasons = self._group("turns_skipped")
        skipped = sum(reasons.values())
        if not skipped:
            return ""
        told = {**REASONS, **SKIPPED}
        listed = "; ".join(f"{told.get(reason, reason)}: {n:,}" for reason, n in sorted(reasons.items()))
        gained = reasons.get("history", 0) + reasons.get("seam", 0)
        # An upper bound: the row that holds a skipped turn is at least as long as the row it would become.
        cost = gained * (self.tokens // self.emitted if self.emitted else 0)
        found = f"{skipped:,} turns not trained ({listed})"
        if not gained:
            return found
        return f'{found}; history="expand" would train {gained:,} of them in as many rows, up to about {cost:,} tokens'

    def _dropped_turns(self) -> str:
        rows, turns = self.counts.get("shortened:drop_turns", 0), self.counts.get("turns_dropped", 0)
        return (
            f"{rows:,} rows without their oldest exchanges, {turns:,} of the model's turns among them" if rows else ""
        )

    def _once(self) -> str:
        """Rows that are left out because others are the same."""
        count = self.counts.get
        facts = (("duplicates", "rows like earlier ones"), ("same_in_validation", "rows like some for validation"))
        told = "; ".join(self._some(count(name, 0), what) for name, what in facts if count(name, 0))
        return f"left out: {told}" if told else ""

    def _split(self, split: str) -> str:
        """How many rows and tokens a split has, and the share of each dataset in it."""
        rows = {name.partition(":")[2]: n for name, n in self._group(f"split:{split}:rows").items()}
        total, tokens = sum(rows.values()), self.counts.get(f"split:{split}:tokens", 0)
        if not total:
            return ""
        shares = ", ".join(f"{name}: {n:,}, {n / total:.1%}" for name, n in rows.items())
        trained = self.counts.get(f"split:{split}:trained_tokens", 0)
        parts = f" ({shares})" if len(rows) > 1 else ""
        return f"{total:,} rows{parts}, {tokens:,} tokens, {trained:,} trained ({trained / tokens:.1%})"

    def _packed(self) -> str:
        count = self.counts.get
        sequences, capacity = count("packed:sequences", 0), count("packed:capacity", 0)
        if not sequences:
            return ""
        filled = count("packed:tokens", 0) / (sequences * capacity)
        rows = count("packed:rows", 0)
        return f"{rows:,} rows in {sequences:,} sequences of {capacity:,} tokens, {filled:.2%} of them filled"

    def _reasoning(self) -> str:
        count = self.counts.get
        facts = (
            ("reasoning_closed:template", "empty blocks closed by the template"),
            ("reasoning_closed:option", "empty blocks closed by empty_reasoning"),
            ("reasoning_restored", "blocks that the template leaves out kept as the row has them"),
            ("completion_formatted", "turns as completion_format states them"),
        )
        return "; ".join(self._some(count(name, 0), what) for name, what in facts if count(name, 0))

    def _nulls(self) -> str:
        """Keys that Arrow filled in; the source may have written a few of these nulls itself."""
        found = self._group("null")
        if not found:
            return ""
        paths = ", ".join(sorted(found)[:_EXAMPLES]) + (", …" if len(found) > _EXAMPLES else "")
        return f"{sum(found.values()):,} null members of structs left out, as absent: {paths}"

    def _some(self, number: int, what: str) -> str:
        return f"{number:,} {what}" if number else ""

    def _listed(self, group: str) -> str:
        return ", ".join(f"{name}: {count:,} rows" for name, count in sorted(self._group(group).items()))

    def _group(self, prefix: str) -> dict[str, int]:
        start = f"{prefix}:"
        return {key[len(start) :]: n for key, n in self.counts.items() if key.startswith(start) and n}

    def _all_rejected(self) -> list[tuple[str, int]]:
        over = [(OVER_LENGTH, self.over_length)] if self.over_length else []
        return [*self.rejected.items(), *over]
