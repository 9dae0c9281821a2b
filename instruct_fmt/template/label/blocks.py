"""Markers and blocks of reasoning in the literal text of templates.

In: literal text, such as the end of a generation prompt. Out: whether it leaves a block open, and how that is closed.
Nothing here knows a model: a marker's closer follows from how it is written, and counts only where the template's own
text has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from instruct_fmt.template.label.markers import BETWEEN_BARS, MARKER

_WORD = r"(?:think\w*|thought\w*|reason\w*|analysis)"
_REASONING = re.compile(rf"\W*(?:[a-z]+[:_])?(?:start_?|begin_?|begin_of_)?{_WORD}\W*", re.IGNORECASE)
# A closer of such a block, which a prompt may write without an opener.
_CLOSER = re.compile(rf"</{_WORD}>|\[/{_WORD}\]", re.IGNORECASE)
_OPENING = {"start": "end", "begin": "end", "open": "close"}


@dataclass(frozen=True, slots=True)
class Block:
    """A block that a text leaves open.

    Attributes:
        text: from its opener to the end of the text.
        opener: the marker that opens it.
        closers: the markers that may close it.
    """

    text: str
    opener: str
    closers: tuple[str, ...]


class Blocks:
    """What a template's markers are and which of them close others.

    Args:
        source: the template's text.
        added: the tokenizer's added tokens.
        is_stop: whether a marker ends a turn.
    """

    def __init__(self, source: str, added: Iterable[str], is_stop: Callable[[str], bool]) -> None:
        self._source = source
        self._is_stop = is_stop
        known = sorted((token for token in added if token.strip() and len(token) > 1), key=len, reverse=True)
        self._known = re.compile("|".join([*map(re.escape, known), MARKER.pattern]))

    def markers(self, text: str) -> list[re.Match[str]]:
        """The markers of a literal text."""
        return list(self._known.finditer(text))

    def last(self, text: str) -> str | None:
        """The marker with which a literal text ends, blanks aside."""
        text = text.rstrip()
        return next((marker[0] for marker in self.markers(text) if marker.end() == len(text)), None)

    def is_bare(self, text: str) -> bool:
        """Whether a text is but one marker of the kind that ends or asks for something, such as ``<|reward|>``."""
        return BETWEEN_BARS.fullmatch(text.rstrip()) is not None

    def words(self, text: str) -> str:
        """What a literal text says besides its markers: its letters and digits."""
        return "".join(re.findall(r"\w+", self._known.sub(" ", text)))

    def asks(self, text: str) -> bool:
        """Whether a literal text says who speaks: it has words, or markers that are none of reasoning."""
        others = [marker[0] for marker in self.markers(text) if not re.search(_WORD, marker[0], re.IGNORECASE)]
        return bool(others or self.words(text))

    def open(self, tail: str) -> Block | None:
        """The block that the end of a prompt leaves open: its last marker, with blanks or a name behind."""
        found = self.markers(tail)
        if not found:
            return None
        last = found[-1]
        behind = tail[last.end() :].strip()
        if behind and not (_REASONING.fullmatch(behind) and "\n" not in behind):
            return None
        block, closers = tail[last.start() :], tuple(self._closers(last[0]))
        # A role's own marker, such as <|assistant_start|>, opens no block of reasoning.
        return Block(block, last[0], closers) if closers and re.search(_WORD, block, re.IGNORECASE) else None

    def closed(self, tail: str) -> str | None:
        """The block with which the end of a prompt is complete, from its opener on; None where there is none."""
        found = self.markers(tail.rstrip())
        if not found or found[-1].end() != len(tail.rstrip()):
            return None
        for opener in reversed(found[:-1]):
            block = tail[opener.start() :]
            if found[-1][0] in self._closers(opener[0]) and re.search(_WORD, block, re.IGNORECASE):
                return block  # a role between two markers is none
        last = found[-1]
        return tail[last.start() :] if _CLOSER.fullmatch(last[0]) else None

    def apart(self, tail: str) -> tuple[str, str]:
        """The end of a prompt in two: what is before its block of reasoning, open or complete, and the block."""
        found = self.open(tail)
        block = found.text if found is not None else self.closed(tail) or ""
        return tail[: len(tail) - len(block)], block

    def _closers(self, opener: str) -> Iterator[str]:
        reasons = _REASONING.fullmatch(opener) is not None
        for closer in dict.fromkeys(closers_of(opener)):
            if not self._is_stop(closer) and (closer in self._source or (reasons and closer.startswith("</"))):
                yield closer


def closers_of(opener: str) -> Iterator[str]:
    """How the closer of a marker may be written, the likeliest first."""
    if re.fullmatch(r"<[^/<>|｜][^<>]*>", opener):
        yield f"</{opener[1:]}"
    named = re.fullmatch(r"(<[|｜]?|\[[|｜]?)([^/<>|｜\[\]][^<>|｜\[\]]*)([|｜]?>|[|｜]?\])", opener)
    if named is None:
        return
    left, name, right = named.groups()
    yield f"{left}/{name}{right}"
    if len(left) == 2 and len(right) == 1:  # <|name> is closed by <name|>
        yield f"{left[0]}{name}{left[1]}{right}"
    for word, other in _OPENING.items():
        for old, new in ((word, other), (word.upper(), other.upper())):
            if old in name:
                yield f"{left}{name.replace(old, new)}{right}"
    if len(left) == 2 and len(right) == 2:
        yield f"{left}end_{name}{right}"
        yield f"{left}end_of_{name}{right}"
        yield f"{left}{name}_end{right}"
