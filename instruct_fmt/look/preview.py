"""One encoded row as coloured text.

In: a formatter and a row. Out: a `Preview`, one piece for each token: trained green, masked red, two shades
in turn so that every boundary shows, special tokens bold, line ends and unprintable characters spelled out.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from instruct_fmt.emit import UNTRAINED
from instruct_fmt.look.token_texts import token_texts

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

    from instruct_fmt.formatter import Formatter

__all__ = ["Preview", "ShownToken", "preview"]

# Two shades each, in turn from token to token: numbers of the 256-colour table, and the same as hexadecimal.
_ANSI = {True: (157, 114), False: (224, 217)}
_HEX = {True: ("#afffaf", "#87d787"), False: ("#ffd7d7", "#ffafaf")}
_LINE_END = "⏎"


@dataclass(frozen=True, slots=True)
class ShownToken:
    """One token as it is shown.

    Attributes:
        text: its text, with what cannot be seen spelled out; a part of a character as ``\\xf0``.
        trained: whether the loss covers it.
        special: whether it is an added token, such as ``<|im_end|>``.
    """

    text: str
    trained: bool
    special: bool


@dataclass(frozen=True, slots=True, repr=False)
class Preview:
    """A row to look at: `str()` for a terminal, `rich()` for rich, HTML in a notebook.

    Attributes:
        rows: the tokens of each row; one row, or more where the history policy is ``expand``.
        stop: what ends a generated turn, for the header.
        unread: what nothing read of the row.
    """

    rows: tuple[tuple[ShownToken, ...], ...]
    stop: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [line for tokens in self.rows for line in (self._header(tokens), _ansi(tokens))]
        return "\n".join([*lines, *self._unread()])

    def __repr__(self) -> str:
        return f"<Preview: {'; '.join(self._header(tokens) for tokens in self.rows)}>"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What `console.print(preview)` shows: `rich()`, or `plain()` where there are no colours, as in a pipe."""
        from rich.text import Text

        yield self.rich() if console.color_system else Text(self.plain())

    def plain(self) -> str:
        """The same without colours, for a log: trained stretches between ⟦ and ⟧, tokens not told apart."""
        lines = [line for tokens in self.rows for line in (self._header(tokens), _marked(tokens))]
        return "\n".join([*lines, *self._unread()])

    def _unread(self) -> list[str]:
        return [f"read by nothing: {line}" for line in self.unread]

    def rich(self) -> Text:
        """The same as a `rich.text.Text`."""
        from rich.text import Text

        text = Text()
        for number, tokens in enumerate(self.rows):
            text.append(("\n" if number else "") + self._header(tokens) + "\n")
            for part, piece, shade in _parts(tokens):
                style = f"black on {_HEX[piece.trained][shade]}" + (" bold" if piece.special else "")
                text.append(part, style=None if part == "\n" else style)
        for line in self._unread():
            text.append(f"\n{line}", "yellow")
        return text

    def _repr_html_(self) -> str:
        return "".join(
            f'<div style="font-family:monospace">{html.escape(self._header(tokens))}'
            f'<pre style="white-space:pre-wrap;color:#000">{_html(tokens)}</pre></div>'
            for tokens in self.rows
        ) + "".join(f"<div>{html.escape(line)}</div>" for line in self._unread())

    def _header(self, tokens: Sequence[ShownToken]) -> str:
        trained = [piece.trained for piece in tokens]
        starts = sum(now and not before for now, before in zip(trained, [False, *trained], strict=False))
        stop = f"; a turn ends in {' or '.join(map(_visible, self.stop))}" if self.stop else ""
        return (
            f"{len(tokens)} tokens: {sum(trained)} trained (green) in {starts} "
            f"{'part' if starts == 1 else 'parts'}, {len(tokens) - sum(trained)} masked (red){stop}"
        )


def preview(fmt: Formatter, row: Mapping[str, Any]) -> Preview:
    """Encodes a row and colours its tokens.

    Args:
        fmt: the formatter.
        row: one record, as the dataset has it.

    Raises:
        RowError: the row cannot be encoded.

    >>> import instruct_fmt as ifmt
    >>> fmt = ifmt.compile("USER: {question}\\nASSISTANT: {answer}", "embedded")
    >>> print(fmt.preview({"question": "Hi?", "answer": "Yes."}).rich().plain.splitlines()[1])
    USER: Hi?⏎
    """
    batch = fmt.encode_rows([row])
    if batch.rejected:
        raise batch.rejected[0].to_error()
    rows = zip(*(batch.table[name].to_pylist() for name in ("input_ids", "labels")), strict=True)
    unread = tuple(f"{path}: {found.example}" for path, found in batch.unread.items())
    tokens = tuple(tuple(_shown_tokens(fmt.tokenizer, ids, labels)) for ids, labels in rows)
    return Preview(tokens, tuple(fmt.stop.strings), unread)


def _shown_tokens(tokenizer: Any, ids: Sequence[int], labels: Sequence[int]) -> Iterator[ShownToken]:
    added = tokenizer.added_tokens_decoder
    for token, label, raw in zip(ids, labels, token_texts(tokenizer, ids), strict=True):
        # A byte that is only part of a character is no UTF-8 by itself: show the byte.
        text = _visible(raw.decode("utf-8", errors="backslashreplace"))
        yield ShownToken(text, label != UNTRAINED, token in added)


def _visible(text: str) -> str:
    """The text with line ends marked, and what cannot be seen, or could drive a terminal, spelled out."""
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char == "\n":
        return _LINE_END + "\n"
    if char.isprintable():
        return char
    return char.encode("unicode_escape").decode("ascii")


def _parts(tokens: Sequence[ShownToken]) -> Iterator[tuple[str, ShownToken, int]]:
    """Each piece cut at its line ends: the part, its piece, and which of the two shades is its turn."""
    for index, piece in enumerate(tokens):
        for part in piece.text.splitlines(keepends=True):
            body = part.removesuffix("\n")
            if body:
                yield body, piece, index % 2
            if part != body:
                # A background colour on a line end would fill the terminal's line.
                yield "\n", piece, index % 2


def _ansi(tokens: Sequence[ShownToken]) -> str:
    return "".join(
        part
        if part == "\n"
        else f"\x1b[{'1;' if piece.special else ''}30;48;5;{_ANSI[piece.trained][shade]}m{part}\x1b[0m"
        for part, piece, shade in _parts(tokens)
    )


def _marked(tokens: Sequence[ShownToken]) -> str:
    runs = groupby(tokens, key=lambda piece: piece.trained)
    texts = ((trained, "".join(piece.text for piece in run)) for trained, run in runs)
    return "".join(f"⟦{text}⟧" if trained else text for trained, text in texts)


def _html(tokens: Sequence[ShownToken]) -> str:
    return "".join(
        part
        if part == "\n"
        else f'<span style="background:{_HEX[piece.trained][shade]}'
        f'{";font-weight:bold" if piece.special else ""}">{html.escape(part)}</span>'
        for part, piece, shade in _parts(tokens)
    )
