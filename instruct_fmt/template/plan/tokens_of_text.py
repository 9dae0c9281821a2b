"""What a plan must know about the tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from instruct_fmt.template.plan.recorder import PLACEHOLDER
from instruct_fmt.types import Marked


@dataclass(frozen=True, slots=True)
class TokensOfText:
    """What a plan must know about the tokenizer.

    Attributes:
        before: what to write in front of a text for BOS; None where that cannot be written.
        behind: what to write behind a text for EOS; None where that cannot be written.
        bos, eos: their ids.
        written: finds the control tokens that a row wrote and must not.
        control: finds the control tokens of a text: where each ends, and its id.
        encode: the ids of a text that begins with an added token, or of the beginning of a row.
        name: the text of an added token.
        boundary: as `compile` takes it.
        composes: whether all text is brought into NFC.
    """

    before: str | None
    behind: str | None
    bos: Sequence[int]
    eos: Sequence[int]
    written: Callable[[Marked], Sequence[object]]
    control: Callable[[str], Sequence[tuple[int, int]]]
    encode: Callable[[str], Sequence[int]]
    name: Callable[[int], str]
    boundary: str
    composes: bool = False

    def after(self, token: int | None, text: str) -> Sequence[int]:
        """The ids of a text behind an added token, or of the beginning of a row."""
        if token is None:
            return self.encode(text)
        return self.encode(self.name(token) + text)[1:] if text else ()

    def crosses(self, text: str, cut: int, control: Sequence[tuple[int, int]]) -> bool:
        """Whether a completion is encoded apart in every row, because of the literal text around its beginning."""
        before = max(((end, id) for end, id in control if end <= cut), default=(0, None))
        if before[0] == cut:
            return False
        if self.boundary == "split":
            return True
        behind = next(((end, id) for end, id in control if end > cut), None)
        if before[1] is None or behind is None:
            return False
        around = text[before[0] : behind[0] - len(self.name(behind[1]))]
        if PLACEHOLDER.search(around):
            return False
        alone, whole = self.after(before[1], text[before[0] : cut]), self.after(before[1], around)
        return list(whole[: len(alone)]) != list(alone)

    def ends(self, marked: Marked, *, begins: bool) -> tuple[tuple[str, str], tuple[tuple[int, ...], tuple[int, ...]]]:
        """What to write in front of this text, which `begins` with BOS or not, and behind it; and the ids of what
        cannot be written."""
        bos = marked.bos and not begins
        before, behind = self.before if bos else "", self.behind if marked.eos else ""
        missing = before is None and not self._begins_with_bos(marked.text)
        return (before or "", behind or ""), (
            tuple(self.bos) if missing else (),
            tuple(self.eos) if behind is None else (),
        )

    def _begins_with_bos(self, text: str) -> bool:
        """Whether the template writes BOS itself."""
        at = PLACEHOLDER.search(text)
        literal = text[: at.start()] if at else text
        return tuple(self.encode(literal)[: len(self.bos)]) == tuple(self.bos)
