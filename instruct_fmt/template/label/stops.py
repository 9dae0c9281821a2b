"""What ends a turn: the stop strings of a template, found by rendering.

In: a template, probe conversations, the tokenizer's added tokens. Out: the stop strings, in the order of their origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from instruct_fmt.template.label.blocks import closers_of
from instruct_fmt.template.label.markers import ANGLES, ENDING
from instruct_fmt.types import Added

# A marker with which a call ends, and those that only close what the call has opened: </x>, <x|>, <|x_end|>.
_LAST = re.compile(rf"{ANGLES.pattern}\Z")
_CLOSING = re.compile(r"</|<[^|｜]*[|｜]>|.*end", re.IGNORECASE)


def _unwrapped(own: str, lead: str) -> str:
    """The text behind a turn, less the marker that closes what was opened right before it, if one more follows."""
    opener = _LAST.search(lead.rstrip())
    for closer in closers_of(opener[0]) if opener else ():
        rest = own.lstrip().removeprefix(closer)
        if len(rest) < len(own.lstrip()) and ANGLES.match(rest.lstrip()):
            return rest
    return own


class StopFinder:
    """Finds stop strings in the literal text that follows a turn's last own character.

    Args:
        declared: stop strings that are known before any probe: EOS, the generation configuration's, the user's.
        added: the tokenizer's added tokens.
    """

    def __init__(self, declared: Iterable[str], added: Sequence[Added]) -> None:
        self.declared = tuple(dict.fromkeys(text for text in declared if text))
        self.stops = list(self.declared)
        self._special = {token.content: token.special for token in added}
        by_length = sorted((token.content for token in added if token.content.strip()), key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, by_length)) or "(?!)")

    def learn(self, own: str, behind: str, *, answer: bool, opening: tuple[str, str] = ("", "")) -> None:
        """Add the stop that a probe shows.

        Args:
            own: the literal text that the probe's turn prints behind its last character.
            behind: the literal text that follows the turn.
            answer: whether the turn is an answer; what ends a tool call must be a special token.
            opening: the literal text behind what was said before, and that in front of the last that the turn says.
        """
        own = _unwrapped(own, opening[1])
        known = self.first(own, 0, len(own))
        if known is not None:
            marker = ANGLES.match(own.lstrip())
            if marker is not None and own.find(marker[0]) < known[0] and opening[0].lstrip().startswith(marker[0]):
                self.stops.append(marker[0])  # it ends what others say, too, and comes before EOS
            return
        if own.strip():
            special = [token for token in self.tokens_in(own) if self.is_special(token)]
            closing = [token for token in special if own.rstrip().endswith(token)]
            if closing:
                self.stops.append(closing[-1])
                return
            if answer:
                markers = special or self.tokens_in(own) or ENDING.findall(own)
                self.stops.append(markers[0] if markers else own.strip())
                return
        last = _LAST.search(own.rstrip())
        if last is not None and not _CLOSING.match(last[0]) and self.first(behind, 0, len(behind)) is None:
            self.stops.append(last[0])  # no token of this tokenizer, and nothing else ends the call
            return
        special = [token for token in self.tokens_in(behind) if self.is_special(token)]
        markers = special or (ENDING.findall(behind) if answer else [])
        if markers and self.first(behind, 0, len(behind)) is None:
            self.stops.append(markers[0])

    def tokens_in(self, text: str) -> list[str]:
        """The added tokens in a literal text, in order."""
        return [match[0] for match in self._added.finditer(text)]

    def is_special(self, token: str) -> bool:
        return self._special[token]

    def is_stop(self, marker: str) -> bool:
        """Whether a marker ends a turn."""
        return marker in self.stops

    def first(self, text: str, start: int, stop: int) -> tuple[int, int] | None:
        """The first stop in `text[start:stop]`, the longest where several begin there."""
        found = [(at, -len(marker)) for marker in self.stops if (at := text.find(marker, start, stop)) >= 0]
        if not found:
            return None
        at, size = min(found)
        return at, at - size

    def follows(self, text: str, at: int) -> int | None:
        """The end of a stop that `text` continues with at `at`, blanks aside."""
        begin = at
        while begin < len(text) and text[begin].isspace():
            begin += 1
        ends = [begin + len(marker) for marker in self.stops if text.startswith(marker, begin)]
        return max(ends, default=None)
