"""Text from a row can never become a control token.

In: a rendered text and which of its characters came from the row. Out: the same ids as the tokenizer gives once the
tokens that the row must not write are taken out of its added tokens.

How: an engine whose added tokens are renamed to sentinels that no text holds. In the text, each token that the
template wrote is replaced by its sentinel; what a row wrote stays, and is ordinary text to this engine.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from tokenizers import Tokenizer

from instruct_fmt.errors import RowError, TokenizerError, option, shown
from instruct_fmt.tokenizer.variants import renamed
from instruct_fmt.tokenizer.vocabulary import Vocabulary
from instruct_fmt.types import Added, Marked

Occurrence = tuple[int, int, int]
_MARK = "\uf8ff"  # a private-use character; the sentinels are ⟨mark⟩⟨number in private-use digits⟩⟨mark⟩
_DIGITS = "\ue200\ue201\ue202\ue203\ue204\ue205\ue206\ue207\ue208\ue209"
_SENTINEL = re.compile(f"{_MARK}[{_DIGITS}]+{_MARK}")


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """Ids of one text with the characters that each id stands for."""

    ids: list[int]
    starts: list[int]
    ends: list[int]


_ALLOW = option("control_tokens", "allow", "makes tokens of them")


class ControlTokens:
    """The control tokens of a vocabulary.

    Args:
        vocabulary: the tokenizer.
        structural: token strings that a row must not write anywhere: BOS, EOS, pad, stops, headers. Other added
            tokens are allowed where `Marked.from_row` says so.
    """

    def __init__(self, vocabulary: Vocabulary, structural: Iterable[str]) -> None:
        self._vocabulary = vocabulary
        visible = [token for token in vocabulary.added if token.visible]
        self._ids = {token.content: token.id for token in visible}
        self._structural = frozenset(structural)
        by_length = sorted(visible, key=lambda token: len(token.content), reverse=True)
        self.pattern = re.compile("|".join(map(_pattern, by_length)) or "(?!)")

    def written_by_row(self, marked: Marked) -> list[Occurrence]:
        """The control tokens in the text, (start, end, id), that the row wrote and must not."""
        rows = sorted(marked.from_row)
        ends = [end for _, end, _ in rows]
        return [
            (match.start(), match.end(), self._ids[match[0]])
            for match in self.pattern.finditer(marked.text)
            if not self._allowed(match, rows[bisect_right(ends, match.start()) :])
        ]

    def _allowed(self, token: re.Match[str], rows: Sequence[tuple[int, int, bool]]) -> bool:
        """Whether a token may stand where it does; `rows` is what the row wrote that ends behind it."""
        start, end = token.span()
        touched = list(takewhile(lambda row: row[0] < end, rows))
        if not touched:
            return True
        inside = any(left <= start and end <= right for left, right, _ in touched)
        return inside and all(speaks for _, _, speaks in touched) and token[0] not in self._structural

    @property
    def free(self) -> frozenset[int]:
        """The ids of the tokens that the model's messages may write."""
        return frozenset(id for content, id in self._ids.items() if content not in self._structural)

    def found(self, text: str) -> list[tuple[int, int]]:
        """The control tokens that a text shows: where each ends, and its id."""
        return [(match.end(), self._ids[match[0]]) for match in self.pattern.finditer(text)]

    def written(self, text: str) -> list[Occurrence]:
        """The control tokens that a text shows, (start, end, id)."""
        return [(match.start(), match.end(), self._ids[match[0]]) for match in self.pattern.finditer(text)]

    def count(self, text: str) -> int:
        """How many control tokens a text shows; more among its ids were formed by a normaliser."""
        return sum(1 for _ in self.pattern.finditer(text))

    def encode(self, text: str, forbidden: Sequence[Occurrence], *, continues: bool) -> TokenSpans:
        """Encode `text`, its forbidden stretches as ordinary text.

        Raises:
            RowError: the text holds this module's sentinels, or a forbidden token comes out all the same.
        """
        rewritten, places, written = self._rewrite(text, {(start, end) for start, end, _ in forbidden})
        if [match.start() for match in _SENTINEL.finditer(rewritten)] != written:
            raise RowError(
                "control-token",
                "$",
                f"a control token beside the private-use characters {shown(_MARK)} that this package needs for itself",
                "one of the two",
                "remove one of them from the row",
            )
        engine = self._continuation if continues else self._engine
        encoding = engine.encode(rewritten, add_special_tokens=False)
        if sum(id in self._renamed for id in encoding.ids) != len(written):
            raise RowError(
                "control-token",
                "$",
                "control tokens that the tokenizer does not keep apart from the text around them",
                "one id for each control token of the template",
                "leave the row out",
                changes=[_ALLOW],
            )
        ids = [self._own_ids.get(id, id) for id in encoding.ids]
        starts = [places[start] for start, _ in encoding.offsets]
        ends = [places[end] for _, end in encoding.offsets]
        wanted = {id for _, _, id in forbidden}
        made = [(id, left, right) for id, left, right in zip(ids, starts, ends, strict=True) if id in wanted]
        for start, end, forbidden_id in forbidden if made else ():
            if any(id == forbidden_id and left < end and start < right for id, left, right in made):
                raise RowError(
                    "control-token",
                    "$",
                    f"{shown(text[start:end])}, which this tokenizer makes of plain text too",
                    "ordinary tokens",
                    "remove it from the row",
                    changes=[_ALLOW],
                )
        return TokenSpans(ids, starts, ends)

    def _rewrite(self, text: str, blocked: set[tuple[int, int]]) -> tuple[str, list[int], list[int]]:
        """The text with sentinels for allowed tokens, its places in `text`, and the sentinels' places."""
        pieces: list[str] = []
        places: list[int] = []
        written: list[int] = []
        at = 0
        for match in self.pattern.finditer(text):
            if (match.start(), match.end()) in blocked:
                continue
            sentinel = self._sentinels[match[0]]
            pieces += [text[at : match.start()], sentinel]
            places += range(at, match.start())
            written.append(len(places))
            places += [match.start()] * len(sentinel)
            at = match.end()
        pieces.append(text[at:])
        places += range(at, len(text) + 1)
        return "".join(pieces), places, written

    @cached_property
    def _sentinels(self) -> dict[str, str]:
        return {content: _MARK + _digits(number) + _MARK for number, content in enumerate(self._ids)}

    @cached_property
    def _engine(self) -> Tokenizer:
        return self._checked(renamed(self._vocabulary.backend, self._sentinels, continues=False))

    @cached_property
    def _continuation(self) -> Tokenizer:
        if self._vocabulary.continuation is self._vocabulary.backend:
            return self._engine
        return self._checked(renamed(self._vocabulary.backend, self._sentinels, continues=True))

    @cached_property
    def _own_ids(self) -> dict[int, int]:
        """The engine's ids of added tokens → the tokenizer's."""
        names = ((self._sentinels.get(token.content, token.content), token.id) for token in self._vocabulary.added)
        named = ((self._engine.token_to_id(name), id) for name, id in names)
        return {engine_id: id for engine_id, id in named if engine_id is not None}

    @cached_property
    def _renamed(self) -> frozenset[int]:
        """The engine's ids of the sentinels."""
        ids = map(self._engine.token_to_id, self._sentinels.values())
        return frozenset(id for id in ids if id is not None)

    def _checked(self, engine: Tokenizer) -> Tokenizer:
        for content, sentinel in self._sentinels.items():
            if engine.token_to_id(sentinel) not in engine.encode(sentinel, add_special_tokens=False).ids:
                raise TokenizerError(
                    f"the added token {content!r} cannot be renamed in this tokenizer; expected one that keeps "
                    'private-use characters; fix: control_tokens="error" or "allow"'
                )
        return engine


def _pattern(token: Added) -> str:
    escaped = re.escape(token.content)
    return rf"(?<!\w){escaped}(?!\w)" if token.whole_word else escaped


def _digits(number: int) -> str:
    return "".join(_DIGITS[int(digit)] for digit in str(number))
